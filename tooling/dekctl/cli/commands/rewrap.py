"""``dekctl rewrap``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from dekctl.cli.completion import generations
from dekctl.cli.execute import run_verb
from dekctl.cli.registry import Documented, Section
from dekctl.cli.state import State
from dekctl.cli.walk_options import hierarchical_option, walk_options
from dekctl.kms.context import VERSIONS
from dekctl.operations.rewrap import Rewrap
from dekctl.walk.options import RowOptions

PLACE = Section.ROTATE, 1


@click.command(cls=Documented)
@hierarchical_option
@click.option(
    "--from",
    "source",
    metavar="KEK",
    shell_complete=generations,
    help="Only rows under this KEK (ARN, alias or generation).",
)
@click.option(
    "--to",
    "target",
    metavar="KEK",
    shell_complete=generations,
    help="The KEK to move to (default: the active one).",
)
@click.option(
    "--version", "row_version", type=click.Choice(VERSIONS), help="Only rows of this version."
)
@click.option(
    "--wrapped-before",
    "before",
    type=click.DateTime(),
    metavar="DATE",
    help="Only rows wrapped before DATE (UTC), including rows already under the active KEK.",
)
@click.option("--same-key", is_flag=True, help="Include rows already under the active KEK.")
@walk_options
@click.pass_obj
def rewrap(
    state: State,
    /,
    source: str | None,
    target: str | None,
    row_version: str | None,
    before: datetime | None,
    same_key: bool,
    hierarchical: bool,
    **options: Any,
) -> None:
    """Move the wrapped keys to another KEK.

    Within KMS this is ReEncrypt, and no plaintext key leaves KMS. Between providers or Regions,
    keys are unwrapped and wrapped in this process.
    """
    moment = before.replace(tzinfo=UTC) if before else None
    verb = Rewrap(
        source,
        target=target,
        version=row_version,
        before=moment,
        same_key=same_key,
        hierarchical=hierarchical,
    )
    run_verb(state, verb, RowOptions(**options))
