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
    help="Program that tries one key. It gets the primary key as its last argument and the key on "
    "stdin, and exits with 0 if the key decrypts the row's data, with 1 if not.",
)
@walk_options
@click.pass_obj
def settle(state: State, /, program: str, **options: Any) -> None:
    """Resolve rows whose plaintext key and wrapped key differ.

    PROGRAM tries each of the two keys on the row's data. If it accepts exactly one, the other is
    replaced or removed; otherwise both are kept and the row is quarantined.
    """
    run_verb(state, Settle(program), RowOptions(**options))
