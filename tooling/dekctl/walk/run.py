"""Run a verb over the configured tables: guards, ledger, engine, result."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dekctl import __version__
from dekctl.config import TableConfig
from dekctl.db.shape import Shard, Stage
from dekctl.db.table import DekTable
from dekctl.errors import DatabaseError, DekctlError, ExitCode, RefusedError, UsageError
from dekctl.kms.context import V3, primary_key_text
from dekctl.kms.interface import DEFAULT_CONCURRENCY
from dekctl.kms.limiter import RateLimiter
from dekctl.kms.router import RoutedKMS
from dekctl.ledger import Heartbeat
from dekctl.operations.base import Operation
from dekctl.operations.restore import Restore
from dekctl.operations.rewrap import Choice, Rewrap
from dekctl.operations.scrub import Scrub
from dekctl.operations.verify import Verify
from dekctl.operations.wrap import Wrap
from dekctl.project import Project
from dekctl.walk.engine import ROWS_A_PAGE, ROWS_A_PAGE_V3, Walk, WalkOptions
from dekctl.walk.estimate import Cost, cost_of_rewrap, cost_of_wrap, estimate
from dekctl.walk.guards import refuse_forgetful_kek, refuse_scrub_before_wrap
from dekctl.walk.notes import note_keks, tell_stuck, tell_unclear
from dekctl.walk.pacing import HoldBack, Note, Pressure
from dekctl.walk.processes.run import go_in_ranges, refuse_mixed, under_quota
from dekctl.walk.tally import Progress, Tally, add_tally

FROM_ELSEWHERE = "come from another provider or Region"
ANOTHER_FORM = "change between V2 and V3"


@dataclass(frozen=True, slots=True)
class RowOptions:
    """Options of every command that walks rows.

    ``rate`` is KMS calls a second, ``quota_share`` a part of what KMS allows the account, which is
    the ``ceiling`` of any rate, and ``share`` the part of the rate that is this process's.
    ``both_only`` lets ``verify`` look at rows alone that have a plaintext beside the wrapped key.
    """

    walk: WalkOptions = field(default_factory=WalkOptions)
    concurrency: int = DEFAULT_CONCURRENCY
    rate: float | None = None
    table: str | None = None
    sample: int | None = None
    target: str | None = None
    choice: Choice = field(default_factory=Choice)
    stale: bool = False
    hierarchical: bool = False
    workers: int = 1
    cluster: str | None = None
    quota_share: float | None = None
    ceiling: float | None = None
    share: float = 1.0
    control: Path | None = None
    hold_back: str | None = None
    both_only: bool = False


@dataclass(slots=True)
class RunResult:
    """What a row command did; :meth:`as_json` is the public form."""

    operation: str
    env: str
    dry_run: bool
    run_ids: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    kms_calls: dict[str, int] = field(default_factory=dict)
    carried: int = 0
    seconds: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)
    costs: list[Cost] = field(default_factory=list)
    """In a dry run: what each table would cost."""

    @property
    def exit_code(self) -> ExitCode:
        """How the command ends."""
        if self.tally.interrupted:
            return ExitCode.INTERRUPTED
        return ExitCode.ROWS_LEFT if self.tally.quarantined else ExitCode.OK

    def as_json(self) -> dict[str, Any]:
        """The fields of the contract, and what else is worth knowing."""
        tally = self.tally
        return {
            "operation": self.operation,
            "env": self.env,
            "run_id": self.run_ids[0] if self.run_ids else None,
            "dry_run": self.dry_run,
            "scanned": tally.scanned,
            "changed": tally.changed,
            "skipped": tally.skipped,
            "moved": tally.moved,
            "quarantined": tally.quarantined,
            "kms_calls": self.kms_calls,
            "seconds": self.seconds,
            "interrupted": tally.interrupted,
            "set_aside": [
                {"pk": primary_key_text(pk), "reason": reason} for pk, reason in tally.samples
            ],
            **self.extra,
        }


@dataclass(frozen=True, slots=True)
class Verb:
    """How a verb is made and what it needs."""

    make: Callable[[DekTable, RoutedKMS, RowOptions], Operation]
    stages: tuple[Stage, ...]
    past: Stage | None = None
    """A table at this stage has no work left; with several tables it is left out."""
    rehearsal_stages: tuple[Stage, ...] = ()


VERBS: dict[str, Verb] = {
    "wrap": Verb(
        lambda t, k, o: Wrap(t, k, stale=o.stale, version=_version(t, o)),
        (Stage.EXPANDED,),
        Stage.CONTRACTED,
        (Stage.LEGACY,),
    ),
    "verify": Verb(
        lambda t, k, o: Verify(t, k, both_only=o.both_only), (Stage.EXPANDED, Stage.CONTRACTED)
    ),
    "scrub": Verb(lambda t, k, _: Scrub(t, k), (Stage.EXPANDED,), Stage.CONTRACTED),
    "restore": Verb(
        lambda t, k, _: Restore(t, k), (Stage.EXPANDED,), Stage.LEGACY, (Stage.CONTRACTED,)
    ),
    "rewrap": Verb(
        lambda t, k, o: Rewrap(t, k, o.choice, o.target, version=_version(t, o)),
        (Stage.EXPANDED, Stage.CONTRACTED),
    ),
}


def run_rows(
    project: Project,
    verb: str,
    options: RowOptions,
    progress: Progress = lambda _: None,
    note: Note = lambda _: None,
) -> RunResult:
    """Run a verb over every chosen table.

    ``project.cancel`` ends it early: pages in hand are finished, the result says ``interrupted``.
    ``progress`` is called after every page, ``note`` with what else people should know.

    Raises:
        DekctlError: what stopped it, as one of its subclasses; pages written before are kept.
    """
    started = time.monotonic()
    result = RunResult(verb, project.env.name, options.walk.dry_run)
    refuse_mixed(project, options)
    options = under_quota(project, verb, options, note)
    limiter = RateLimiter(options.rate)
    options = _keks_found(project, options)
    kms = project.kms(to=options.target, concurrency=options.concurrency, limiter=limiter)
    if verb == "rewrap":
        kms.on_local_reencrypt = lambda from_elsewhere: note(
            f"rows {FROM_ELSEWHERE if from_elsewhere else ANOTHER_FORM}: their keys are unwrapped, "
            "wrapped and checked in this process"
        )
    try:
        tables = [
            ready(project, verb, config, options) for config in configs_of(project, verb, options)
        ]
        left_out = len(project.table_configs(options.table)) - len(tables)
        if left_out:
            note(f"{verb}: {left_out} tables have no work left and are left out")
        with pressure_of(project, options, kms, limiter, note) as pressure:
            for table in tables:
                tally = _run_table(
                    project, verb, table, kms, options, result, progress, pressure, note
                )
                add_tally(result.tally, tally)
                if tally.interrupted:
                    break
    finally:
        kms.close()
    result.kms_calls = dict(kms.call_counts + Counter(result.kms_calls))
    result.seconds = round(time.monotonic() - started, 3)
    if verb == "rewrap":
        result.extra["carried_over"] = kms.reencrypted_locally + result.carried
    _complete(result, verb, options)
    return result


def _keks_found(project: Project, options: RowOptions) -> RowOptions:
    """The options with the KEKs that a person named as rows name them."""
    choice, target = options.choice, options.target
    if choice.source:
        found = project.find_kek(choice.source)
        choice = replace(choice, source=found, named=choice.source)
    return replace(options, choice=choice, target=target and project.find_kek(target))


def shared_rate(options: RowOptions) -> float | None:
    """The part of the rate that is this process's, in KMS calls a second."""
    return options.rate * options.share if options.rate is not None else None


def pressure_of(
    project: Project,
    options: RowOptions,
    kms: RoutedKMS,
    limiter: RateLimiter,
    note: Note = lambda _: None,
) -> Pressure:
    """What the walks of a run obey."""
    env = project.env
    query = options.hold_back or env.hold_back_query
    control = project.config.path.parent / ".dekctl" / env.name / "control.toml"
    return Pressure(
        batch_size=options.walk.batch_size or _rows_a_page(project, options),
        rate=options.rate,
        concurrency=options.concurrency,
        limiter=limiter,
        set_concurrency=kms.set_concurrency,
        control=options.control or control,
        hold_back=HoldBack(project.database, query, env.hold_back_above) if query else None,
        note=note,
        share=options.share,
        ceiling=options.ceiling,
    )


def _rows_a_page(project: Project, options: RowOptions) -> int:
    tables = project.table_configs(options.table)
    hierarchical = options.hierarchical or all(table.wrapping == V3 for table in tables)
    return ROWS_A_PAGE_V3 if hierarchical else ROWS_A_PAGE


def configs_of(project: Project, verb: str, options: RowOptions) -> list[TableConfig]:
    """The tables that a verb is for, of those that the options choose."""
    past = VERBS[verb].past
    if past is None:
        return project.table_configs(options.table)
    return project.tables_left(options.table, past)


def ready(project: Project, verb: str, config: TableConfig, options: RowOptions) -> DekTable:
    """Inspect a table and let the guards of the verb look at it.

    Raises:
        RefusedError: it is at the wrong stage, was not expanded by dekctl, or would lose a key.
    """
    stages = VERBS[verb].stages
    if options.walk.dry_run:
        stages += VERBS[verb].rehearsal_stages
    table = project.table_at(config, *stages)
    if not options.walk.dry_run and not project.ledger.exists():
        raise RefusedError(
            f"{config.name} has dekctl's columns, but there is no ledger",
            hint="take the table over with: dekctl schema expand",
        )
    if verb in {"wrap", "rewrap", "scrub"}:
        table.refuse_ambiguous_key()
    if verb == "scrub":
        refuse_forgetful_kek(table)
        if project.ledger.exists():  # a rehearsal may come before it
            refuse_scrub_before_wrap(table, project.ledger)
    return table


def _run_table(
    project: Project,
    verb: str,
    table: DekTable,
    kms: RoutedKMS,
    options: RowOptions,
    result: RunResult,
    progress: Progress,
    pressure: Pressure,
    note: Note,
) -> Tally:
    operation = VERBS[verb].make(table, kms, options)
    walk_options = _sampled(options, table) if options.sample else options.walk
    ledger = project.ledger if project.ledger.exists() else None
    run = None
    before, elsewhere = kms.call_counts, Counter(result.kms_calls)

    def calls() -> Counter[str]:
        return kms.call_counts - before + (Counter(result.kms_calls) - elsewhere)

    if ledger is not None:
        run = ledger.start(
            verb,
            table.config.context_name,
            shard=walk_options.shard,
            writes=not options.walk.dry_run and bool(operation.columns),
            kek_id=operation.target if isinstance(operation, Rewrap) else None,
            version=__version__,
        )
        result.run_ids.append(run.run_id)
    walk = Walk(
        operation,
        walk_options,
        ledger=ledger,
        run=run,
        progress=progress,
        cancel=project.cancel,
        give_up=project.give_up,
        pressure=pressure,
    )
    try:
        if not walk_options.dry_run:
            with Heartbeat(ledger, run) if ledger and run else contextlib.nullcontext():
                operation.begin()  # many branch keys take longer than the lease
        if isinstance(operation, Rewrap) and operation.branches.failed:
            tell_stuck(operation.branches, note)
            if operation.branches.rewrapped:  # they are damaged: it is no wrong setting
                walk.options = replace(walk.options, keep_going=True)
        if options.workers > 1 or options.cluster:
            tally = go_in_ranges(project, walk, options, table, result, progress, note)
        else:
            tally = walk.go()
    except BaseException as error:
        if ledger is not None and run is not None:
            run.result = {**_summary(walk.tally), "kms_calls": dict(calls())}
            note_keks(run, operation)
            text = error.message if isinstance(error, DekctlError) else type(error).__name__
            # What stopped the run counts, not that the ledger could not be told.
            with contextlib.suppress(DatabaseError):
                ledger.end(run, "failed", text)
        raise
    if isinstance(operation, Rewrap):
        per_key = table.config.rows_per_branch_key
        cost = cost_of_rewrap(operation.kinds, kms.target, operation.version, per_key)
        result.costs.append(cost)
        tell_unclear(operation, note)
    elif isinstance(operation, Wrap):
        per_key = table.config.rows_per_branch_key
        result.costs.append(cost_of_wrap(tally.changed, operation.version, per_key))
    if ledger is not None and run is not None:
        run.result = {**_summary(tally), "kms_calls": dict(calls())}
        note_keks(run, operation)
        if isinstance(operation, Rewrap):
            whole = not tally.interrupted and not tally.quarantined
            whole = whole and walk_options.limit is None and walk_options.shard is None
            run.result |= operation.account(whole=whole)
        ledger.end(run, "interrupted" if tally.interrupted else "finished")
    return tally


def _version(table: DekTable, options: RowOptions) -> str:
    version = V3 if options.hierarchical else table.config.wrapping
    if version == V3 and table.config.kek_by is not None:
        raise UsageError(
            f"{table.config.name} has a KEK for each {table.config.kek_by.column} (kek_by); "
            "branch keys are shared by all rows of a table",
            hint="leave --hierarchical out for this table: --table NAME chooses the others",
        )
    return version


def _sampled(options: RowOptions, table: DekTable) -> WalkOptions:
    """Spread a sample over the table: one shard out of as many as give about that many rows."""
    assert options.sample is not None
    if options.walk.shard is not None:
        raise UsageError("--sample and --shard exclude each other", hint="leave one of them out")
    parts = max(1, table.estimate_rows() // options.sample)
    shard = Shard(secrets.randbelow(parts) + 1, parts) if parts > 1 else None
    return replace(options.walk, shard=shard, limit=options.sample)


def _summary(tally: Tally) -> dict[str, Any]:
    return {
        "scanned": tally.scanned,
        "changed": tally.changed,
        "skipped": tally.skipped,
        "moved": tally.moved,
        "quarantined": tally.quarantined,
        "proved": tally.proved,
    }


def _complete(result: RunResult, verb: str, options: RowOptions) -> None:
    tally = result.tally
    if verb == "verify":
        result.extra |= {
            "verified": tally.proved,
            "failed": tally.quarantined,
            "pending": tally.pending,
        }
    if options.walk.dry_run and verb in {"wrap", "rewrap"}:
        result.extra["estimate"] = estimate(result.costs, options.rate)
