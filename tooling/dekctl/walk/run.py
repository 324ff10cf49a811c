"""Run a verb over the configured tables: guards, ledger, engine, result."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dekctl import __version__
from dekctl.db.database import ReadOnlyDatabaseError
from dekctl.db.shape import Shard, Stage
from dekctl.db.table import DekTable
from dekctl.errors import DatabaseError, DekctlError, of_table
from dekctl.kms.limiter import RateLimiter
from dekctl.kms.router import RoutedKMS
from dekctl.ledger import Heartbeat, Ledger, Run, RunState
from dekctl.operations.base import Notify, Operation, Verb
from dekctl.project import Project
from dekctl.schema.inspection import refuse, warnings
from dekctl.walk.counts import RowCounts, add_counts
from dekctl.walk.engine import Walk
from dekctl.walk.estimate import estimate
from dekctl.walk.options import RowOptions, RunSettings, WalkOptions
from dekctl.walk.pacing import Pacing, pacing_for
from dekctl.walk.processes.processors import worthwhile
from dekctl.walk.processes.run import Processes, walk_in_processes
from dekctl.walk.progress import Moment, Progress
from dekctl.walk.result import RunResult
from dekctl.walk.settings import decide
from dekctl.walk.tables import check_table, tables_for


def run_rows(
    project: Project,
    verb: Verb,
    options: RowOptions,
    progress: Progress | None = None,
    notify: Notify = lambda _: None,
) -> RunResult:
    """Run a verb over every chosen table.

    ``project.cancel`` ends it early: batches in hand are finished, the result says ``interrupted``.
    ``progress`` is called at the start and the end of each table and after every batch, ``notify``
    with what else people should know.

    Raises:
        DekctlError: what stopped it, as one of its subclasses; batches written before are kept.
    """
    started = time.monotonic()
    settings = decide(project, verb, options, notify)
    options = worthwhile(project, options, settings.rate, notify)
    verb = verb.with_keks(project.find_kek)
    limiter = RateLimiter(settings.rate)
    kms = project.kms(to=verb.target, concurrency=settings.concurrency, limiter=limiter)
    kms.on_local_reencrypt = lambda from_elsewhere: notify(_LOCALLY[from_elsewhere])
    result = RunResult(verb.name, project.env.name, options.dry_run, verb.writes)
    try:
        tables = _tables(project, verb, options, notify)
        with pacing_for(project, settings, kms, limiter, notify) as pacing:
            run = _TableRun(
                project, verb, options, settings, kms, pacing, limiter, result, progress, notify
            )
            with _told_apart(tables, notify) as done:
                for table in tables:
                    with of_table(table.config.name, several=project.has_several_tables):
                        counts = run.go(table)
                    add_counts(result.counts, counts)
                    if counts.interrupted:
                        break
                    done.append(table.config.name)
    finally:
        kms.close()
    result.kms_calls += kms.call_counts
    result.reencrypted_locally += kms.reencrypted_locally
    result.extra |= verb.result_fields(reencrypted_locally=result.reencrypted_locally)
    if options.dry_run and result.costs:
        result.extra["estimate"] = estimate(result.costs, settings.rate)
    result.seconds = round(time.monotonic() - started, 3)
    return result


@contextlib.contextmanager
def _told_apart(tables: Sequence[DekTable], notify: Notify) -> Iterator[list[str]]:
    """Tell which of several tables are done, where a run stops before the last one is."""
    done: list[str] = []
    try:
        yield done
    finally:
        left = [table.config.name for table in tables[len(done) :]]
        if left and len(tables) > 1:
            later = f"; not started: {', '.join(left[1:])}" if left[1:] else ""
            notify(f"done: {', '.join(done) or 'no table'}; stopped in: {left[0]}{later}")


_LOCALLY = {
    True: "rows of another provider or Region: each key is decrypted, wrapped and verified in this "
    "process",
    False: "rows that change between V2 and V3: each key is decrypted, wrapped and verified in "
    "this process",
}


def _tables(project: Project, verb: Verb, options: RowOptions, notify: Notify) -> list[DekTable]:
    tables = tables_for(project, verb, options)
    for config in project.table_configs(options.table):
        if config not in [table.config for table in tables]:
            assert verb.done_at is not None
            where = "at the legacy schema" if verb.done_at is Stage.LEGACY else verb.done_at.value
            notify(f"{verb.name}: {config.name} is already {where}, nothing to do")
    for table in tables:
        check_table(project, verb, table, options)
    known = project.ledger.exists()
    if options.dry_run:
        for table in tables:
            refuse(table, "dry run")
            saved = project.ledger.table_metadata(table.config.context_name) if known else {}
            left_out = bool(saved.get("without_trigger"))
            for warning in warnings(table, "dry run", without_trigger=left_out):
                notify(warning)
    elif verb.writes:
        for warning in filter(None, (table.copies_of_rows() for table in tables)):
            notify(warning)
    return tables


@dataclass(frozen=True, slots=True)
class _TableRun:
    """Runs a verb over one table after the other."""

    project: Project
    verb: Verb
    options: RowOptions
    settings: RunSettings
    kms: RoutedKMS
    pacing: Pacing
    limiter: RateLimiter
    result: RunResult
    progress: Progress | None
    notify: Notify

    def go(self, table: DekTable) -> RowCounts:
        """Run over one table, with an entry in the ledger if there is a ledger.

        Raises:
            DekctlError: what stopped it; the ledger has it too.
        """
        project, result = self.project, self.result
        operation = self.verb.on(table, self.kms)
        options = self._walk_options(table)
        ledger = project.ledger if project.ledger.exists() else None
        run = None
        calls_before = self._calls()
        if ledger is not None:
            run = self._start(ledger, operation, options)
        if run is not None and project.acts_in_roles:
            self.kms.act_for(run.run_id)
        tell = self._teller(table, options, run)

        def on_counts(counts: RowCounts) -> None:
            tell(counts, self._calls() - calls_before, False)

        walk = Walk(
            self.verb.name,
            operation,
            options,
            ledger=ledger,
            run=run,
            progress=on_counts,
            cancel=project.cancel,
            give_up=project.give_up,
            pacing=self.pacing,
        )
        if run is not None:
            self._note_progress(run, walk, calls_before)
        try:
            on_counts(walk.counts)
            self._begin(walk)
            counts = self._walk(walk)
        except BaseException as error:
            if ledger is not None and run is not None:
                _record(run, walk, self._calls() - calls_before)
                text = error.message if isinstance(error, DekctlError) else type(error).__name__
                # Report what stopped the run, not that the ledger could not be written.
                with contextlib.suppress(DatabaseError):
                    ledger.end(run, RunState.FAILED, text)
            raise
        if (cost := operation.cost(counts.changed)) is not None:
            result.costs.append(cost)
        operation.end(self.notify)
        if ledger is not None and run is not None:
            _record(run, walk, self._calls() - calls_before)
            complete = not (counts.interrupted or counts.quarantined)
            complete = complete and options.limit is None and options.shard is None
            run.result["whole"] = not counts.interrupted and not (options.limit or options.shard)
            run.result |= operation.ledger_facts(complete=complete)
            state = RunState.INTERRUPTED if counts.interrupted else RunState.FINISHED
            ledger.end(run, state)
        tell(counts, self._calls() - calls_before, True)
        return counts

    def _teller(
        self, table: DekTable, options: WalkOptions, run: Run | None
    ) -> Callable[[RowCounts, Counter[str], bool], None]:
        """What tells the caller how far the run over a table is; without one, nothing is asked."""
        progress = self.progress
        if progress is None:
            return lambda _counts, _calls, _ended: None
        rows, counted = table.rows_at_a_glance()
        if options.shard is not None:
            rows, counted = rows // options.shard.count, False

        def tell(counts: RowCounts, calls: Counter[str], ended: bool) -> None:
            now = self.limiter.snapshot()
            progress(
                Moment(
                    self.verb.name,
                    table.config.name,
                    run.run_id if run is not None else None,
                    replace(counts),  # it goes on
                    rows,
                    not counted,
                    options.limit,
                    calls,
                    now.latency,
                    now.throttles,
                    ended,
                )
            )

        return tell

    def _start(self, ledger: Ledger, operation: Operation, options: WalkOptions) -> Run | None:
        """Enter the run into the ledger; None on a replica, for a run that only looks.

        Raises:
            DekctlError: another run works on the same rows, or the database refused.
        """
        writes = not options.dry_run and self.verb.writes
        try:
            run = ledger.start(
                self.verb.name,
                operation.table.config.context_name,
                shard=options.shard,
                writes=writes,
                kek_id=operation.kek_id,
                version=__version__,
                result={"dry_run": options.dry_run},
            )
        except ReadOnlyDatabaseError:
            if writes:
                raise
            self.notify(
                "the database is read-only: this run is not recorded in the ledger, and no row "
                "goes into or out of quarantine"
            )
            return None
        self.result.run_ids.append(run.run_id)
        return run

    def _note_progress(self, run: Run, walk: Walk, calls_before: Counter[str]) -> None:
        """Let each heartbeat note rows and calls so far: all that is left of a run once it is
        killed, so that people see what it did and `dekctl audit` can say which calls it explains.
        """
        rows: dict[str, int] = {}
        with contextlib.suppress(DatabaseError):  # then nobody knows how many rows are left
            rows["rows"] = walk.table.estimate_rows()

        def so_far() -> dict[str, Any]:
            return {**_facts(walk.options, walk.counts, self._calls() - calls_before), **rows}

        run.progress = so_far

    def _calls(self) -> Counter[str]:
        """KMS calls so far, those of workers included."""
        return self.kms.call_counts + self.result.kms_calls.copy()  # a heartbeat asks meanwhile

    def _walk_options(self, table: DekTable) -> WalkOptions:
        o = self.options
        options = WalkOptions(
            dry_run=o.dry_run,
            limit=o.limit,
            shard=o.shard,
            retry_quarantined=o.retry_quarantined,
            keep_going=o.keep_going,
        )
        sample = self.verb.sample
        if sample is None:
            return options
        # Spread over the table: one shard out of as many as give about that many rows.
        parts = max(1, table.estimate_rows() // sample)
        shard = Shard(secrets.randbelow(parts) + 1, parts) if parts > 1 else None
        return replace(options, shard=shard, limit=sample)

    def _begin(self, walk: Walk) -> None:
        if walk.options.dry_run:
            return
        ledger, run = walk.ledger, walk.run
        with Heartbeat(ledger, run) if ledger and run else contextlib.nullcontext():
            walk.operation.begin(self.notify)  # many branch keys take longer than the lease
        if walk.operation.settings_proved:
            walk.options = replace(walk.options, keep_going=True)

    def _walk(self, walk: Walk) -> RowCounts:
        if not self.options.in_processes:
            return walk.go()
        processes = Processes(self.options.workers, self.options.cluster, self.notify)
        return walk_in_processes(
            self.project, self.verb, self.settings, walk, processes, self.result, self.limiter
        )


def _record(run: Run, walk: Walk, calls: Counter[str]) -> None:
    """Put the result into the run's entry: counts, calls, and the KEKs that KMS really used.

    The ``dry_run`` of the entry itself is also true of a verb that only looks.
    """
    run.result = _facts(walk.options, walk.counts, calls)
    keks = walk.operation.counts["keks"]
    if len(keks) == 1:
        run.kek_id = next(iter(keks))
    elif keks:
        run.result["keks"] = dict(keks)


def _facts(options: WalkOptions, counts: RowCounts, calls: Counter[str]) -> dict[str, Any]:
    """What an entry says of the rows, while the run is on and at its end."""
    return {
        **counts.as_json(),
        "proved": counts.proved,
        "dry_run": options.dry_run,
        "incomplete": counts.incomplete,
        "kms_calls": dict(calls),
    }
