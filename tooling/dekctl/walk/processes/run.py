"""How a run spreads over processes: which options go together, the rate, the workers."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from dekctl.config.roles import Role
from dekctl.db.table import DekTable
from dekctl.errors import UsageError
from dekctl.operations.rewrap import Rewrap
from dekctl.project import Project
from dekctl.walk.engine import Walk, WalkOptions
from dekctl.walk.pacing import Note
from dekctl.walk.tally import Progress, Tally

if TYPE_CHECKING:
    from dekctl.walk.run import RowOptions, RunResult


def refuse_mixed(project: Project, options: RowOptions) -> None:
    """Refuse options that say nothing together.

    Raises:
        UsageError: they exclude each other.
    """
    many = options.workers > 1 or options.cluster is not None
    if options.workers > 1 and options.cluster:
        raise UsageError("--workers and --cluster exclude each other", hint="keep one of them")
    if many and (options.walk.limit or options.sample):
        raise UsageError(
            "--limit and --sample are for one process", hint="leave out --workers and --cluster"
        )
    if many and not project.provider.lasts:
        raise UsageError(
            f"the {project.provider.name} provider keeps its KEK in one process",
            hint="leave out --workers and --cluster, or set another provider",
        )


def under_quota(project: Project, verb: str, options: RowOptions, note: Note) -> RowOptions:
    """Turn a share of KMS's live quota into a rate.

    Raises:
        UsageError: nobody tells the quota.
    """
    if options.quota_share is None:
        return options
    if not project.uses_aws:
        raise UsageError(
            "--quota-share is about AWS KMS, which is not the provider here", hint="use --rate"
        )
    kms = project.aws({"wrap": Role.WRAPPER, "rewrap": Role.REWRAPPER}.get(verb, Role.VERIFIER))
    try:
        quota = kms.live_quota()
    finally:
        kms.close()
    if quota is None:
        raise UsageError(
            "Service Quotas does not tell the KMS quota of this account and Region",
            hint="allow servicequotas:GetServiceQuota to the role, or set the limit: --rate N",
        )
    rate, shard = quota * options.quota_share, options.walk.shard
    if shard is not None:
        rate /= shard.count
        note(f"the share of the quota is divided among {shard.count} shards")
    note(f"KMS allows {quota:,.0f} calls a second here; this run makes at most {rate:,.0f}")
    return replace(options, rate=min(rate, options.rate or rate), ceiling=rate)


def go_in_ranges(
    project: Project,
    walk: Walk,
    options: RowOptions,
    table: DekTable,
    result: RunResult,
    progress: Progress,
    note: Note,
) -> Tally:
    """Do a walk in several processes; ``walk`` lends its operation, ledger and run.

    Raises:
        DekctlError: the first error of a worker; ranges done before are kept.
    """
    from dekctl.walk.processes.local import LocalWorkers  # noqa: PLC0415 - both need this module themselves
    from dekctl.walk.processes.ranges import Done, Job, Workers, merge_counts, walk_ranges  # noqa: PLC0415

    operation, run = walk.operation, walk.run

    def job(part: WalkOptions) -> Job:
        share = options.share / workers.count
        return Job(
            config_file=str(project.config.path.absolute()),
            env=project.env.name,
            assume_role=project.assume_role,
            verb=operation.name,
            options=replace(options, walk=part, share=share),
            table=table.config.name,
            run_id=run.run_id if run is not None else None,
            writes=run is not None and run.writes,
        )

    def settled(done: Done) -> None:
        merge_counts(result.kms_calls, done.kms_calls)
        result.carried += done.carried
        operation.written_under.update(done.written_under)
        if isinstance(operation, Rewrap):
            operation.kinds.update(done.kinds)
            operation.sources.update(done.sources)
            operation.materials.update(done.materials)

    with contextlib.ExitStack() as stack:
        workers: Workers
        if options.cluster:
            from dekctl.walk.processes.dask import ClusterWorkers  # noqa: PLC0415 - needs the extra `cluster`

            workers = stack.enter_context(ClusterWorkers(options.cluster, note))
        else:
            workers = stack.enter_context(LocalWorkers(options.workers))
        return walk_ranges(
            table,
            workers,
            job,
            walk.options,
            tally=walk.tally,
            rate=options.rate,
            ledger=walk.ledger,
            run=run,
            progress=progress,
            settled=settled,
            cancel=project.cancel,
        )
