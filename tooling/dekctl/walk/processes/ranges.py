"""One walk in many processes: the table's key ranges, handed out and settled in any order.

The processes are given as an executor: those of this machine (:mod:`dekctl.walk.processes.local`)
or a cluster (:mod:`dekctl.walk.processes.dask`). A range whose worker died is done again: what is
due is decided by the rows, so rows that were written before are skipped, and two workers on one
range do no harm.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from dekctl.db.row import PrimaryKey
from dekctl.db.table import DekTable
from dekctl.errors import DekctlError
from dekctl.ledger import Heartbeat, Ledger, Run
from dekctl.operations.rewrap import Kind
from dekctl.walk.engine import HopelessError, WalkOptions
from dekctl.walk.tally import Progress, Tally, add_tally

if TYPE_CHECKING:
    from dekctl.walk.run import RowOptions

ROWS_A_RANGE = 20_000
"""Small enough that progress shows and little is done again, large enough to be worth a message."""
SECONDS_A_RANGE = 30.0
"""With a low rate ranges are smaller, so that an interrupt need not wait long for them."""
FEWEST_ROWS_A_RANGE = 500
MOST_DEATHS = 5
LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Job:
    """One range, and all that another process needs for it. Holds no key and no password."""

    config_file: str
    env: str
    assume_role: bool
    verb: str
    options: RowOptions
    table: str
    run_id: str | None
    writes: bool


@dataclass(slots=True)
class Done:
    """What came of a range."""

    tally: Tally
    kms_calls: dict[str, int] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    materials: dict[str, int] = field(default_factory=dict)
    kinds: Counter[Kind] = field(default_factory=Counter)
    written_under: dict[str, int] = field(default_factory=dict)
    carried: int = 0


class WorkerDiedError(DekctlError):
    """A worker was lost with its range."""


class Workers(Protocol):
    """Processes that do ranges."""

    @property
    def count(self) -> int:
        """How many ranges they do at once."""

    def takes(self, out: int) -> bool:
        """Whether to hand out another range while ``out`` of them are."""

    def submit(self, job: Job) -> Future[Done]:
        """Do a range. The future raises WorkerDiedError where the process was lost."""

    def stop(self) -> None:
        """Let workers finish the pages in hand and return."""


def walk_ranges(
    table: DekTable,
    workers: Workers,
    job: Callable[[WalkOptions], Job],
    options: WalkOptions,
    *,
    tally: Tally,
    rate: float | None = None,
    ledger: Ledger | None = None,
    run: Run | None = None,
    progress: Progress = lambda _: None,
    settled: Callable[[Done], None] = lambda _: None,
    cancel: threading.Event,
) -> Tally:
    """Walk a table in ranges.

    Args:
        table: the table.
        workers: who does the ranges.
        job: makes the job of a range from its walk options.
        options: how to walk; ``after`` and ``until`` are set for each range.
        tally: counts what is done; it is also returned.
        rate: KMS calls a second of all workers together, if limited.
        ledger: where the run is entered, if it is.
        run: the run's entry; its heartbeat is kept up here.
        progress: called after every range.
        settled: told of every range that is done.
        cancel: when set, no new range is begun and workers return early.

    Raises:
        DekctlError: the first error of a worker; ranges done before are kept.
    """
    rows = ROWS_A_RANGE
    if rate is not None:
        of_one = rate / workers.count * SECONDS_A_RANGE
        rows = max(FEWEST_ROWS_A_RANGE, min(rows, int(of_one)))
    heart = Heartbeat(ledger, run) if ledger is not None and run is not None else None
    with heart or nullcontext():
        _Dispatch(table, workers, job, options, rows, tally, run, progress, settled).go(
            cancel, heart
        )
    tally.interrupted = cancel.is_set()
    return tally


class _Dispatch:
    """Hands out ranges and takes in what came of them."""

    def __init__(
        self,
        table: DekTable,
        workers: Workers,
        job: Callable[[WalkOptions], Job],
        options: WalkOptions,
        rows: int,
        tally: Tally,
        run: Run | None,
        progress: Progress,
        settled: Callable[[Done], None],
    ) -> None:
        self._workers = workers
        self._job = job
        self._ranges = _ranges(table, options, rows)
        self._tally = tally
        self._run = run
        self._progress = progress
        self._settled = settled
        self._out: dict[Future[Done], WalkOptions] = {}
        self._again: deque[WalkOptions] = deque()
        self._hopeless: list[tuple[WalkOptions, HopelessError]] = []
        self._deaths: dict[PrimaryKey | None, int] = {}
        self._order: deque[WalkOptions] = deque()  # ranges not done yet, and done ones behind them
        self._done: set[PrimaryKey | None] = set()

    def go(self, cancel: threading.Event, heart: Heartbeat | None) -> None:
        stopped = False
        failed: BaseException | None = None
        more = True
        while more or self._out:
            if heart is not None and heart.lost is not None:
                failed = failed or heart.lost
            if (cancel.is_set() or failed) and not stopped:
                stopped = True
                self._workers.stop()
            more = not stopped and self._hand_out()
            if more and not self._out:  # nobody is there to take one
                cancel.wait(LOOK_SECONDS)
            ended, _ = wait(self._out, LOOK_SECONDS, FIRST_COMPLETED)
            for future in ended:
                part = self._out.pop(future)
                try:
                    self._take(part, future.result())
                except WorkerDiedError as error:
                    failed = failed or self._bury(part, error)
                    more = more or not stopped
                except HopelessError as error:
                    self._hopeless.append((part, error))
                except DekctlError as error:
                    # After an interrupt, what ended the waiting is no failure.
                    failed = failed or (None if cancel.is_set() else error)
            if self._hopeless and not stopped:
                failed = failed or self._decide()
                more = True
        if failed is not None:
            raise failed

    def _decide(self) -> DekctlError | None:
        """What to make of ranges all of whose rows were rejected.

        Where another range has good rows, the settings are right and these rows are poison. That
        is known when the ranges that are out have come back.
        """
        if self._trusted:
            self._again += [part for part, _ in self._hopeless]
            self._hopeless.clear()
            return None
        return None if self._out else self._hopeless[0][1]

    @property
    def _trusted(self) -> bool:
        """Whether any row was found good, so that the settings cannot be wrong for all."""
        return bool(self._tally.changed or self._tally.proved)

    def _hand_out(self) -> bool:
        """Keep every worker busy. Returns whether there may be more ranges."""
        if self._hopeless:  # first it has to be known what the ranges that are out say
            return True
        while self._workers.takes(len(self._out)):
            if self._again:
                part = self._again.popleft()
            else:
                new = next(self._ranges, None)
                if new is None:
                    return False
                part = new
                self._order.append(part)
            sent = replace(part, keep_going=True) if self._trusted else part
            self._out[self._workers.submit(self._job(sent))] = part
        return True

    def _take(self, part: WalkOptions, done: Done) -> None:
        add_tally(self._tally, done.tally)
        self._settled(done)
        if not done.tally.interrupted:
            self._done.add(part.after)
        while self._order and self._order[0].after in self._done:
            self._tally.position = self._order.popleft().until or self._tally.position
        if self._run is not None:
            self._run.position = self._tally.position
        self._progress(self._tally)

    def _bury(self, part: WalkOptions, error: WorkerDiedError) -> DekctlError | None:
        """Have the range of a dead worker done again, unless it kills one after the other."""
        self._deaths[part.after] = self._deaths.get(part.after, 0) + 1
        if self._deaths[part.after] < MOST_DEATHS:
            self._again.append(part)
            return None
        return DekctlError(
            f"workers died {MOST_DEATHS} times on the same rows: {error.message}",
            hint="is there enough memory? Run the same command with fewer workers",
        )


def _ranges(table: DekTable, options: WalkOptions, rows: int) -> Iterator[WalkOptions]:
    """Cut the table into ranges of so many rows, by short steps along its key."""
    after = options.after
    while True:
        until = table.database.run(
            lambda connection, after=after: table.boundary(connection, after, rows)  # type: ignore[misc]
        )
        yield replace(options, after=after, until=until)
        if until is None:
            return
        after = until


def merge_counts(total: dict[str, int], part: dict[str, Any]) -> None:
    """Add counts by name."""
    for name, count in part.items():
        total[name] = total.get(name, 0) + count
