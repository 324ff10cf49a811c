"""When a KMS call is retried, and for how long; the same rules for both transports.

Every KMS call that dekctl makes can be repeated: none changes anything in KMS.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from dekctl.backoff import backoff
from dekctl.errors import ExitCode, KMSUnavailableError
from dekctl.kms.aws.faults import ACCESS_GRACE_SECONDS, ErrorClass

ANSWER_SECONDS = 30.0
"""How long a call may take once it is sent, unless a user waits for it."""

CANCEL_GRACE_SECONDS = 2.0
"""How long calls that were already sent may take to end after a cancellation."""


class CancelledError(KMSUnavailableError):
    """The run was interrupted before KMS answered this call."""

    exit_code = ExitCode.INTERRUPTED

    def __init__(self, operation: str) -> None:
        super().__init__(
            f"KMS {operation} was interrupted",
            hint="run the same command again: it resumes with the remaining rows",
        )


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient a transport is. All times are in seconds."""

    patience: float = 120.0
    """How long throttling, service errors and lost connections are retried."""
    first_contact: float = 15.0
    """The same for an endpoint that has not answered any call yet: probably a wrong one."""
    access_grace: float = ACCESS_GRACE_SECONDS
    """How long a denied call is retried."""
    answer: float = ANSWER_SECONDS
    """How long one call may take once it is sent, including connecting."""
    base: float = 0.05
    """The first wait is between 0 and this; the bound doubles with each retry ..."""
    longest: float = 5.0
    """... up to this."""

    def limit(self, kind: ErrorClass, *, contacted: bool) -> float:
        """Return how long a call with such an error is retried; 0 is not at all."""
        match kind:
            case ErrorClass.THROTTLED | ErrorClass.RETRY:
                return self.patience if contacted else min(self.first_contact, self.patience)
            case ErrorClass.GRACE:
                return self.access_grace
            case ErrorClass.ROW | ErrorClass.STOP:
                return 0.0


APPLICATION = RetryPolicy(patience=5.0, first_contact=5.0, access_grace=1.0, answer=5.0)
"""For a user who waits: an outage is reported within seconds."""


def within(seconds: float) -> RetryPolicy:
    """An application's policy for calls that have a deadline of so many seconds."""
    return replace(
        APPLICATION,
        patience=seconds,
        first_contact=seconds,
        access_grace=0.0,  # who waits is told at once; a deployment tries again anyway
        answer=seconds,
    )


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
        """``until`` is a deadline on the same clock; no wait starts that would pass it."""
        self._policy = policy
        self._until = until
        self._clock = clock
        self._uniform = uniform
        self._attempts = 0
        self._first_failure = 0.0

    def next_delay(self, kind: ErrorClass, *, contacted: bool = True) -> float | None:
        """Return the seconds to wait before the next attempt, or ``None`` to give up.

        ``contacted`` says whether the endpoint has ever answered this process.
        """
        limit = self._policy.limit(kind, contacted=contacted)
        now = self._clock()
        if self._attempts == 0:
            self._first_failure = now
        left = self._first_failure + limit - now
        if left <= 0:
            return None
        policy = self._policy
        delay = min(backoff(self._attempts, policy.base, policy.longest, self._uniform), left)
        self._attempts += 1
        return None if self._until is not None and now + delay >= self._until else delay
