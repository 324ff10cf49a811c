"""``dekctl restore``."""

from __future__ import annotations

from typing import Any

import click

from dekctl.cli.consent import RESTORE, consent
from dekctl.cli.execute import finish, with_progress
from dekctl.cli.registry import Documented, Section
from dekctl.cli.state import State
from dekctl.cli.walk_options import accept_logging_option, walk_options, yes_option
from dekctl.walk.options import RowOptions
from dekctl.workflows import plaintext

PLACE = Section.UNDO, 1


@click.command(cls=Documented)
@walk_options
@accept_logging_option
@yes_option
@click.pass_obj
def restore(state: State, /, yes: bool, accept_logging: bool, **options: Any) -> None:
    """Undo scrub: decrypt each key into the plaintext column."""
    with state.project() as project:
        confirm = consent(state, project, RESTORE, options["table"], yes=yes or options["dry_run"])
        result = plaintext.restore(
            project,
            RowOptions(**options),
            with_progress(state),
            confirm,
            accept_logging=accept_logging,
        )
    finish(state, result)
