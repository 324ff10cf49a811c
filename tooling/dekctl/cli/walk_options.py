"""The options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from dekctl.cli import completion
from dekctl.db.shape import Shard
from dekctl.kms.interface import DEFAULT_CONCURRENCY
from dekctl.walk.options import (
    MAX_CONCURRENCY,
    MAX_ROWS_PER_BATCH,
    ROWS_PER_BATCH,
    ROWS_PER_BATCH_V3,
)

Command = TypeVar("Command", bound=Callable[..., Any])


class ShardType(click.ParamType[Shard]):
    """``I/N``, from 1/N to N/N."""

    name = "I/N"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Shard:
        """Parse ``2/8``."""
        if isinstance(value, Shard):
            return value
        index, _, count = str(value).partition("/")
        if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
            self.fail("expected I/N with I from 1 to N, for example 1/4", param, ctx)
        return Shard(int(index), int(count))


def _set_table(ctx: click.Context, _: click.Parameter, value: str | None) -> str | None:
    state = ctx.find_root().obj
    if value is not None and state is not None:
        state.terminal.place.table = value  # hints repeat it
    return value


table_option = click.option(
    "--table",
    metavar="NAME",
    callback=_set_table,
    shell_complete=completion.tables,
    help="Use only this [[table]].",
)


def _set_metrics(ctx: click.Context, _: click.Parameter, value: Path | None) -> None:
    if value is not None:
        ctx.find_root().obj.metrics = value


metrics_option = click.option(
    "--metrics",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    expose_value=False,
    callback=_set_metrics,
    help="Write the figures to FILE as Prometheus text, while the command runs and at its end.",
)
_WALK_OPTIONS = (
    click.option("--dry-run", is_flag=True, help="Write nothing; show what would be done."),
    click.option(
        "--batch-size",
        type=click.IntRange(1, MAX_ROWS_PER_BATCH),
        help=f"Rows per batch and per transaction (default: {ROWS_PER_BATCH}; with branch keys "
        f"{ROWS_PER_BATCH_V3}).",
    ),
    click.option(
        "--concurrency",
        type=click.IntRange(1, MAX_CONCURRENCY),
        default=DEFAULT_CONCURRENCY,
        show_default=True,
        help="Maximum KMS calls in flight.",
    ),
    click.option(
        "--rate",
        type=click.FloatRange(0, min_open=True),
        metavar="N",
        help="Maximum KMS calls per second.",
    ),
    click.option(
        "--quota-share",
        type=click.FloatRange(0, 1, min_open=True),
        metavar="SHARE",
        help="Use at most this share of the account's current KMS quota, for example 0.5.",
    ),
    click.option(
        "--workers",
        type=click.IntRange(1, 256),
        default=1,
        show_default=True,
        help="Number of processes on this machine.",
    ),
    click.option(
        "--cluster", metavar="ADDRESS", help="Use the workers of the Dask cluster at ADDRESS."
    ),
    click.option("--limit", type=click.IntRange(1), metavar="N", help="Process at most N rows."),
    click.option("--shard", type=ShardType(), help="Process only part I of N of the table."),
    click.option("--retry-quarantined", is_flag=True, help="Try quarantined rows again."),
    click.option(
        "--keep-going",
        is_flag=True,
        help="Continue even if all of the first rows are rejected and quarantined.",
    ),
    click.option(
        "--control",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="File with rate, batch_size, concurrency and pause, read while the command runs "
        "(default: .dekctl/ENV/control.toml).",
    ),
    click.option(
        "--hold-back",
        metavar="SQL",
        help="Pause while this query returns true, or a number above hold_back_above.",
    ),
    metrics_option,
    table_option,
)


def walk_options(command: Command) -> Command:
    """Add the options that every command over rows has."""
    for option in reversed(_WALK_OPTIONS):
        command = option(command)
    return command


hierarchical_option = click.option(
    "--hierarchical",
    is_flag=True,
    help="Wrap in this process under branch keys that KMS wraps (V3; default: [table] wrapping).",
)
yes_option = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
accept_logging_option = click.option(
    "--accept-logging",
    is_flag=True,
    help="Write keys even if the server's logs will show them (MariaDB, MySQL).",
)
