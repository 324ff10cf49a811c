"""One walk in several processes: of this machine, or of a Dask cluster."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from dekctl.kms.limiter import RateLimiter
from dekctl.operations.base import Notify, Verb
from dekctl.project import Project
from dekctl.walk.counts import RowCounts
from dekctl.walk.engine import Walk
from dekctl.walk.options import RunSettings, WalkOptions, WorkerShare
from dekctl.walk.processes.job import Done, Job, Workers
from dekctl.walk.processes.local import LocalWorkers
from dekctl.walk.processes.ranges import walk_ranges
from dekctl.walk.result import RunResult


@dataclass(frozen=True, slots=True)
class Processes:
    """Which processes: ``local`` ones of this machine, unless the address of a cluster is given."""

    local: int
    cluster: str | None
    notify: Notify

    def start(self, stack: contextlib.ExitStack) -> Workers:
        """Start or find the workers; ``stack`` lets them go.

        Raises:
            UsageError: the cluster cannot be reached, or its client is not installed.
        """
        if self.cluster is None:
            return stack.enter_context(LocalWorkers(self.local))
        from dekctl.walk.processes.dask import ClusterWorkers  # noqa: PLC0415 - needs the extra `cluster`

        return stack.enter_context(ClusterWorkers(self.cluster, self.notify))


def walk_in_processes(
    project: Project,
    verb: Verb,
    settings: RunSettings,
    walk: Walk,
    processes: Processes,
    result: RunResult,
    limiter: RateLimiter,
) -> RowCounts:
    """Do a walk in several processes; ``walk`` lends its operation, counts, ledger and run.

    KMS calls of the workers are added to ``result``; what they see of KMS, to ``limiter``.

    Raises:
        DekctlError: the first error of a worker; ranges done before are kept.
    """
    operation, run = walk.operation, walk.run

    def job(part: WalkOptions) -> Job:
        return Job(
            config_file=str(project.config.path.absolute()),
            env=project.env.name,
            assume_role=project.assume_role,
            verb=verb,
            settings=settings,
            share=WorkerShare(part, 1 / workers.count),
            table=operation.table.config.name,
            run_id=run.run_id if run is not None else None,
            writes=run is not None and run.writes,
        )

    def on_done(done: Done) -> None:
        result.kms_calls += done.kms_calls
        result.reencrypted_locally += done.reencrypted_locally
        operation.add_counts(done.counts)
        limiter.add_worker(done.latency, done.throttles)

    with contextlib.ExitStack() as stack:
        workers = processes.start(stack)
        return walk_ranges(walk, workers, job, rate=settings.rate, on_done=on_done)
