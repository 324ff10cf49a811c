"""When a KMS call is tried again, and for how long: the same rules for both transports.

All KMS calls that dekctl makes may be repeated: none changes anything in KMS.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from dekctl.errors import ExitCode, KMSUnavailableError
from dekctl.kms.aws.faults import ACCESS_GRACE_SECONDS, Fault

ANSWER_SECONDS = 30.0
"""How long a call may take once it is sent, where nobody waits for it."""

CANCEL_GRACE_SECONDS = 2.0
"""How long calls that are on their way may take to end after a cancellation."""


class CancelledError(KMSUnavailableError):
    """The run was interrupted before KMS answered this call."""

    exit_code = ExitCode.INTERRUPTED

    def __init__(self, operation: str) -> None:
        super().__init__(
            f"KMS {operation} was interrupted",
            hint="run the same command again: it goes on from there",
        )


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient a transport is. All times are in seconds."""

    patience: float = 120.0
    """How long throttling, errors of the service and lost connections are retried."""
    first_contact: float = 15.0
    """The same for an endpoint that has not answered a single call yet: likely a wrong one."""
    access_grace: float = ACCESS_GRACE_SECONDS
    """How long a denied call is retried."""
    answer: float = ANSWER_SECONDS
    """How long one call may take once it is sent, its connection included."""
    base: float = 0.05
    """The first wait is between 0 and this; each next one may be twice as long ..."""
    longest: float = 5.0
    """... up to this."""

    def limit(self, fault: Fault, *, contacted: bool) -> float:
        """Return how long a call with this fault is retried; 0 is not at all."""
        match fault:
            case Fault.THROTTLED | Fault.RETRY:
                return self.patience if contacted else min(self.first_contact, self.patience)
            case Fault.GRACE:
                return self.access_grace
            case _:
                return 0.0


APPLICATION = RetryPolicy(patience=5.0, first_contact=5.0, access_grace=1.0, answer=5.0)
"""For a user who waits: an outage is told within seconds."""


def not_in_time(operation: str) -> KMSUnavailableError:
    """Build the error for a call that was not answered before the deadline in force."""
    return KMSUnavailableError(
        f"KMS {operation} was not answered within the deadline",
        hint="check the endpoint and the network, or allow a longer deadline",
    )


class Retries:
    """The retries of one call."""

    __slots__ = ("_attempts", "_clock", "_first_failure", "_policy", "_uniform", "_until")

    def __init__(
        self,
        policy: RetryPolicy,
        *,
        until: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """``until`` is a deadline on the same clock; no wait begins that would pass it."""
        self._policy = policy
        self._until = until
        self._clock = clock
        self._uniform = uniform
        self._attempts = 0
        self._first_failure = 0.0

    def next_delay(self, fault: Fault, *, contacted: bool = True) -> float | None:
        """Return the seconds to wait before the next attempt, or ``None`` to give up.

        ``contacted`` says whether the endpoint has ever answered this process. The wait is drawn
        evenly from zero up to a bound that doubles ("full jitter"), so that calls which failed
        together do not come back together.
        """
        limit = self._policy.limit(fault, contacted=contacted)
        now = self._clock()
        if self._attempts == 0:
            self._first_failure = now
        left = self._first_failure + limit - now
        if left <= 0:
            return None
        bound = min(self._policy.longest, self._policy.base * 2 ** min(self._attempts, 20))
        self._attempts += 1
        delay = min(self._uniform(0.0, bound), left)
        return None if self._until is not None and now + delay >= self._until else delay
