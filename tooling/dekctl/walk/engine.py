"""The row engine: walks a table in batches, hands rows to KMS, writes by compare-and-swap.

Reading, KMS and writing overlap: while one batch is written, the next ones are with KMS. Every
batch is written in one short transaction. A run can be killed at any moment and started again: the
rows alone decide what is due.

Batches go to the writers in primary-key order. Where the database gains by it, two of them write at
once, so rows are counted by batch: the counts hold what was settled, in that order, and their
position is never ahead of a write. At most :data:`BATCHES_WITH_KMS` batches are with KMS and
:data:`BATCHES_WITH_WRITERS` with the writers, whatever the table's size.

The engine neither prints nor exits. It reports through a callback and returns :class:`RowCounts`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from dekctl.db.row import Change, PrimaryKey, Row
from dekctl.db.table import DekTable
from dekctl.errors import DatabaseError, KMSError
from dekctl.kms.dek import hides_keys
from dekctl.ledger import Heartbeat, Ledger, Run
from dekctl.operations.base import Operation, Pending, Proved, Rejected, Verdict
from dekctl.walk.breaker import Breaker
from dekctl.walk.committing import MAX_REFUSED_FIRST, Writer
from dekctl.walk.counts import OnCounts, RowCounts, add_counts
from dekctl.walk.options import MAX_ROWS_PER_BATCH, WalkOptions
from dekctl.walk.pacing import Pacing
from dekctl.walk.quarantine import QuarantinedRows

BATCHES_WITH_KMS = 3
"""Enough to keep KMS busy while the last answers for one batch come in."""
BATCHES_WITH_WRITERS = 3
ROUNDS_FOR_MOVED = 5
"""How often a row that another writer keeps changing is read and tried again."""
SPARSE = 0.1
"""Where a smaller part of the rows is due, more rows are read at once."""


@dataclass(slots=True)
class Batch:
    """Rows that are written together, and what to count for those read with them."""

    number: int
    rows: list[Row]
    last: PrimaryKey
    scanned: int
    due: int
    quarantined: list[PrimaryKey] = field(default_factory=list)


class Walk:
    """One walk of one operation over one table."""

    def __init__(
        self,
        verb: str,
        operation: Operation,
        options: WalkOptions,
        *,
        ledger: Ledger | None,
        run: Run | None,
        pacing: Pacing,
        progress: OnCounts = lambda _: None,
        cancel: threading.Event | None = None,
        give_up: threading.Event | None = None,
        heartbeat: bool = True,
    ) -> None:
        """Prepare a walk.

        Args:
            verb: its name, for people.
            operation: what is done to rows.
            options: which rows to read.
            ledger: where rows are quarantined; None in a dry run before the ledger exists.
            run: the ledger's entry for this walk; None where there is no ledger.
            pacing: batch size and pauses, which people may change while the walk is on.
            progress: called after every batch, by one thread at a time, not always the same.
            cancel: when set, the walk finishes the batches in hand and returns.
            give_up: when set, waiting for KMS and the database has been ended as well.
            heartbeat: whether to keep the run's heartbeat up; not where another process does.
        """
        self.operation = operation
        self.table: DekTable = operation.table
        self.options = options
        self.ledger = ledger
        self.run = run
        self.progress = progress
        self.cancel = cancel or threading.Event()
        self.give_up = give_up or threading.Event()
        self._pacing = pacing
        self._heartbeat = heartbeat
        self.counts = RowCounts()
        self._due = operation.due()
        visits = operation.visits_quarantined or options.retry_quarantined
        self._quarantined = QuarantinedRows(self.table, ledger, visits=visits)
        trusting, most = options.retry_quarantined, operation.max_rejected_first
        self._rejections = Breaker(verb, most, trusting=trusting)
        self._refusals = Breaker(verb, MAX_REFUSED_FIRST, trusting=trusting)
        """Holds the rows that the database refuses to change."""
        self._writer = Writer(operation, ledger, run, self._quarantined, self._refusals)
        self._write_failed = False
        self._accounting = threading.Lock()
        self._settled: dict[int, tuple[PrimaryKey, RowCounts]] = {}
        self._accounted = 0

    @hides_keys
    def go(self) -> RowCounts:
        """Walk to the end of the table, the limit, or the interrupt.

        Raises:
            KMSError: KMS refused what every row needs; batches written before are kept.
            DatabaseError: the database refused; batches written before are kept.
            AllRowsRejectedError: the first rows were all rejected; nothing was written.
        """
        self._quarantined.load()
        try:
            if self.ledger is None or self.run is None or not self._heartbeat:
                self._walk(None)
            else:
                with Heartbeat(self.ledger, self.run) as heartbeat:
                    self._walk(heartbeat)
        finally:
            for _, part in self._settled.values():  # written beyond a batch that failed
                add_counts(self.counts, part)
        self.counts.interrupted = self.cancel.is_set()
        if self._is_whole and not self.counts.interrupted:
            self._quarantined.forget_deleted()
        return self.counts

    @property
    def _is_whole(self) -> bool:
        """Whether the walk sees every row, and may write what it learns."""
        o = self.options
        recorded = self.ledger is None or self.run is not None
        return recorded and not (o.dry_run or o.limit or o.shard or o.after or o.until)

    def _walk(self, heartbeat: Heartbeat | None) -> None:
        kms = ThreadPoolExecutor(BATCHES_WITH_KMS, thread_name_prefix="dekctl-kms")
        writers = ThreadPoolExecutor(
            self.table.database.dialect.writers, thread_name_prefix="dekctl-write"
        )
        with kms, writers:
            working: deque[tuple[Batch, Future[list[Verdict]]]] = deque()
            writing: deque[Future[None]] = deque()
            try:
                for batch in self._batches():
                    if not self.options.dry_run:
                        self.operation.expect(len(batch.rows))
                    working.append((batch, kms.submit(self._work, batch.rows)))
                    if len(working) == BATCHES_WITH_KMS:
                        self._hand_over(working, writing, writers)
                    if heartbeat is not None and heartbeat.lost is not None:
                        raise heartbeat.lost
                while working:
                    self._hand_over(working, writing, writers)
                while writing:
                    writing.popleft().result()
                self._release_held()
            except (KMSError, DatabaseError):
                if not self.give_up.is_set():
                    raise
                # The interrupt ended the waiting; those batches are simply not done.
            finally:
                for _, future in working:
                    future.cancel()

    def _hand_over(
        self,
        working: deque[tuple[Batch, Future[list[Verdict]]]],
        writing: deque[Future[None]],
        writers: ThreadPoolExecutor,
    ) -> None:
        """Take the oldest batch from KMS to the writers; wait while they are behind."""
        batch, future = working[0]
        verdicts = future.result()
        working.popleft()
        rejected = self._hold(verdicts)
        writing.append(writers.submit(self._settle, batch, verdicts, rejected))
        while len(writing) > BATCHES_WITH_WRITERS or (writing and writing[0].done()):
            writing.popleft().result()

    # -- reading -------------------------------------------------------------------------------

    def _batches(self) -> Iterator[Batch]:
        """Read rows until the table's end, the limit or the interrupt."""
        after = self.options.after
        limit = self.options.limit
        wider = 1
        taken = number = 0
        while not self.cancel.is_set() and (limit is None or taken < limit):
            self._pacing.wait(self.cancel)
            if self.cancel.is_set():
                return
            size = self._pacing.batch_size
            rows = self._read(after, max(size, min(size * wider, MAX_ROWS_PER_BATCH)))
            if not rows:
                return
            due = [row for row in rows if row.due]
            wider = 2 * wider if len(due) < SPARSE * len(rows) else 1
            skipped = self._quarantined.skipped(due)
            fresh = [row for row in due if row.pk not in skipped] if skipped else due
            if limit is not None and len(fresh) > limit - taken:
                fresh = fresh[: limit - taken]
                rows = rows[: rows.index(fresh[-1]) + 1]
                due = [row for row in rows if row.due]
            self._quarantined.mark_seen(rows)
            after = rows[-1].pk
            taken += len(fresh)
            # More rows may have been read than a transaction should write.
            for start in range(0, max(len(due), 1), size):
                part = due[start : start + size]
                final = start + size >= len(due)
                yield Batch(
                    number,
                    [row for row in part if row.pk not in skipped] if skipped else part,
                    after if final else part[-1].pk,
                    len(rows) - len(due) + len(part) if final else len(part),
                    len(part),
                    [row.pk for row in part if row.pk in skipped] if skipped else [],
                )
                number += 1
                if self.cancel.is_set():
                    return

    def _read(self, after: PrimaryKey | None, size: int) -> list[Row]:
        return self.table.read(
            after=after,
            until=self.options.until,
            size=size,
            due_sql=self._due,
            shard=self.options.shard,
            cancel=self.cancel,
        )

    # -- KMS -----------------------------------------------------------------------------------

    def _work(self, rows: list[Row]) -> list[Verdict]:
        malformed = [row.malformed() for row in rows]
        if not any(malformed):
            return self._decide(rows)
        sound = [row for row, reason in zip(rows, malformed, strict=True) if not reason]
        decided = iter(self._decide(sound))
        return [
            Rejected(row, reason) if reason else next(decided)
            for row, reason in zip(rows, malformed, strict=True)
        ]

    def _decide(self, rows: list[Row]) -> list[Verdict]:
        if not rows:
            return []
        if self.options.dry_run and not self.operation.works_in_dry_run:
            return self.operation.rehearse(rows)
        return self.operation.work(rows)

    # -- writing -------------------------------------------------------------------------------

    def _settle(self, batch: Batch, verdicts: list[Verdict], rejected: list[Rejected]) -> None:
        """Write a batch, unless another one failed before it began."""
        if self._write_failed:
            return
        try:
            part = self._settle_batch(batch, verdicts, rejected)
        except BaseException:
            self._write_failed = True
            raise
        with self._accounting:
            self._settled[batch.number] = batch.last, part
            while self._accounted in self._settled:
                position, part = self._settled.pop(self._accounted)
                self._accounted += 1
                add_counts(self.counts, part)
                self.counts.position = position
                if self.run is not None:
                    self.run.position = position
            self.progress(self.counts)

    def _settle_batch(
        self, batch: Batch, verdicts: list[Verdict], rejected: list[Rejected]
    ) -> RowCounts:
        """Write the verdicts on a batch; rows that were changed meanwhile are read again."""
        part = RowCounts(scanned=batch.scanned, due=batch.due, skipped=batch.scanned - batch.due)
        moved = self._write(verdicts, rejected, part)
        for pk in batch.quarantined:
            part.quarantine(
                pk, "in quarantine since an earlier run; once corrected: --retry-quarantined"
            )
        part.moved += len(moved)
        for _ in range(ROUNDS_FOR_MOVED):
            if not moved:
                break
            keys = moved
            found = self.table.database.run(
                lambda connection, keys=keys: self.table.fetch(connection, keys, self._due)  # type: ignore[misc]
            )
            due = [row for row in found if row.due]
            part.skipped += len(keys) - len(due)
            verdicts = self._work(due)
            # No circuit breaker: the same batch had good rows.
            moved = self._write(verdicts, [v for v in verdicts if isinstance(v, Rejected)], part)
        for pk in moved:
            part.quarantine(pk, "another writer kept changing it; run the same command again")
        return part

    def _write(
        self, verdicts: Sequence[Verdict], rejected: list[Rejected], part: RowCounts
    ) -> list[PrimaryKey]:
        """Write changes and quarantine. Returns the keys of rows to decide again: they were changed
        meanwhile, or their branch key was lost.
        """
        changes = [v for v in verdicts if isinstance(v, Change)]
        proved = [v for v in verdicts if isinstance(v, Proved)]
        part.pending += sum(isinstance(v, Pending) for v in verdicts)
        moved: list[PrimaryKey] = []
        refused = 0
        if not self.options.dry_run:
            done = self._writer.write(changes, proved, rejected, keep_going=self.options.keep_going)
            moved, refused, rejected = done.moved, done.refused, done.quarantined
        for one in rejected:
            part.quarantine(one.row.pk, one.reason)
        part.changed += len(changes) - len(moved) - refused
        part.proved += len(proved)
        return moved

    # -- rows that are bad, or a wrong setting ---------------------------------------------------

    def _hold(self, verdicts: Sequence[Verdict]) -> list[Rejected]:
        """Hold rejected rows back until one row succeeds; return those to quarantine now."""
        rejected = [v for v in verdicts if isinstance(v, Rejected)]
        good = any(isinstance(v, Change | Proved) for v in verdicts)
        return self._rejections.pass_on(rejected, good=good or self.options.keep_going)

    def _release_held(self) -> None:
        """At the end of the walk: few rows, all rejected: bad rows, not a wrong setting."""
        scanned = self.counts.scanned
        rejected = [*self._rejections.end(scanned), *self._refusals.end(scanned)]
        if rejected and not self.options.dry_run:
            self._writer.quarantine(rejected)
        for one in rejected:
            self.counts.quarantine(one.row.pk, one.reason)
