"""One side of :mod:`dekctl.walk.processes.ranges`: does ranges, in a process of a pool."""

from __future__ import annotations

import threading
from collections import Counter

from dekctl.config import load_config
from dekctl.db.table import DekTable
from dekctl.kms.limiter import RateLimiter
from dekctl.ledger import Run
from dekctl.operations.rewrap import Rewrap
from dekctl.project import Project
from dekctl.walk.engine import Walk
from dekctl.walk.processes.ranges import Done, Job
from dekctl.walk.run import VERBS, pressure_of, shared_rate


class RangeWorker:
    """Keeps connections between the ranges of one run, and does one range at a time.

    The process has one share of the rate, and its KMS calls are counted for the range in hand: a
    second thread waits.
    """

    def __init__(self, job: Job) -> None:
        """Connect nothing yet; ``job`` is any of the run."""
        self.project = Project(load_config(job.config_file, job.env), assume_role=job.assume_role)
        options = job.options
        self._limiter = RateLimiter(shared_rate(options))
        self._kms = self.project.kms(
            to=options.target, concurrency=options.concurrency, limiter=self._limiter
        )
        self._tables: dict[str, DekTable] = {}
        self._lock = threading.Lock()

    def do(self, job: Job) -> Done:
        """Do one range.

        Raises:
            DekctlError: what stopped it.
        """
        with self._lock:
            return self._do(job)

    def _do(self, job: Job) -> Done:
        options = job.options
        rate = shared_rate(options)
        if self._limiter.snapshot().ceiling != rate:  # there are more or fewer workers now
            self._limiter.set_rate(rate)
        if job.table not in self._tables:
            [config] = self.project.table_configs(job.table)
            self._tables[job.table] = self.project.table(config)
        table = self._tables[job.table]
        operation = VERBS[job.verb].make(table, self._kms, options)
        run = None
        if job.run_id is not None:
            context_name = table.config.context_name
            run = Run(job.run_id, job.verb, context_name, options.walk.shard, job.writes)
        before, carried = self._kms.call_counts, self._kms.reencrypted_locally
        with pressure_of(self.project, options, self._kms, self._limiter) as pressure:
            tally = Walk(
                operation,
                options.walk,
                ledger=self.project.ledger if run is not None else None,
                run=run,
                cancel=self.project.cancel,
                give_up=self.project.give_up,
                pressure=pressure,
                heartbeat=False,
            ).go()
        counts: Counter[str] = self._kms.call_counts - before
        done = Done(tally, dict(counts), carried=self._kms.reencrypted_locally - carried)
        done.written_under = dict(operation.written_under)
        if isinstance(operation, Rewrap):
            done.kinds = operation.kinds
            done.sources, done.materials = dict(operation.sources), dict(operation.materials)
        return done

    def close(self) -> None:
        """Drop connections."""
        self._kms.close()
        self.project.__exit__()
