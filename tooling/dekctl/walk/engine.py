"""The row engine: walks a table page by page, hands rows to KMS, writes by compare-and-swap.

Reading, KMS and writing overlap: while one page is written, the next ones are with KMS. Every page
is written in one short transaction, in primary-key order, so a run can be killed anywhere and
started again: what is due is decided by the rows alone.

At most :data:`PAGES_WITH_KMS` pages are with KMS and two with the writer, whatever the table's
size. The tally belongs to the writer's thread: it counts what was settled, never what was read
ahead and dropped.

The engine neither prints nor exits. It reports through a callback and returns a :class:`Tally`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from sqlalchemy import Connection

from dekctl.db.rows import Change, PrimaryKey, Row
from dekctl.db.table import DekTable, Shard
from dekctl.errors import DatabaseError, KMSError, RefusedError
from dekctl.kms.context import primary_key_text
from dekctl.ledger import Heartbeat, Ledger, Run
from dekctl.operations.base import Fault, Operation, Proved, Verdict
from dekctl.walk.pressure import Pressure
from dekctl.walk.tally import Progress, Tally

PAGES_WITH_KMS = 3
"""Pages that are with KMS at once: enough to keep it busy while one page's last answers come in."""
PAGES_WITH_WRITER = 2
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
    batch_size: int = 2000
    limit: int | None = None
    shard: Shard | None = None
    after: PrimaryKey | None = None
    until: PrimaryKey | None = None
    retry_quarantined: bool = False
    keep_going: bool = False


@dataclass(slots=True)
class Page:
    """Rows read together: those to work on, and what to count for the others."""

    rows: list[Row]
    last: PrimaryKey
    scanned: int
    due: int
    aside: list[PrimaryKey] = field(default_factory=list)


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
            progress: called after every page, from the engine's writing thread.
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
        self.pressure = pressure or Pressure(batch_size=options.batch_size)
        self._heartbeat = heartbeat
        self.tally = Tally()
        self._due = operation.due()
        self._had_quarantine = False
        self._held: list[Fault] = []
        self._write_failed = False

    def go(self) -> Tally:
        """Walk to the end of the table, the limit, or the interrupt.

        Raises:
            KMSError: KMS refused what every row needs; pages written before are kept.
            DatabaseError: the database refused; pages written before are kept.
            RefusedError: the first rows were all rejected; nothing was written.
        """
        if self.ledger is not None:
            ledger = self.ledger
            name = self.table.config.context_name
            self._had_quarantine = self.table.database.run(
                lambda connection: ledger.quarantine.count(connection, name) > 0
            )
        if self.ledger is None or self.run is None or not self._heartbeat:
            self._walk(None)
            return self.tally
        with Heartbeat(self.ledger, self.run) as heartbeat:
            self._walk(heartbeat)
        return self.tally

    def _walk(self, heartbeat: Heartbeat | None) -> None:
        kms = ThreadPoolExecutor(PAGES_WITH_KMS, thread_name_prefix="dekctl-kms")
        writer = ThreadPoolExecutor(1, thread_name_prefix="dekctl-write")
        with kms, writer:
            working: deque[tuple[Page, Future[list[Verdict]]]] = deque()
            writing: deque[Future[None]] = deque()
            try:
                for page in self._pages():
                    working.append((page, kms.submit(self._work, page.rows)))
                    if len(working) == PAGES_WITH_KMS:
                        self._hand_over(working, writing, writer)
                    if heartbeat is not None and heartbeat.lost is not None:
                        raise heartbeat.lost
                while working:
                    self._hand_over(working, writing, writer)
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
        self.tally.interrupted = self.cancel.is_set()

    def _hand_over(
        self,
        working: deque[tuple[Page, Future[list[Verdict]]]],
        writing: deque[Future[None]],
        writer: ThreadPoolExecutor,
    ) -> None:
        """Take the oldest page from KMS to the writer; wait while the writer is behind."""
        page, future = working[0]
        verdicts = future.result()
        working.popleft()
        writing.append(writer.submit(self._settle, page, verdicts))
        while len(writing) >= PAGES_WITH_WRITER or (writing and writing[0].done()):
            writing.popleft().result()

    # -- reading -------------------------------------------------------------------------------

    def _pages(self) -> Iterator[Page]:
        """Read pages until the table's end, the limit or the interrupt."""
        after = self.options.after
        limit = self.options.limit
        wider = 1
        taken = 0
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
            if limit is not None and len(due) > limit - taken:
                due = due[: limit - taken]
                rows = rows[: rows.index(due[-1]) + 1]
            after = rows[-1].pk
            taken += len(due)
            # A wide page may hold more than a transaction should.
            for start in range(0, max(len(due), 1), batch):
                part = due[start : start + batch]
                final = start + batch >= len(due)
                page = Page(
                    part,
                    after if final else part[-1].pk,
                    len(rows) - len(due) + len(part) if final else len(part),
                    len(part),
                )
                self._leave_quarantined(page)
                yield page
                if self.cancel.is_set():
                    return

    def _read(self, after: PrimaryKey | None, size: int) -> list[Row]:
        table, until, shard = self.table, self.options.until, self.options.shard
        return table.database.run(
            lambda connection: table.page(
                connection, after=after, until=until, size=size, due=self._due, shard=shard
            )
        )

    def _leave_quarantined(self, page: Page) -> None:
        ledger, name = self.ledger, self.table.config.context_name
        if not page.rows or not self._had_quarantine or self._visits_quarantined or ledger is None:
            return
        left_out = self.table.database.run(
            lambda connection: ledger.quarantine.among(connection, name, [r.pk for r in page.rows])
        )
        page.aside = [row.pk for row in page.rows if row.pk in left_out]
        page.rows = [row for row in page.rows if row.pk not in left_out]

    @property
    def _visits_quarantined(self) -> bool:
        return self.operation.visits_quarantined or self.options.retry_quarantined

    # -- KMS -----------------------------------------------------------------------------------

    def _work(self, rows: list[Row]) -> list[Verdict]:
        strange = [row.strange() for row in rows]
        decided = iter(self._decide([r for r, why in zip(rows, strange, strict=True) if not why]))
        return [
            Fault(row, f"its {why} is of a type that no key has; correct the row")
            if why
            else next(decided)
            for row, why in zip(rows, strange, strict=True)
        ]

    def _decide(self, rows: list[Row]) -> list[Verdict]:
        if not rows:
            return []
        if self.options.dry_run and not self.operation.works_in_dry_run:
            return self.operation.rehearse(rows)
        return self.operation.work(rows)

    # -- writing -------------------------------------------------------------------------------

    def _settle(self, page: Page, verdicts: list[Verdict]) -> None:
        """Write a page, unless an earlier one failed: positions must not run ahead of writes."""
        if self._write_failed:
            return
        try:
            self._settle_page(page, verdicts)
        except BaseException:
            self._write_failed = True
            raise

    def _settle_page(self, page: Page, verdicts: list[Verdict]) -> None:
        """Write what was decided for a page; rows that moved meanwhile are decided anew."""
        tally = self.tally
        moved = self._write(verdicts)
        tally.scanned += page.scanned
        tally.due += page.due
        tally.skipped += page.scanned - page.due
        for pk in page.aside:
            tally.set_aside(
                pk, "in quarantine since an earlier run; once corrected: --retry-quarantined"
            )
        tally.moved += len(moved)
        for _ in range(ROUNDS_FOR_MOVED):
            if not moved:
                break
            keys = moved
            again = self.table.database.run(
                lambda connection, keys=keys: self.table.fetch(connection, keys, self._due)  # type: ignore[misc]
            )
            due = [row for row in again if row.due]
            tally.skipped += len(keys) - len(due)
            moved = self._write(self._work(due))
        for pk in moved:
            tally.set_aside(pk, "another writer kept changing it; run the same command again")
        tally.position = page.last  # pages are settled in order
        if self.run is not None:
            self.run.position = tally.position
        self.progress(tally)

    def _write(self, verdicts: Sequence[Verdict]) -> list[PrimaryKey]:
        """Write changes and quarantine. Returns the keys of rows that had moved."""
        changes = [v for v in verdicts if isinstance(v, Change)]
        faults = [v for v in verdicts if isinstance(v, Fault)]
        proved = [v for v in verdicts if isinstance(v, Proved)]
        self.tally.pending += len(verdicts) - len(changes) - len(faults) - len(proved)
        faults = self._hold(faults, hope=bool(changes or proved))
        moved: list[PrimaryKey] = []
        if not self.options.dry_run:
            good = [v.row.pk for v in changes] + [v.row.pk for v in proved]
            moved = self._commit(good, changes, faults)
        for fault in faults:
            self.tally.set_aside(fault.row.pk, fault.reason)
        self.tally.changed += len(changes) - len(moved)
        self.tally.proved += len(proved)
        return moved

    def _commit(
        self, good: list[PrimaryKey], changes: list[Change], faults: list[Fault]
    ) -> list[PrimaryKey]:
        release = self._had_quarantine and self._visits_quarantined
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
                        connection, run.table_name, [pk for pk in good if pk not in still]
                    )
                ledger.quarantine.add(connection, run, [(f.row.pk, f.reason) for f in faults])
            return moved

        return self.table.database.run(commit, write=True)

    # -- the circuit breaker -------------------------------------------------------------------

    def _hold(self, faults: list[Fault], *, hope: bool) -> list[Fault]:
        """Hold rejected rows back until one row succeeds; refuse when none of the first does.

        A wrong setting (context name, encoding, KEK) rejects every row alike. That is for the
        operator to correct, not a reason to set a billion rows aside.
        """
        most = self.operation.hopeless_after
        trusting = self.options.keep_going or self.options.retry_quarantined
        if hope or trusting or self.tally.changed or self.tally.proved:
            faults, self._held = self._held + faults, []
            return faults
        self._held += faults
        if len(self._held) >= most:
            first = self._held[0]
            raise RefusedError(
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
