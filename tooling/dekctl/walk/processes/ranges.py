"""One walk in several processes: ranges of the primary key, handed out and done in any order.

The workers are processes of this machine (:mod:`dekctl.walk.processes.local`) or of a cluster
(:mod:`dekctl.walk.processes.dask`). A range whose worker died is done again: the rows alone decide
what is due, so rows that were written before are skipped, and two workers on one range do no harm.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import nullcontext
from dataclasses import replace

from dekctl.db.row import PrimaryKey
from dekctl.db.table import MAX_COUNTED, DekTable
from dekctl.errors import DekctlError
from dekctl.ledger import Heartbeat
from dekctl.walk.breaker import AllRowsRejectedError
from dekctl.walk.counts import RowCounts, add_counts
from dekctl.walk.engine import Walk
from dekctl.walk.options import WalkOptions
from dekctl.walk.processes.job import Done, Job, WorkerDiedError, Workers
from dekctl.walk.processes.limits import (
    MAX_DEATHS_PER_RANGE,
    MIN_ROWS_PER_RANGE,
    POLL_SECONDS,
    RANGES_LEFT_PER_WORKER,
    ROWS_PER_RANGE,
    SECONDS_PER_RANGE,
    SMALLEST_PART,
)


def walk_ranges(
    walk: Walk,
    workers: Workers,
    job: Callable[[WalkOptions], Job],
    *,
    rate: float | None = None,
    on_done: Callable[[Done], None] = lambda _: None,
) -> RowCounts:
    """Walk a table in ranges.

    Args:
        walk: the walk to share out; its counts, its run and its progress are kept up here.
        workers: who does the ranges.
        job: makes the job of a range from its walk options.
        rate: KMS calls per second of all workers together, if limited.
        on_done: called with what came of each range.

    Raises:
        DekctlError: the first error of a worker; ranges done before are kept.
    """
    rows, counted = walk.table.rows_at_a_glance()
    known = rows if counted or rows != MAX_COUNTED else None  # else there may be any number more
    most = ROWS_PER_RANGE
    if rate is not None:
        most = min(most, int(rate / workers.count * SECONDS_PER_RANGE))
    sizes = range_sizes(known, workers.count, most)
    heart = Heartbeat(walk.ledger, walk.run) if walk.ledger and walk.run else None
    with heart or nullcontext():
        _Dispatch(walk, workers, job, sizes, on_done).go(walk.cancel, heart)
    walk.counts.interrupted = walk.cancel.is_set()
    return walk.counts


class _Dispatch:
    """Hands out ranges and takes in what came of them."""

    def __init__(
        self,
        walk: Walk,
        workers: Workers,
        job: Callable[[WalkOptions], Job],
        sizes: Iterator[int],
        on_done: Callable[[Done], None],
    ) -> None:
        self._workers = workers
        self._job = job
        self._ranges = _ranges(walk.table, walk.options, sizes)
        self._counts = walk.counts
        self._run = walk.run
        self._progress = walk.progress
        self._on_done = on_done
        self._out: dict[Future[Done], WalkOptions] = {}
        self._to_repeat: deque[WalkOptions] = deque()
        self._rejected: list[tuple[WalkOptions, AllRowsRejectedError]] = []
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
            if more and not self._out:  # no worker is there to take one
                cancel.wait(POLL_SECONDS)
            ended, _ = wait(self._out, POLL_SECONDS, FIRST_COMPLETED)
            for future in ended:
                part = self._out.pop(future)
                try:
                    self._take(part, future.result())
                except WorkerDiedError as error:
                    failed = failed or self._repeat(part, error)
                    more = more or not stopped
                except AllRowsRejectedError as error:
                    self._rejected.append((part, error))
                except DekctlError as error:
                    # After an interrupt, what ended the waiting is no failure.
                    failed = failed or (None if cancel.is_set() else error)
            if self._rejected and not stopped:
                failed = failed or self._decide()
                more = True
        if failed is not None:
            raise failed

    def _decide(self) -> DekctlError | None:
        """Decide about ranges all of whose rows were rejected.

        Where another range has good rows, the settings are right and these rows are bad. That is
        known once the ranges in hand have come back.
        """
        if self._trusted:
            self._to_repeat += [part for part, _ in self._rejected]
            self._rejected.clear()
            return None
        return None if self._out else self._rejected[0][1]

    @property
    def _trusted(self) -> bool:
        """Whether any row was good: then the settings are not wrong for all."""
        return bool(self._counts.changed or self._counts.proved)

    def _hand_out(self) -> bool:
        """Keep every worker busy. Returns whether there may be more ranges."""
        if self._rejected:  # first the ranges in hand have to come back
            return True
        while self._workers.takes(len(self._out)):
            if self._to_repeat:
                part = self._to_repeat.popleft()
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
        add_counts(self._counts, done.rows)
        self._on_done(done)
        if not done.rows.interrupted:
            self._done.add(part.after)
        while self._order and self._order[0].after in self._done:
            self._counts.position = self._order.popleft().until or self._counts.position
        if self._run is not None:
            self._run.position = self._counts.position
        self._progress(self._counts)

    def _repeat(self, part: WalkOptions, error: WorkerDiedError) -> DekctlError | None:
        """Do the range of a dead worker again, unless it has killed too many."""
        self._counts.incomplete = True
        self._deaths[part.after] = self._deaths.get(part.after, 0) + 1
        if self._deaths[part.after] < MAX_DEATHS_PER_RANGE:
            self._to_repeat.append(part)
            return None
        return DekctlError(
            f"workers died {MAX_DEATHS_PER_RANGE} times on the same rows: {error.message}",
            hint="check that there is enough memory, then run the same command with fewer workers",
        )


def range_sizes(known: int | None, workers: int, most: int) -> Iterator[int]:
    """Rows of one range after the other, without end.

    Args:
        known: rows of the table, as far as is known; it may have more or fewer. None: any number.
        workers: how many ranges are done at once.
        most: rows of the largest range.
    """
    out = 0
    while True:
        left = known - out if known is not None else most * RANGES_LEFT_PER_WORKER * workers
        of_one = max(left / RANGES_LEFT_PER_WORKER, out / SMALLEST_PART) / workers
        rows = max(MIN_ROWS_PER_RANGE, min(most, int(of_one)))
        yield rows
        out += rows


def _ranges(table: DekTable, options: WalkOptions, sizes: Iterator[int]) -> Iterator[WalkOptions]:
    """Cut the table into ranges of these sizes, by short steps along its key."""
    after = options.after
    for rows in sizes:
        until = table.database.run(
            lambda connection, after=after, rows=rows: table.boundary(connection, after, rows)  # type: ignore[misc]
        )
        yield replace(options, after=after, until=until)
        if until is None:
            return
        after = until
