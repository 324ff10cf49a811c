"""``dekctl scrub``."""

from __future__ import annotations

from typing import Any

import click

from dekctl.cli.consent import SCRUB, consent
from dekctl.cli.execute import finish, with_progress
from dekctl.cli.registry import Documented, Section
from dekctl.cli.state import State
from dekctl.cli.walk_options import walk_options, yes_option
from dekctl.schema.plaintext_use import before_scrub
from dekctl.walk.options import RowOptions
from dekctl.workflows import plaintext

PLACE = Section.MIGRATE, 5


@click.command(cls=Documented)
@walk_options
@click.option(
    "--accept-history",
    is_flag=True,
    help="Scrub a system-versioned table too; its history keeps the keys.",
)
@yes_option
@click.pass_obj
def scrub(state: State, /, yes: bool, accept_history: bool, **options: Any) -> None:
    """Remove plaintext keys, each only after its wrapped copy is verified.

    Verification and removal are one compare-and-swap: a row that has changed in between is read
    again.
    """
    with state.project() as project:
        for config in project.table_configs(options["table"]):
            if advice := before_scrub(config):
                state.terminal.note(advice)
        confirm = consent(state, project, SCRUB, options["table"], yes=yes or options["dry_run"])
        result = plaintext.scrub(
            project,
            RowOptions(**options),
            with_progress(state),
            confirm,
            accept_history=accept_history,
        )
    if result.counts.changed and not result.dry_run:
        places = [f"  {trace['place']}: {trace['help']}" for trace in result.extra["traces"]]
        state.terminal.note(
            "\n".join(
                [
                    "copies of the removed keys may remain in:",
                    *dict.fromkeys(places),
                    "search files for keys that were sampled before, with: dekctl residue search "
                    "--sample FILE FOLDER",
                ]
            )
        )
    finish(state, result)
