"""How a run walks over rows: what a person wants, what is decided once, a worker's share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dekctl.db.row import PrimaryKey
from dekctl.db.shape import Shard
from dekctl.kms.interface import DEFAULT_CONCURRENCY

ROWS_PER_BATCH = 2000
ROWS_PER_BATCH_V3 = 4000
"""Without a call to KMS for each row, the fixed cost of a batch matters more."""
MAX_ROWS_PER_BATCH = 20_000
MAX_CONCURRENCY = 4096


@dataclass(frozen=True, slots=True)
class RowOptions:
    """What a person wants, of every verb that walks rows; only the command line writes it.

    Args:
        dry_run: change nothing.
        batch_size: rows per batch and per transaction; None for the default.
        concurrency: maximum KMS calls in flight.
        rate: maximum KMS calls per second; None for no limit.
        quota_share: at most this part (above 0, up to 1) of what KMS allows the account.
        limit: maximum rows to take up.
        shard: only this part of the table.
        table: only the table of this name.
        retry_quarantined: take up rows in quarantine too.
        keep_going: quarantine rows even if the first ones are all rejected.
        workers: processes on this machine.
        cluster: address of a Dask scheduler.
        control: the control file; None for the environment's own.
        hold_back: SQL that tells whether the database is busy; None for the configured one.
    """

    dry_run: bool = False
    batch_size: int | None = None
    concurrency: int = DEFAULT_CONCURRENCY
    rate: float | None = None
    quota_share: float | None = None
    limit: int | None = None
    shard: Shard | None = None
    table: str | None = None
    retry_quarantined: bool = False
    keep_going: bool = False
    workers: int = 1
    cluster: str | None = None
    control: Path | None = None
    hold_back: str | None = None

    @property
    def in_processes(self) -> bool:
        """Whether the work is shared by several processes."""
        return self.workers > 1 or self.cluster is not None


@dataclass(frozen=True, slots=True)
class WalkOptions:
    """Which rows one walk reads, and what it may do: all that the engine has to know.

    Args:
        dry_run: change nothing.
        limit: maximum rows to take up.
        shard: only this part of the table.
        after: only rows beyond this primary key.
        until: only rows up to this primary key, with it.
        retry_quarantined: take up rows in quarantine too.
        keep_going: quarantine rows even if the first ones are all rejected.
    """

    dry_run: bool = False
    limit: int | None = None
    shard: Shard | None = None
    after: PrimaryKey | None = None
    until: PrimaryKey | None = None
    retry_quarantined: bool = False
    keep_going: bool = False


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What is decided once for a run, from the options, the configuration and KMS's quota.

    Args:
        batch_size: rows per batch and per transaction.
        concurrency: maximum KMS calls in flight, of each process.
        rate: maximum KMS calls per second of all processes together; None for no limit.
        max_rate: what no control file may raise the rate above.
        control: the control file; it need not exist.
        hold_back: SQL that tells whether the database is busy.
        hold_back_above: the number above which its answer means busy.
    """

    batch_size: int
    concurrency: int
    rate: float | None
    max_rate: float | None
    control: Path
    hold_back: str | None
    hold_back_above: float


@dataclass(frozen=True, slots=True)
class WorkerShare:
    """A worker's share of a run: a range of rows, and a part (up to 1) of the rate."""

    walk: WalkOptions
    rate_part: float = 1.0
