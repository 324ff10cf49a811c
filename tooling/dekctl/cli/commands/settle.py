"""``dekctl settle``."""

from __future__ import annotations

from typing import Any

import click

from dekctl.cli.execute import run_verb
from dekctl.cli.registry import Documented, Section
from dekctl.cli.state import State
from dekctl.cli.walk_options import walk_options
from dekctl.operations.settle import Settle
from dekctl.walk.options import RowOptions

PLACE = Section.MIGRATE, 6


@click.command(cls=Documented)
@click.option(
    "--prove",
    "program",
    metavar="PROGRAM",
    required=True,
    help="Tries one key: primary key as last argument, key on stdin; exit 0 if it opens the row's "
    "data, 1 if not.",
)
@walk_options
@click.pass_obj
def settle(state: State, /, program: str, **options: Any) -> None:
    """Settle rows whose plaintext is not their wrapped key.

    PROGRAM tries each of the two keys on the row's data. Where it accepts exactly one, the other
    one is replaced or removed; else both are kept and the row is quarantined.
    """
    run_verb(state, Settle(program), RowOptions(**options))
