"""What a caller of a workflow may bring along: how verbs are run, and how to ask for consent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from dekctl.operations.base import Verb
from dekctl.project import Project
from dekctl.walk.options import RowOptions
from dekctl.walk.result import RunResult

Confirm = Callable[[], None]
"""Called after the guards and before the first change; raises ``RefusedError`` to stop there."""


class RunVerb(Protocol):
    """Runs one verb over the chosen tables, as :func:`~dekctl.walk.run.run_rows` does."""

    def __call__(self, project: Project, verb: Verb, options: RowOptions, /) -> RunResult:
        """Run it and return what it did."""
