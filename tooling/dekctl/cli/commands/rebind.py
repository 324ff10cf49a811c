"""``dekctl rebind``."""

from __future__ import annotations

from typing import Any

import click

from dekctl.cli.execute import finish, with_progress
from dekctl.cli.registry import Documented, Section
from dekctl.cli.state import State
from dekctl.cli.walk_options import walk_options
from dekctl.walk.options import RowOptions
from dekctl.workflows import rebind as workflow

PLACE = Section.ROTATE, 4


@click.command(cls=Documented)
@click.option(
    "--old-context-name",
    metavar="NAME",
    help="The context name that the rows were bound to (default: the one in [table]).",
)
@click.option(
    "--old-key",
    metavar="EXPRESSION",
    help="SQL expression that gives the primary key a row was bound to, from the table's columns, "
    "for example 'id - 1000' (default: the key as it is).",
)
@walk_options
@click.pass_obj
def rebind(
    state: State, /, old_context_name: str | None, old_key: str | None, **options: Any
) -> None:
    """Rebind rows after their primary key, its type or the context name has changed.

    Each row is re-encrypted from its old encryption context to its new one, which proves that it
    belonged to the old one. With neither option, rows are only checked against their current
    context.
    """
    with state.project() as project:
        result = workflow.rebind(
            project,
            RowOptions(**options),
            with_progress(state),
            old_context_name=old_context_name,
            old_key=old_key,
        )
    finish(state, result)
