"""``dekctl wrap``."""

from __future__ import annotations

from typing import Any

import click

from dekctl.cli.execute import run_verb
from dekctl.cli.registry import Documented, Section
from dekctl.cli.state import State
from dekctl.cli.walk_options import hierarchical_option, walk_options
from dekctl.operations.wrap import Wrap
from dekctl.walk.options import RowOptions

PLACE = Section.MIGRATE, 3


@click.command(cls=Documented)
@hierarchical_option
@click.option(
    "--stale",
    is_flag=True,
    help="Also wrap the plaintext of rows whose wrapped key differs or cannot be decrypted.",
)
@walk_options
@click.pass_obj
def wrap(state: State, /, hierarchical: bool, stale: bool, **options: Any) -> None:
    """Wrap the plaintext key of every row that has no wrapped key.

    --stale treats the plaintext as the right key wherever a row's two keys differ. Use it only if
    nothing but old versions of the application set keys. Otherwise, use settle.
    """
    run_verb(state, Wrap(stale, hierarchical), RowOptions(**options))
