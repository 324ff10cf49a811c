"""Decides once, before a run, what its options leave open; refuses those that exclude another."""

from __future__ import annotations

from dekctl.db.shape import Shard
from dekctl.errors import UsageError
from dekctl.kms.context import V3
from dekctl.operations.base import Notify, Verb
from dekctl.project import Project
from dekctl.walk.options import ROWS_PER_BATCH, ROWS_PER_BATCH_V3, RowOptions, RunSettings


def decide(project: Project, verb: Verb, options: RowOptions, notify: Notify) -> RunSettings:
    """Decide how a run goes about its work.

    Raises:
        UsageError: options exclude each other, or the quota is not known.
        KMSError: KMS refused or cannot be reached.
    """
    _refuse_mixed(project, verb, options)
    env = project.env
    rate, max_rate = options.rate, None
    if options.quota_share is not None:
        max_rate = _rate_under_quota(project, verb, options.quota_share, options.shard, notify)
        rate = min(max_rate, options.rate or max_rate)
    control = options.control or project.config.path.parent / ".dekctl" / env.name / "control.toml"
    return RunSettings(
        batch_size=options.batch_size or _default_batch_size(project, verb, options.table),
        concurrency=options.concurrency,
        rate=rate,
        max_rate=max_rate,
        control=control.absolute(),
        hold_back=options.hold_back or env.hold_back_query,
        hold_back_above=env.hold_back_above,
    )


def _default_batch_size(project: Project, verb: Verb, table: str | None) -> int:
    configs = project.table_configs(table)
    hierarchical = verb.hierarchical or all(config.wrapping == V3 for config in configs)
    return ROWS_PER_BATCH_V3 if hierarchical else ROWS_PER_BATCH


def _refuse_mixed(project: Project, verb: Verb, options: RowOptions) -> None:
    """Refuse options that exclude each other.

    Raises:
        UsageError: some do.
    """
    if options.workers > 1 and options.cluster:
        raise UsageError("--workers and --cluster exclude each other", hint="keep one of them")
    if verb.sample is not None and options.shard is not None:
        raise UsageError("--sample and --shard exclude each other", hint="keep one of them")
    if not options.in_processes:
        return
    if options.limit or verb.sample:
        raise UsageError(
            "--limit and --sample work in one process only",
            hint="leave out --workers and --cluster",
        )
    if not project.provider.lasts:
        raise UsageError(
            f"the {project.provider.name} provider keeps its KEK in one process",
            hint="leave out --workers and --cluster, or set another provider",
        )


def _rate_under_quota(
    project: Project, verb: Verb, part: float, shard: Shard | None, notify: Notify
) -> float:
    """Turn a part of KMS's current quota into a rate, in calls per second.

    Raises:
        UsageError: the quota is not known.
    """
    if not project.uses_aws:
        raise UsageError(
            "--quota-share applies to AWS KMS, which is not the provider here", hint="use --rate"
        )
    kms = project.aws(verb.role)
    try:
        quota = kms.live_quota()
    finally:
        kms.close()
    if quota is None:
        raise UsageError(
            "Service Quotas does not report the KMS quota of this account and Region",
            hint="allow servicequotas:GetServiceQuota to the role, or set the limit: --rate N",
        )
    rate = quota * part
    if shard is not None:
        rate /= shard.count
        notify(f"the share of the quota is divided among {shard.count} shards")
    notify(f"KMS allows {quota:,.0f} calls per second here; this run makes at most {rate:,.0f}")
    return rate
