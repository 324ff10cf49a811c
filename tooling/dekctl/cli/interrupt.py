"""Ctrl-C: the first finishes what is in hand, the second stops now.

What is in hand may wait for a KMS that does not answer or for a paused rate. So a while after the
first one, waiting ends too; pages that KMS has not answered by then are simply not done.
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
    """Turn SIGINT and SIGTERM into ``cancel``, and a while later ``give_up``.

    The second signal ends the process on the spot. That is safe: every write is one transaction,
    and the next run marks this one as abandoned in the ledger.
    """

    def handle(_number: int, _frame: FrameType | None) -> None:
        if cancel.is_set():
            os._exit(ExitCode.INTERRUPTED)
        cancel.set()
        timer.start()
        terminal.note("\ninterrupted: finishing the pages in hand; once more stops at once")

    timer = threading.Timer(GRACE_SECONDS, give_up.set)
    timer.daemon = True
    if threading.current_thread() is not threading.main_thread():
        yield  # a library may call us from elsewhere; signals belong to its main thread then
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)
