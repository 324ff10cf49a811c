"""``--workers N``: ranges in several processes of this machine.

They are spawned, not forked: a fork would share connections. A worker learns of an interrupt, or of
the end of its parent, by the end of a pipe. Ctrl-C at the terminal reaches every process, so
workers ignore it and wait for the parent.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection

from dekctl.kms.aws.retry import CANCEL_GRACE_SECONDS
from dekctl.walk.processes.job import Done, Job, WorkerDiedError
from dekctl.walk.processes.limits import PARENT_POLL_SECONDS
from dekctl.walk.processes.worker import RangeWorker

_worker: RangeWorker | None = None
_stopped = threading.Event()
_idle = threading.Event()
_idle.set()


class LocalWorkers:
    """Processes of this machine. Use as a context manager."""

    def __init__(self, count: int) -> None:
        """Start no process yet; ``count`` is how many there will be."""
        self._count = count
        self._context = multiprocessing.get_context("spawn")
        self._ours: Connection | None = None
        self._pool = self._new_pool()

    def __enter__(self) -> LocalWorkers:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)

    @property
    def count(self) -> int:
        """How many processes there are."""
        return self._count

    def takes(self, out: int) -> bool:
        """Whether to hand out another range: each process has one in hand and one that waits."""
        return out < 2 * self._count

    def submit(self, job: Job) -> Future[Done]:
        """Do a range; the future raises WorkerDiedError where a process was lost.

        The pool of the standard library ends all its processes when one dies: a new one is made,
        and the ranges of the others are done again as well.
        """
        outcome: Future[Done] = Future()
        try:
            inner = self._pool.submit(do_range, job)
        except BrokenProcessPool:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = self._new_pool()
            inner = self._pool.submit(do_range, job)
        inner.add_done_callback(lambda future: _pass_on(future, outcome))
        return outcome

    def stop(self) -> None:
        """Let workers finish the batches in hand and return."""
        if self._ours is not None:
            self._ours.close()
            self._ours = None

    def _new_pool(self) -> ProcessPoolExecutor:
        if self._ours is not None:
            self._ours.close()
        theirs, self._ours = self._context.Pipe(duplex=False)
        return ProcessPoolExecutor(
            self._count, self._context, initializer=_begin, initargs=(theirs,)
        )


def _pass_on(inner: Future[Done], outcome: Future[Done]) -> None:
    if inner.cancelled():
        outcome.set_exception(WorkerDiedError("the run was stopped"))
        return
    error = inner.exception()
    if error is None:
        outcome.set_result(inner.result())
    elif isinstance(error, BrokenProcessPool):
        outcome.set_exception(WorkerDiedError("a worker process ended abruptly"))
    else:
        outcome.set_exception(error)


# -- in the worker ---------------------------------------------------------------------------------


def _begin(pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    atexit.register(gc.freeze)  # the coordinator waits for the end of this process
    parent = os.getppid()
    threading.Thread(target=_listen, args=(pipe, parent), name="dekctl-parent", daemon=True).start()


def _listen(pipe: Connection, parent: int) -> None:
    """Wait for the end of the pipe; then finish, and exit if the parent has ended."""
    with contextlib.suppress(EOFError, OSError):
        pipe.recv_bytes()
    _stopped.set()
    if _worker is not None:
        _worker.project.cancel.set()
    _idle.wait(CANCEL_GRACE_SECONDS)
    if _worker is not None:
        _worker.project.give_up.set()
    _idle.wait()
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_SECONDS)
    os._exit(0)


def do_range(job: Job) -> Done:
    """Do one range in this process."""
    global _worker  # noqa: PLW0603 - one for the life of the process
    _idle.clear()
    try:
        if _worker is None:
            _worker = RangeWorker(job)
        if _stopped.is_set():
            _worker.project.cancel.set()
        return _worker.do(job)
    finally:
        _idle.set()
