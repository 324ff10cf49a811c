"""Ctrl-C: the first one finishes the batches at work, the second one stops at once.

A batch at work may wait for a KMS that does not respond, or for a paused rate. So 10 seconds after
the first Ctrl-C, waiting ends too; batches that KMS has not answered by then are simply not done.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from dekctl.cli.terminal import Terminal
from dekctl.errors import ExitCode

GRACE_SECONDS = 10.0


@contextmanager
def interruptible(
    cancel: threading.Event, give_up: threading.Event, terminal: Terminal
) -> Iterator[None]:
    """Turn SIGINT and SIGTERM into ``cancel``, and 10 seconds later ``give_up``.

    The second signal ends the process at once. That is safe: every write is one transaction, and
    the next run marks this one as abandoned in the ledger.
    """

    def handle(_number: int, _frame: FrameType | None) -> None:
        if cancel.is_set():
            os._exit(ExitCode.INTERRUPTED)
        cancel.set()
        timer.start()
        terminal.note(
            "\ninterrupted: finishing the batches at work; press Ctrl-C again to stop at once"
        )

    timer = threading.Timer(GRACE_SECONDS, give_up.set)
    timer.daemon = True
    if threading.current_thread() is not threading.main_thread():
        yield  # an application may call us from another thread; signals belong to its main thread
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)
