"""``dekctl rollback``."""

from __future__ import annotations

from typing import Any

import click

from dekctl.cli.consent import ROLLBACK, consent
from dekctl.cli.execute import finish, with_progress
from dekctl.cli.registry import Documented, Section
from dekctl.cli.state import State
from dekctl.cli.walk_options import accept_logging_option, walk_options, yes_option
from dekctl.walk.options import RowOptions
from dekctl.workflows import rollback as workflow

PLACE = Section.UNDO, 2


@click.command(cls=Documented)
@walk_options
@accept_logging_option
@yes_option
@click.pass_obj
def rollback(state: State, /, yes: bool, accept_logging: bool, **options: Any) -> None:
    """Undo everything: plaintext keys and the legacy schema, from any stage.

    Adds the plaintext column again if needed, decrypts every key into it, verifies every row, then
    drops the columns that dekctl added. A dry run decrypts every wrapped key and writes nothing. To
    undo only the last schema step, use: dekctl schema rollback.
    """
    with state.project() as project:
        confirm = consent(state, project, ROLLBACK, options["table"], yes=yes or options["dry_run"])
        result = workflow.rollback(
            project,
            RowOptions(**options),
            with_progress(state),
            confirm,
            accept_logging=accept_logging,
        )
    more = "\nback at the legacy schema" if result.extra.get("stage") == "legacy" else ""
    for table, columns in result.extra.get("kept_columns", {}).items():
        more += (
            f"\n{table}: every key is a plaintext again; {', '.join(columns)} were there before "
            "dekctl, so they stay, with what they hold"
        )
    finish(state, result, more=more)
