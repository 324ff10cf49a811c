"""The options of the commands that walk rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from dekctl.db.shape import Shard
from dekctl.kms.aws.provider import DEFAULT_CONCURRENCY
from dekctl.walk.engine import ROWS_A_PAGE, ROWS_A_PAGE_V3, WalkOptions
from dekctl.walk.run import RowOptions

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
            self.fail("write it as I/N with I from 1 to N, for example 1/4", param, ctx)
        return Shard(int(index), int(count))


_WALK_OPTIONS = (
    click.option("--dry-run", is_flag=True, help="Write nothing; say what would be done."),
    click.option(
        "--batch-size",
        type=click.IntRange(1, 20_000),
        help=f"Rows a page, and rows a transaction.  [default: {ROWS_A_PAGE}; with branch keys "
        f"{ROWS_A_PAGE_V3}]",
    ),
    click.option(
        "--concurrency",
        type=click.IntRange(1, 4096),
        default=DEFAULT_CONCURRENCY,
        show_default=True,
        help="KMS calls in flight.",
    ),
    click.option(
        "--rate",
        type=click.FloatRange(0, min_open=True),
        metavar="N",
        help="Most KMS calls a second.",
    ),
    click.option(
        "--quota-share",
        type=click.FloatRange(0, 1, min_open=True),
        metavar="PART",
        help="At most this part of the account's live KMS quota, for example 0.5.",
    ),
    click.option(
        "--workers",
        type=click.IntRange(1, 256),
        default=1,
        show_default=True,
        help="Processes on this machine.",
    ),
    click.option("--cluster", metavar="ADDRESS", help="Workers of a Dask cluster."),
    click.option("--limit", type=click.IntRange(1), metavar="N", help="Take up at most N rows."),
    click.option("--shard", type=ShardType(), help="Only this part of the table, I of N."),
    click.option("--retry-quarantined", is_flag=True, help="Try rows in quarantine again."),
    click.option(
        "--keep-going",
        is_flag=True,
        help="Set rows aside even if the first ones are all rejected.",
    ),
    click.option(
        "--control",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Rate, batch_size, concurrency and pause while it runs; else "
        ".dekctl/ENV/control.toml.",
    ),
    click.option(
        "--hold-back",
        metavar="SQL",
        help="Wait while this query gives true, or a number above hold_back_above.",
    ),
    click.option("--table", metavar="NAME", help="Only this [[table]]."),
)


def walk_options(command: Command) -> Command:
    """Add the options that every row command has."""
    for option in reversed(_WALK_OPTIONS):
        command = option(command)
    return command


def row_options(
    *,
    dry_run: bool,
    batch_size: int | None,
    concurrency: int,
    rate: float | None,
    limit: int | None,
    shard: Shard | None,
    retry_quarantined: bool,
    keep_going: bool,
    control: Path | None,
    hold_back: str | None,
    table: str | None,
    **extra: Any,
) -> RowOptions:
    """Gather parsed options for the engine."""
    walk = WalkOptions(
        dry_run=dry_run,
        batch_size=batch_size,
        limit=limit,
        shard=shard,
        retry_quarantined=retry_quarantined,
        keep_going=keep_going,
    )
    return RowOptions(
        walk=walk,
        concurrency=concurrency,
        rate=rate,
        table=table,
        control=control,
        hold_back=hold_back,
        **extra,
    )


hierarchical_option = click.option(
    "--hierarchical",
    is_flag=True,
    help="Wrap locally under branch keys that KMS wraps (V3); else as [table] says.",
)
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
