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
from dekctl.walk.pacing import Note
from dekctl.walk.processes.ranges import Done, Job, WorkerDiedError
from dekctl.walk.processes.worker import RangeWorker

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

    def __init__(self, address: str, note: Note = lambda _: None) -> None:
        """Connect to a scheduler (``tcp://host:8786`` or ``tls://…``); ``note`` tells people.

        Raises:
            UsageError: nobody answers there, or the cluster has no workers.
        """
        # It logs tracebacks of a lost connection to stderr; what matters of it is said here.
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
        try:
            connect: Callable[..., Any] = Client
            self._client = connect(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise UsageError(
                f"no Dask scheduler answers at {address}: {error}",
                hint="start one: dask scheduler; then workers: dask worker ADDRESS",
            ) from None
        self._address = address
        self._note = note
        self._deserted = False
        self._shares: dict[Any, Fraction] = {}
        if not self._processes():
            self._client.close()
            raise UsageError(
                f"the Dask cluster at {address} has no workers",
                hint=f"start some: dask worker {address} --nthreads 1",
            )

    def __enter__(self) -> ClusterWorkers:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError, TimeoutError):  # nobody is there any more
            self.stop()
            self._client.close()

    def _processes(self) -> int:
        """Ask the scheduler for its workers.

        Raises:
            DekctlError: it is gone, and with it what it knew of the ranges in hand.
        """
        workers: dict[str, Any] | None = None
        if self._client.status == "running":
            with contextlib.suppress(OSError, TimeoutError):
                workers = self._client.scheduler_info(n_workers=-1).get("workers")
        if workers is None:
            raise DekctlError(
                f"the Dask scheduler at {self._address} is lost",
                hint="start scheduler and workers again, then run the same command again: it goes "
                "on where rows are left",
            )
        return len(workers)

    @property
    def count(self) -> int:
        """How many processes there are now: some may have come or gone."""
        return max(1, self._processes())

    def takes(self, out: int) -> bool:
        """Whether to hand out another range: a worker is free, and so is a part of the rate.

        The ranges that are out keep the share they were given, so whoever joins waits for some.
        """
        processes = self._processes()
        if (processes == 0) != self._deserted:
            self._deserted = processes == 0
            self._note(
                f"no worker is left at {self._address}: waiting for one (dask worker "
                f"{self._address} --nthreads 1)"
                if self._deserted
                else f"workers are back at {self._address}: going on"
            )
        return out < processes and 2 * self._free_share() >= Fraction(1, processes)

    def _free_share(self) -> Fraction:
        return 1 - sum(list(self._shares.values()), Fraction(0))

    def submit(self, job: Job) -> Future[Done]:
        """Do a range somewhere, with an even share of the rate, and no more than what is free."""
        share = min(Fraction(1, self.count), self._free_share())
        options = replace(job.options, share=float(share))
        inner = self._client.submit(do_range, replace(job, options=options), pure=False)
        outcome: Future[Done] = Future()
        self._shares[inner] = share
        inner.add_done_callback(lambda future: self._pass_on(future, outcome))
        return outcome

    def _pass_on(self, inner: Any, outcome: Future[Done]) -> None:
        self._shares.pop(inner, None)
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
        waiting = [future for future in list(self._shares) if future.status == "pending"]
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
