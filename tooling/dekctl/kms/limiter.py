"""How many KMS calls per second: paced by schedule under a ceiling, with AIMD on throttling.

The KMS request quota is shared with the application. So the operator sets a ceiling (``--rate``,
``--quota-share``); the rate drops by a third when KMS throttles, and recovers by a tenth of the
ceiling per second while calls succeed.

Two rules decide whether a call may be sent. The schedule has a due time for each, 1/rate apart;
calls that are late, as on a busy machine, are caught up, but only those of the last
LATE_SECONDS: idle time is not saved up. And however late they are, no second sees more calls than
the ceiling.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from dekctl.kms.fork_safety import reset_after_fork

LATE_SECONDS = 0.1
"""Calls of this many seconds may be late and are caught up at once; older ones are lost. So long
a container stands still, for example, that has used up its processor quota."""
PACE_SECONDS = 0.005
"""Calls of this many seconds are sent together: fewer wake-ups at high rates."""
BACK_OFF = 0.7
"""A throttled call multiplies the rate by this, at most once in HOLD_SECONDS."""
HOLD_SECONDS = 1.0
SETTLE_SECONDS = 0.25
"""No recovery for this long after a cut: calls already sent are answered first."""
RECOVERY_PER_SECOND = 0.1
"""Each second of success adds this fraction of the ceiling."""
PROBE_PER_SECOND = 0.5
"""Without a ceiling, each second above the throttled rate adds this fraction of the rate."""
USUAL_RATE = 1000.0
"""Without a ceiling, the minimum rate to recover to. KMS allows several times as much in every
Region, so a call throttled below it says little about the quota."""
MIN_RATE = 1.0
"""Throttling never reduces the rate below this many calls per second."""
MAX_WAIT_SECONDS = 0.1
"""The longest single wait, so that a new rate takes effect soon."""


@dataclass(frozen=True, slots=True)
class RateSnapshot:
    """The limiter at one moment. Rates are in calls per second; ``None`` is "not limited"."""

    ceiling: float | None
    rate: float | None
    throttles: int
    latency: float | None = None
    """Seconds that KMS takes to answer, averaged over about the last twenty calls."""


class _LastSecond:
    """The calls that a ceiling has let through, as long as they count."""

    def __init__(self) -> None:
        self._granted: deque[tuple[float, int]] = deque()  # when, and how many
        self._calls = 0  # their sum

    def room(self, ceiling: float, now: float) -> tuple[int, float]:
        """How many more the ceiling allows now, and the seconds until it allows more than that.

        Below 0 after the ceiling was lowered.
        """
        most = math.ceil(ceiling)
        window = most / ceiling  # longer than a second where the ceiling is no whole number
        while self._granted and self._granted[0][0] + window <= now:
            self._calls -= self._granted.popleft()[1]
        more = self._granted[0][0] + window - now if self._granted else 0.0
        return most - self._calls, more

    def add(self, calls: int, now: float) -> None:
        """Count calls that were let through."""
        self._granted.append((now, calls))
        self._calls += calls


class RateLimiter:
    """Spreads the calls of one process. Safe to share among threads.

    In any one second at most the ceiling, rounded up to a whole call, is granted.
    """

    def __init__(
        self,
        rate: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Limit to ``rate`` calls per second; ``None`` sets no ceiling, 0 pauses.

        Raises:
            ValueError: the rate is negative.
        """
        self._clock = clock
        self.after_fork()
        reset_after_fork(self)
        self._throttles = 0
        self._latency: float | None = None
        self._due_at = clock()  # when the next call is due
        self._last_second = _LastSecond()
        self._held_until = -1.0
        self._raised_at = 0.0
        self._window_from = clock()
        self._window_calls = 0
        self._last_window = 0.0
        self._free = True
        self._target: float | None = None  # where the rate recovers to; None: not limited
        self.set_rate(rate)

    def after_fork(self) -> None:
        """Take new locks: threads of the parent may hold the old ones."""
        self._lock = threading.Lock()
        self._turnstile = threading.Lock()

    def set_rate(self, rate: float | None) -> None:
        """Set the ceiling in calls per second; ``None`` removes it, 0 pauses.

        Raises:
            ValueError: the rate is negative.
        """
        if rate is not None and not rate >= 0:
            raise ValueError("a rate must be 0 calls per second or more")
        with self._lock:
            self._ceiling = self._target = rate
            self._apply(rate)
            self._due_at = self._clock()

    def reserve(self, calls: int) -> tuple[int, float]:
        """Take up to ``calls`` calls without waiting.

        Returns how many may be sent now, and after how many seconds to ask for the rest (0 if
        all were granted).
        """
        if self._free:
            # Without the lock, two threads may lose a count here. It only serves to estimate the
            # rate if KMS throttles; an exact count would cost every call.
            self._measure(calls)
            return calls, 0.0
        with self._lock:
            now = self._clock()
            if not self._rate:
                return 0, MAX_WAIT_SECONDS
            room, until_more = calls, 0.0
            if self._ceiling is not None:
                room, until_more = self._last_second.room(self._ceiling, now)
            granted = max(0, min(calls, room, self._due(now, self._rate)))
            if granted:
                self._due_at = max(self._due_at, now - LATE_SECONDS) + granted / self._rate
                self._measure(granted, now)
                if self._ceiling is not None:
                    self._last_second.add(granted, now)
            if granted == calls:
                return granted, 0.0
            wanted = min(calls - granted, max(1.0, self._rate * PACE_SECONDS))
            wait = self._due_at + (wanted - 1) / self._rate - now
            if room <= granted:
                wait = max(wait, until_more)
            return granted, min(max(wait, 0.0001), MAX_WAIT_SECONDS)

    def acquire(self, cancel: threading.Event | None = None, until: float | None = None) -> bool:
        """Wait until one call may be sent. Returns False as soon as ``cancel`` is set.

        It also returns False at the time ``until``, on the clock of ``time.monotonic``.
        """
        if self._free:
            self._measure(1)
            return cancel is None or not cancel.is_set()
        stop = cancel or threading.Event()
        # One thread at a time waits for the bucket, the others for that thread.
        while not self._turnstile.acquire(timeout=MAX_WAIT_SECONDS):
            if stop.is_set() or _is_over(until):
                return False
        try:
            while not (stop.is_set() or _is_over(until)):
                granted, wait = self.reserve(1)
                if granted:
                    return True
                stop.wait(wait)
            return False
        finally:
            self._turnstile.release()

    def throttled(self) -> None:
        """Record that KMS throttled a call: slow down, at most once in HOLD_SECONDS."""
        with self._lock:
            now = self._clock()
            self._throttles += 1
            if now < self._held_until or self._rate == 0:
                return
            # The measured rate may be well below the limit; cutting the limit would change nothing.
            measured = max(self._measured(now), MIN_RATE)
            if self._target is None:
                self._target = max(measured, USUAL_RATE)
            rate = measured if self._rate is None else min(self._rate, measured)
            lowest = MIN_RATE if self._ceiling is None else min(MIN_RATE, self._ceiling)
            self._apply(max(rate * BACK_OFF, lowest))
            self._due_at = max(self._due_at, now)  # nothing to catch up
            self._held_until = now + HOLD_SECONDS
            self._raised_at = now + SETTLE_SECONDS
            self._window_from, self._window_calls, self._last_window = now, 0, 0.0

    def add_worker(self, latency: float | None, throttles: int) -> None:
        """Note what another process of the same run saw, to be shown; no rate changes.

        ``latency`` is in seconds, None where it made no call; ``throttles`` counts what is new.
        """
        with self._lock:
            self._throttles += throttles
            self._latency = latency or self._latency

    def succeeded(self, seconds: float | None = None) -> None:
        """Record that KMS answered a call: recover if the rate was cut.

        ``seconds`` is how long it took. Two threads may lose one of them: it is only shown.
        """
        if seconds is not None:
            before = self._latency
            self._latency = seconds if before is None else before + (seconds - before) / 20
        if self._rate is None or self._rate == self._ceiling:
            return
        with self._lock:
            now = self._clock()
            if self._rate is None or self._target is None or now <= self._raised_at:
                return
            if self._rate < self._target:
                step = self._target * RECOVERY_PER_SECOND
            else:
                step = self._rate * PROBE_PER_SECOND
            rate = self._rate + step * (now - self._raised_at)
            self._raised_at = now
            if self._ceiling is not None:
                self._apply(min(rate, self._ceiling))
            elif rate >= 2 * self._target:  # twice the throttled rate goes through: no limit left
                self._target = None
                self._apply(None)
            else:
                self._apply(rate)

    def snapshot(self) -> RateSnapshot:
        """Return the limits and how often KMS throttled so far."""
        with self._lock:
            return RateSnapshot(self._ceiling, self._rate, self._throttles, self._latency)

    def _apply(self, rate: float | None) -> None:
        self._rate = rate
        self._free = rate is None

    def _due(self, now: float, rate: float) -> int:
        """Count the calls that are due, late ones included unless they are too late."""
        late = min(now - self._due_at, LATE_SECONDS)
        return int(late * rate + 1e-6) + 1 if late >= -1e-9 else 0

    def _measure(self, calls: int, now: float | None = None) -> None:
        """Count granted calls in windows of half a second, to measure the real rate."""
        now = self._clock() if now is None else now
        elapsed = now - self._window_from
        if elapsed >= 0.5:
            self._last_window = self._window_calls / elapsed
            self._window_from, self._window_calls = now, 0
        self._window_calls += calls

    def _measured(self, now: float) -> float:
        elapsed = now - self._window_from
        current = self._window_calls / max(elapsed, 0.25)
        return max(current, self._last_window) if elapsed < 1.0 else current


def _is_over(until: float | None) -> bool:
    return until is not None and time.monotonic() >= until
