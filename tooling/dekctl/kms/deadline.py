"""One deadline over everything that a caller waits for: the limiter, retries, KMS's answer.

A caller sets it for a block of code; the transports to KMS obey it, whatever their own patience is.
A thread that works for the caller inherits it with the caller's context (``contextvars``).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_until: ContextVar[float | None] = ContextVar("dekctl_deadline", default=None)


@contextmanager
def deadline(until: float) -> Iterator[None]:
    """Put a deadline in force for the block, on the clock of ``time.monotonic``.

    An earlier one that is already in force stays in force.
    """
    before = _until.get()
    token = _until.set(until if before is None else min(before, until))
    try:
        yield
    finally:
        _until.reset(token)


def deadline_at() -> float | None:
    """When the deadline in force ends, on the clock of ``time.monotonic``; None without one."""
    return _until.get()


def seconds_left_until(until: float | None, longest: float) -> float:
    """Seconds until a deadline, at most ``longest``; 0 when it is over."""
    return longest if until is None else max(0.0, min(longest, until - time.monotonic()))
