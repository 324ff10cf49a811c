"""``--cluster ADDRESS``: ranges over a Dask cluster.

The workers need the same dekctl, the same ``dekctl.toml`` at the same path, and the environment
variables that it names: neither keys nor the database's password travel through the scheduler.
Dask runs the ranges of a lost worker elsewhere by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from dekctl.errors import DekctlError, UsageError
from dekctl.walk.range_worker import RangeWorker
from dekctl.walk.ranges import Done, Job, WorkerDiedError

try:
    from distributed import Client, KilledWorker, get_worker
    from distributed.client import FutureCancelledError
except ImportError as missing:
    raise UsageError(
        f"the Dask client is not installed: {missing}",
        hint="install it: pip install 'dekctl[cluster]'",
    ) from missing

CONNECT_SECONDS = 15


class ClusterWorkers:
    """The workers of a Dask cluster. Use as a context manager."""

    def __init__(self, address: str) -> None:
        """Connect to a scheduler (``tcp://host:8786`` or ``tls://…``).

        Raises:
            UsageError: nobody answers there, or the cluster has no workers.
        """
        try:
            connect: Callable[..., Any] = Client
            self._client = connect(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise UsageError(
                f"no Dask scheduler answers at {address}: {error}",
                hint="start one: dask scheduler; then workers: dask worker ADDRESS",
            ) from None
        if not self._processes():
            self._client.close()
            raise UsageError(
                f"the Dask cluster at {address} has no workers",
                hint=f"start some: dask worker {address} --nthreads 1",
            )
        self._waiting: set[Any] = set()

    def __enter__(self) -> ClusterWorkers:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._client.close()

    def _processes(self) -> int:
        return len(self._client.scheduler_info(n_workers=-1)["workers"])

    @property
    def count(self) -> int:
        """How many processes there are now: some may have come or gone."""
        return max(1, self._processes())

    def submit(self, job: Job) -> Future[Done]:
        """Do a range somewhere; the rate is shared evenly among the workers there are now."""
        options = replace(job.options, share=1 / self.count)
        inner = self._client.submit(do_range, replace(job, options=options), pure=False)
        outcome: Future[Done] = Future()
        self._waiting.add(inner)
        inner.add_done_callback(lambda future: self._pass_on(future, outcome))
        return outcome

    def _pass_on(self, inner: Any, outcome: Future[Done]) -> None:
        self._waiting.discard(inner)
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
        """Take back ranges that wait; those in hand are short and run to their end."""
        waiting = [future for future in self._waiting if future.status == "pending"]
        self._client.cancel(waiting)


# -- in the worker ---------------------------------------------------------------------------------

_workers: dict[tuple[str, str | None], RangeWorker] = {}
_lock = threading.Lock()
MOST_KEPT = 4


def do_range(job: Job) -> Done:
    """Do one range in a cluster's worker process, with the connections of its run."""
    get_worker()  # nowhere else
    key = (f"{job.config_file} {job.env} {job.verb} {job.options.target}", job.run_id)
    with _lock:
        if key not in _workers:
            while len(_workers) >= MOST_KEPT:  # runs that are over
                _workers.pop(next(iter(_workers))).close()
            _workers[key] = RangeWorker(job)
        worker = _workers[key]
    return worker.do(job)
