"""``dekctl verify``."""

from __future__ import annotations

from typing import Any

import click

from dekctl.cli.execute import run_verb
from dekctl.cli.registry import Documented, Section
from dekctl.cli.state import State
from dekctl.cli.walk_options import walk_options
from dekctl.operations.verify import Verify
from dekctl.walk.options import RowOptions

PLACE = Section.MIGRATE, 4


@click.command(cls=Documented)
@click.option("--sample", type=click.IntRange(1), metavar="N", help="Verify only about N rows.")
@walk_options
@click.pass_obj
def verify(state: State, /, sample: int | None, **options: Any) -> None:
    """Decrypt every wrapped key and compare it with its plaintext.

    Where a row has no plaintext any more, verify proves that its wrapped key can be decrypted.
    """
    run_verb(state, Verify(sample), RowOptions(**options))
