"""``--cluster ADDRESS``: ranges over a Dask cluster.

The workers need the same dekctl, the same ``dekctl.toml`` at the same path, and the environment
variables that it names: neither keys nor the database's password travel through the scheduler.
Dask runs the ranges of a lost worker elsewhere by itself.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from fractions import Fraction
from typing import Any

from dekctl.errors import DekctlError, UsageError
from dekctl.operations.base import Notify
from dekctl.walk.processes import limits
from dekctl.walk.processes.job import Done, Job, WorkerDiedError
from dekctl.walk.processes.worker import RangeWorker

try:
    from distributed import Client, KilledWorker, get_worker
    from distributed.client import FutureCancelledError
except ImportError as missing:
    raise UsageError(
        f"the Dask client is not installed: {missing}",
        hint="install it: pip install 'dekctl[cluster]'",
    ) from missing


class ClusterWorkers:
    """The workers of a Dask cluster. Use as a context manager."""

    def __init__(self, address: str, notify: Notify = lambda _: None) -> None:
        """Connect to a scheduler (``tcp://host:8786`` or ``tls://…``); ``notify`` is told
        when all workers are lost and when some are back.

        Raises:
            UsageError: nothing answers there, or the cluster has no workers.
        """
        # It logs tracebacks of a lost connection to stderr; errors here say what matters.
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
        try:
            connect: Callable[..., Any] = Client
            self._client = connect(address, timeout=limits.CONNECT_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise UsageError(
                f"no Dask scheduler answers at {address}: {error}",
                hint="start one: dask scheduler; then workers: dask worker ADDRESS",
            ) from None
        self._address = address
        self._notify = notify
        self._deserted = False
        self._parts: dict[Any, Fraction] = {}
        if not self._processes():
            self._client.close()
            raise UsageError(
                f"the Dask cluster at {address} has no workers",
                hint=f"start some: dask worker {address} --nthreads 1",
            )

    def __enter__(self) -> ClusterWorkers:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError, TimeoutError):  # the scheduler is lost
            self.stop()
            self._client.close()

    def _processes(self) -> int:
        """Ask the scheduler for its workers.

        Raises:
            DekctlError: it cannot be reached, and the state of the ranges in hand is lost.
        """
        workers: dict[str, Any] | None = None
        if self._client.status == "running":
            with contextlib.suppress(OSError, TimeoutError):
                workers = self._client.scheduler_info(n_workers=-1).get("workers")
        if workers is None:
            raise DekctlError(
                f"the connection to the Dask scheduler at {self._address} is lost",
                hint="start scheduler and workers again, then run the same command: it resumes "
                "with the remaining rows",
            )
        return len(workers)

    @property
    def count(self) -> int:
        """How many processes there are now: some may have come or gone."""
        return max(1, self._processes())

    def takes(self, out: int) -> bool:
        """Whether to hand out another range: a worker is free, and so is a part of the rate.

        Ranges in hand keep their part of the rate, so a worker that joins waits until some end.
        """
        processes = self._processes()
        if (processes == 0) != self._deserted:
            self._deserted = processes == 0
            self._notify(
                f"the cluster at {self._address} has no workers left; waiting for one: dask worker "
                f"{self._address} --nthreads 1"
                if self._deserted
                else f"the cluster at {self._address} has workers again; resuming"
            )
        return out < processes and 2 * self._free_part() >= Fraction(1, processes)

    def _free_part(self) -> Fraction:
        return 1 - sum(list(self._parts.values()), Fraction(0))

    def submit(self, job: Job) -> Future[Done]:
        """Do a range on some worker, with an even part of the rate, at most what is free."""
        part = min(Fraction(1, self.count), self._free_part())
        share = replace(job.share, rate_part=float(part))
        inner = self._client.submit(do_range, replace(job, share=share), pure=False)
        outcome: Future[Done] = Future()
        self._parts[inner] = part
        inner.add_done_callback(lambda future: self._pass_on(future, outcome))
        return outcome

    def _pass_on(self, inner: Any, outcome: Future[Done]) -> None:
        self._parts.pop(inner, None)
        if outcome.done():
            return
        try:
            outcome.set_result(inner.result())
        except (KilledWorker, FutureCancelledError) as error:
            outcome.set_exception(WorkerDiedError(f"a cluster worker was lost: {error}"))
        except DekctlError as error:
            outcome.set_exception(error)
        except Exception as error:
            outcome.set_exception(DekctlError(f"a range failed: {type(error).__name__}"))

    def stop(self) -> None:
        """Cancel ranges that wait; those in hand are short and run to their end."""
        waiting = [future for future in list(self._parts) if future.status == "pending"]
        self._client.cancel(waiting)


# -- in the worker ---------------------------------------------------------------------------------

_workers: dict[tuple[str, str | None], RangeWorker] = {}
_lock = threading.Lock()


def do_range(job: Job) -> Done:
    """Do one range in a cluster's worker process, with the connections of its run."""
    get_worker()  # raises anywhere else
    key = (f"{job.config_file} {job.env} {job.verb.name} {job.verb.target}", job.run_id)
    with _lock:
        if key not in _workers:
            while len(_workers) >= limits.MAX_RUNS_KEPT:  # runs that are over
                _workers.pop(next(iter(_workers))).close()
            _workers[key] = RangeWorker(job)
        worker = _workers[key]
    return worker.do(job)
