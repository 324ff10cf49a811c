"""``dekctl migrate``."""

from __future__ import annotations

from typing import Any

import click

from dekctl.cli.execute import end, text_of, with_progress
from dekctl.cli.registry import Documented, Section
from dekctl.cli.state import State
from dekctl.cli.walk_options import hierarchical_option, walk_options
from dekctl.walk.options import RowOptions
from dekctl.workflows import migrate as workflow
from dekctl.workflows.schema import default_names

PLACE = Section.MIGRATE, 1


@click.command(cls=Documented)
@hierarchical_option
@walk_options
@click.pass_obj
def migrate(state: State, /, hierarchical: bool, **options: Any) -> None:
    """Run schema expand, wrap and verify. Plaintext keys stay in place.

    Checks that KMS allows keys to be wrapped before it alters the first table.
    """
    with state.project() as project:
        for note in default_names(project, options["table"]):
            state.terminal.note(note)
        result = workflow.migrate(
            project, RowOptions(**options), with_progress(state), hierarchical=hierarchical
        )
    said = {
        (True, True): "would be expanded (columns for wrapped keys, row trigger, ledger)",
        (True, False): "is expanded already",
        (False, True): "expanded (columns for wrapped keys, row trigger, ledger)",
        (False, False): "was expanded already",
    }
    lines = [
        f"schema: {name}: {said[options['dry_run'], changed]}"
        for name, changed in result.expanded.items()
    ]
    text = "\n".join([*lines, *(text_of(run) for run in result.runs)])
    end(state, result.as_json(), text, result.exit_code)
