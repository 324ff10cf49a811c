"""The row engine: walks a table page by page, hands rows to KMS, writes by compare-and-swap.

Reading, KMS and writing overlap: while one page is written, the next ones are with KMS. Every page
is written in one short transaction. A run can be killed anywhere and started again: what is due is
decided by the rows alone.

Pages go to the writers in primary-key order. Where the database gains by it, two of them write at
once, so the tally is kept by page: it counts what was settled, in that order, and its position is
never ahead of a write. At most :data:`PAGES_WITH_KMS` pages are with KMS and
:data:`PAGES_WITH_WRITERS` with the writers, whatever the table's size.

The engine neither prints nor exits. It reports through a callback and returns a :class:`Tally`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from sqlalchemy import Connection

from dekctl.db.row import Change, PrimaryKey, Row
from dekctl.db.shape import Shard
from dekctl.db.table import DekTable
from dekctl.errors import DatabaseError, KMSError, RefusedError
from dekctl.kms.context import primary_key_text
from dekctl.ledger import Heartbeat, Ledger, Run
from dekctl.operations.base import Fault, Operation, Pending, Proved, Verdict
from dekctl.walk.pacing import Pressure
from dekctl.walk.quarantine import Aside
from dekctl.walk.tally import Progress, Tally, add_tally

PAGES_WITH_KMS = 3
"""Pages that are with KMS at once: enough to keep it busy while one page's last answers come in."""
PAGES_WITH_WRITERS = 3
ROWS_A_PAGE = 2000
ROWS_A_PAGE_V3 = 4000
"""Without a call to KMS for each row, what a page costs once shows more."""
ROUNDS_FOR_MOVED = 5
"""How often a row that another writer keeps changing is read and tried again."""
SPARSE = 0.1
WIDEST_PAGE = 20_000
"""Where less than one row in ten is due, pages grow to this many rows."""


@dataclass(frozen=True, slots=True)
class WalkOptions:
    """How to walk. ``limit`` bounds the rows taken up; ``batch_size`` is rows a page.

    ``after`` and ``until`` bound the primary keys: beyond the one, up to the other with it.
    ``keep_going`` sets rows aside even where the first ones are all rejected.
    """

    dry_run: bool = False
    batch_size: int | None = None
    limit: int | None = None
    shard: Shard | None = None
    after: PrimaryKey | None = None
    until: PrimaryKey | None = None
    retry_quarantined: bool = False
    keep_going: bool = False


@dataclass(slots=True)
class Page:
    """Rows read together: those to work on, and what to count for the others."""

    number: int
    rows: list[Row]
    last: PrimaryKey
    scanned: int
    due: int
    aside: list[PrimaryKey] = field(default_factory=list)


class HopelessError(RefusedError):
    """The first rows were all rejected; likely a wrong setting. This walk has written nothing."""


class Walk:
    """One walk of one operation over one table."""

    def __init__(
        self,
        operation: Operation,
        options: WalkOptions,
        *,
        ledger: Ledger | None,
        run: Run | None,
        progress: Progress = lambda _: None,
        cancel: threading.Event | None = None,
        give_up: threading.Event | None = None,
        pressure: Pressure | None = None,
        heartbeat: bool = True,
    ) -> None:
        """Prepare a walk.

        Args:
            operation: the verb.
            options: how to walk.
            ledger: where faults are quarantined; None in a dry run before the ledger exists.
            run: the ledger's entry for this walk; None where there is no ledger.
            progress: called after every page, by one thread at a time, not always the same.
            cancel: when set, the walk finishes the pages in hand and returns.
            give_up: when set, waiting for KMS and the database has been ended as well.
            pressure: what the operator asks for while the walk is on; else ``options`` all along.
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
        self.pressure = pressure or Pressure(batch_size=options.batch_size or ROWS_A_PAGE)
        self._heartbeat = heartbeat
        self.tally = Tally()
        self._due = operation.due()
        visits = operation.visits_quarantined or options.retry_quarantined
        self._aside = Aside(self.table, ledger, visits=visits)
        self._held: list[Fault] = []
        self._trusting = options.retry_quarantined
        self._write_failed = False
        self._accounting = threading.Lock()
        self._settled: dict[int, tuple[PrimaryKey, Tally]] = {}
        self._accounted = 0

    def go(self) -> Tally:
        """Walk to the end of the table, the limit, or the interrupt.

        Raises:
            KMSError: KMS refused what every row needs; pages written before are kept.
            DatabaseError: the database refused; pages written before are kept.
            HopelessError: the first rows were all rejected; nothing was written.
        """
        self._aside.begin()
        try:
            if self.ledger is None or self.run is None or not self._heartbeat:
                self._walk(None)
            else:
                with Heartbeat(self.ledger, self.run) as heartbeat:
                    self._walk(heartbeat)
        finally:
            for _, part in self._settled.values():  # written beyond a page that failed
                add_tally(self.tally, part)
        self.tally.interrupted = self.cancel.is_set()
        if self._is_whole and not self.tally.interrupted:
            self._aside.drop_gone()
        return self.tally

    @property
    def _is_whole(self) -> bool:
        """Whether the walk sees every row, and may write what it learns."""
        o = self.options
        return not (o.dry_run or o.limit or o.shard or o.after or o.until)

    def _walk(self, heartbeat: Heartbeat | None) -> None:
        kms = ThreadPoolExecutor(PAGES_WITH_KMS, thread_name_prefix="dekctl-kms")
        writers = ThreadPoolExecutor(
            self.table.database.dialect.writers, thread_name_prefix="dekctl-write"
        )
        with kms, writers:
            working: deque[tuple[Page, Future[list[Verdict]]]] = deque()
            writing: deque[Future[None]] = deque()
            try:
                for page in self._pages():
                    if not self.options.dry_run:
                        self.operation.expect(len(page.rows))
                    working.append((page, kms.submit(self._work, page.rows)))
                    if len(working) == PAGES_WITH_KMS:
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
                # The interrupt ended the waiting; those pages are simply not done.
            finally:
                for _, future in working:
                    future.cancel()

    def _hand_over(
        self,
        working: deque[tuple[Page, Future[list[Verdict]]]],
        writing: deque[Future[None]],
        writers: ThreadPoolExecutor,
    ) -> None:
        """Take the oldest page from KMS to the writers; wait while they are behind."""
        page, future = working[0]
        verdicts = future.result()
        working.popleft()
        faults = self._hold(verdicts)
        writing.append(writers.submit(self._settle, page, verdicts, faults))
        while len(writing) > PAGES_WITH_WRITERS or (writing and writing[0].done()):
            writing.popleft().result()

    # -- reading -------------------------------------------------------------------------------

    def _pages(self) -> Iterator[Page]:
        """Read pages until the table's end, the limit or the interrupt."""
        after = self.options.after
        limit = self.options.limit
        wider = 1
        taken = number = 0
        while not self.cancel.is_set() and (limit is None or taken < limit):
            self.pressure.wait(self.cancel)
            if self.cancel.is_set():
                return
            batch = self.pressure.batch_size
            rows = self._read(after, max(batch, min(batch * wider, WIDEST_PAGE)))
            if not rows:
                return
            due = [row for row in rows if row.due]
            wider = 2 * wider if len(due) < SPARSE * len(rows) else 1
            aside = self._aside.left_out(due)
            fresh = [row for row in due if row.pk not in aside] if aside else due
            if limit is not None and len(fresh) > limit - taken:
                fresh = fresh[: limit - taken]
                rows = rows[: rows.index(fresh[-1]) + 1]
                due = [row for row in rows if row.due]
            self._aside.saw(rows)
            after = rows[-1].pk
            taken += len(fresh)
            # A wide page may hold more than a transaction should.
            for start in range(0, max(len(due), 1), batch):
                part = due[start : start + batch]
                final = start + batch >= len(due)
                page = Page(
                    number,
                    [row for row in part if row.pk not in aside] if aside else part,
                    after if final else part[-1].pk,
                    len(rows) - len(due) + len(part) if final else len(part),
                    len(part),
                    [row.pk for row in part if row.pk in aside] if aside else [],
                )
                yield page
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
        malformed = [row.malformed_column() for row in rows]
        if not any(malformed):
            return self._decide(rows)
        sound = [row for row, column in zip(rows, malformed, strict=True) if not column]
        decided = iter(self._decide(sound))
        return [
            Fault(row, f"its {column} is of a type that no key has; correct the row")
            if column
            else next(decided)
            for row, column in zip(rows, malformed, strict=True)
        ]

    def _decide(self, rows: list[Row]) -> list[Verdict]:
        if not rows:
            return []
        if self.options.dry_run and not self.operation.works_in_dry_run:
            return self.operation.rehearse(rows)
        return self.operation.work(rows)

    # -- writing -------------------------------------------------------------------------------

    def _settle(self, page: Page, verdicts: list[Verdict], faults: list[Fault]) -> None:
        """Write a page, unless another one failed before it began."""
        if self._write_failed:
            return
        try:
            part = self._settle_page(page, verdicts, faults)
        except BaseException:
            self._write_failed = True
            raise
        with self._accounting:
            self._settled[page.number] = page.last, part
            while self._accounted in self._settled:
                position, part = self._settled.pop(self._accounted)
                self._accounted += 1
                add_tally(self.tally, part)
                self.tally.position = position
                if self.run is not None:
                    self.run.position = position
            self.progress(self.tally)

    def _settle_page(self, page: Page, verdicts: list[Verdict], faults: list[Fault]) -> Tally:
        """Write what was decided for a page; rows that moved meanwhile are decided anew."""
        part = Tally(scanned=page.scanned, due=page.due, skipped=page.scanned - page.due)
        moved = self._write(verdicts, faults, part)
        for pk in page.aside:
            part.set_aside(
                pk, "in quarantine since an earlier run; once corrected: --retry-quarantined"
            )
        part.moved += len(moved)
        for _ in range(ROUNDS_FOR_MOVED):
            if not moved:
                break
            keys = moved
            again = self.table.database.run(
                lambda connection, keys=keys: self.table.fetch(connection, keys, self._due)  # type: ignore[misc]
            )
            due = [row for row in again if row.due]
            part.skipped += len(keys) - len(due)
            verdicts = self._work(due)
            # No circuit breaker: the same page had good rows.
            moved = self._write(verdicts, [v for v in verdicts if isinstance(v, Fault)], part)
        for pk in moved:
            part.set_aside(pk, "another writer kept changing it; run the same command again")
        return part

    def _write(
        self, verdicts: Sequence[Verdict], faults: list[Fault], part: Tally
    ) -> list[PrimaryKey]:
        """Write changes and quarantine. Returns the keys of rows that had moved."""
        changes = [v for v in verdicts if isinstance(v, Change)]
        proved = [v for v in verdicts if isinstance(v, Proved)]
        part.pending += sum(isinstance(v, Pending) for v in verdicts)
        moved: list[PrimaryKey] = []
        if not self.options.dry_run:
            moved = self._commit([*changes, *proved], changes, faults)
        for fault in faults:
            part.set_aside(fault.row.pk, fault.reason)
        part.changed += len(changes) - len(moved)
        part.proved += len(proved)
        return moved

    def _commit(
        self, good: Sequence[Change | Proved], changes: list[Change], faults: list[Fault]
    ) -> list[PrimaryKey]:
        release = self._aside.releases
        if not (changes or faults or (release and good)):
            return []
        ledger, run = self.ledger, self.run

        def commit(connection: Connection) -> list[PrimaryKey]:
            moved = self.table.swap(
                connection, self.operation.columns, changes, erase=self.operation.erases
            )
            if ledger is not None and run is not None:
                if release:
                    still = set(moved)
                    ledger.quarantine.release(
                        connection,
                        run.table_name,
                        [v.row.pk for v in good if v.row.pk not in still],
                    )
                ledger.quarantine.add(connection, run, [(f.row.pk, f.reason) for f in faults])
            return moved

        return self.table.database.run(commit, write=True)

    # -- the circuit breaker -------------------------------------------------------------------

    def _hold(self, verdicts: Sequence[Verdict]) -> list[Fault]:
        """Hold rejected rows back until one row succeeds; refuse when none of the first does.

        A wrong setting (context name, encoding, KEK) rejects every row alike. That is for the
        operator to correct, not a reason to set a billion rows aside.

        Returns:
            The rows to set aside now.
        """
        faults = [v for v in verdicts if isinstance(v, Fault)]
        if any(isinstance(v, Change | Proved) for v in verdicts):
            self._trusting = True
        if self._trusting or self.options.keep_going:
            faults, self._held = self._held + faults, []
            return faults
        self._held += faults
        if len(self._held) >= self.operation.hopeless_after:
            first = self._held[0]
            raise HopelessError(
                f"{self.operation.name} stopped: the first {len(self._held):,} rows were all "
                f"rejected; {primary_key_text(first.row.pk)}: {first.reason}",
                hint="nothing was written; correct [table] or the KEK. If these rows really are "
                "all bad, set them aside with --keep-going",
            )
        return []

    def _release_held(self) -> None:
        """At the end of the walk: few rows, all rejected. They are poison, not a wrong setting."""
        faults, self._held = self._held, []
        if faults and not self.options.dry_run:
            self._commit([], [], faults)
        for fault in faults:
            self.tally.set_aside(fault.row.pk, fault.reason)
