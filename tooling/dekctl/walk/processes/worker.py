"""One side of :mod:`dekctl.walk.processes.ranges`: does ranges, in a process of a pool."""

from __future__ import annotations

import threading

from dekctl.config import load_config
from dekctl.db.table import DekTable
from dekctl.garbage import rare_collections
from dekctl.kms.limiter import RateLimiter
from dekctl.ledger import Run
from dekctl.project import Project
from dekctl.walk.engine import Walk
from dekctl.walk.pacing import pacing_for, rate_of_part
from dekctl.walk.processes.job import Done, Job


class RangeWorker:
    """Keeps connections between the ranges of one run, and does one range at a time.

    The process has one share of the rate, and its KMS calls are counted for the range in hand: a
    second thread waits.
    """

    def __init__(self, job: Job) -> None:
        """Connect nothing yet; ``job`` is any of the run."""
        self.project = Project(load_config(job.config_file, job.env), assume_role=job.assume_role)
        self._limiter = RateLimiter(rate_of_part(job.settings.rate, job.share.rate_part))
        self._kms = self.project.kms(
            to=job.verb.target, concurrency=job.settings.concurrency, limiter=self._limiter
        )
        self._tables: dict[str, DekTable] = {}
        self._lock = threading.Lock()

    def do(self, job: Job) -> Done:
        """Do one range.

        Raises:
            DekctlError: what stopped it.
        """
        with self._lock, rare_collections():
            return self._do(job)

    def _do(self, job: Job) -> Done:
        settings, share = job.settings, job.share
        rate = rate_of_part(settings.rate, share.rate_part)
        if self._limiter.snapshot().ceiling != rate:  # there are more or fewer workers now
            self._limiter.set_rate(rate)
        if job.table not in self._tables:
            [config] = self.project.table_configs(job.table)
            # The coordinator has compared it with the ledger.
            self._tables[job.table] = self.project.table(config, known=False)
        table = self._tables[job.table]
        operation = job.verb.on(table, self._kms)
        run = None
        if job.run_id is not None:
            context_name = table.config.context_name
            run = Run(job.run_id, job.verb.name, context_name, share.walk.shard, job.writes)
            if self.project.acts_in_roles:
                self._kms.act_for(job.run_id)
        self.project.database.has_written = job.writes  # the coordinator has, in the ledger
        calls, reencrypted = self._kms.call_counts, self._kms.reencrypted_locally
        throttles = self._limiter.snapshot().throttles
        with pacing_for(
            self.project, settings, self._kms, self._limiter, rate_part=share.rate_part
        ) as pacing:
            rows = Walk(
                job.verb.name,
                operation,
                share.walk,
                ledger=self.project.ledger if run is not None else None,
                run=run,
                cancel=self.project.cancel,
                give_up=self.project.give_up,
                pacing=pacing,
                heartbeat=False,
            ).go()
        now = self._limiter.snapshot()
        return Done(
            rows,
            dict(operation.counts),
            self._kms.call_counts - calls,
            self._kms.reencrypted_locally - reencrypted,
            now.latency,
            now.throttles - throttles,
        )

    def close(self) -> None:
        """Drop connections."""
        self._kms.close()
        self.project.__exit__()
