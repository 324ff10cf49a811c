"""How long an application waits for KMS, and how it stops asking while KMS is away."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from dekctl.errors import KMSError, KMSRefusedError, KMSUnavailableError, RowRejectedError
from dekctl.kms.aws.faults import THROTTLE_CODES
from dekctl.kms.deadline import deadline
from dekctl.kms.dek import clear_locals
from dekctl.kms.fork_safety import reset_after_fork
from dekctl.kms.interface import (
    GenerateRequest,
    KMSInterface,
    Unwrapped,
    UnwrapRequest,
    Wrapped,
)
from dekctl.reader.allowed import AllowedKEKs

FAILURES = 3
"""So many calls in a row without an answer, and KMS counts as away."""
PROBE_SECONDS = 0.25
"""While it is away, one call at a time goes through, this long after the last one ended."""
KEYS_A_DEADLINE = 200
"""A batch gets a deadline for each so many keys."""
MOST_KEYS_A_CALL = 1000

_RETRY = "the request may be tried again; if it keeps failing, check KMS and the way to it"

Answer = TypeVar("Answer")
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class KMSCall:
    """One call for one or many keys, as ``on_call`` is told of it when it has ended.

    docs/application.md, "Metrics", has an example for Prometheus and one for OpenTelemetry.
    """

    operation: str
    """``unwrap``, ``generate``, or ``resolve`` (what an alias stands for)."""
    keys: int
    seconds: float
    error: str | None
    """KMS's name of the error, or the class of the exception; None where it went well."""


def is_refusal(error: BaseException) -> bool:
    """Whether KMS refused a KEK, not one wrapped key."""
    return isinstance(error, KMSRefusedError) or isinstance(error.__cause__, KMSRefusedError)


def parts(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """The parts of a batch: a small one first, so that an outage is told within one deadline."""
    start, size = 0, KEYS_A_DEADLINE
    while start < len(items):
        yield items[start : start + size]
        start, size = start + size, MOST_KEYS_A_CALL


class Breaker:
    """Opens after a few calls without an answer, and closes as soon as one is answered."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = ""
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Begin closed: the parent's probe does not end here."""
        self._lock = threading.Lock()
        self._failures = 0
        self._probe_at: float | None = 0.0

    @property
    def is_open(self) -> bool:
        """Whether KMS counts as away."""
        return self._failures >= FAILURES

    def enter(self) -> None:
        """Ask whether a call may be made; it has to be followed by one of the other two.

        Raises:
            KMSUnavailableError: KMS is away.
        """
        if self._failures < FAILURES:
            return
        with self._lock:
            if self._failures < FAILURES:
                return
            if self._probe_at is not None and self._clock() >= self._probe_at:
                self._probe_at = None  # this call is the probe
                return
        raise KMSUnavailableError(
            f"KMS is not asked: its last {FAILURES} calls were not answered ({self._last})",
            hint=_RETRY,
        )

    def answered(self) -> None:
        """Say that KMS answered, with whatever."""
        if self._failures:
            with self._lock:
                self._failures, self._probe_at = 0, 0.0

    def failed(self, error: KMSUnavailableError) -> None:
        """Say that KMS gave no usable answer. Throttling is an answer."""
        if error.code in THROTTLE_CODES:
            self.answered()
            return
        with self._lock:
            self._failures = min(self._failures + 1, FAILURES)
            self._probe_at = self._clock() + PROBE_SECONDS
            self._last = error.message


class Patience:
    """Calls the provider within a deadline, counts, and leaves it alone while KMS is away."""

    def __init__(
        self,
        provider: Callable[[], KMSInterface],
        seconds: float,
        on_call: Callable[[KMSCall], None] | None = None,
    ) -> None:
        """Prepare.

        Args:
            provider: returns the key provider.
            seconds: the deadline of a call.
            on_call: is told of every call that has ended.
        """
        self._provider = provider
        self.seconds = seconds
        self._on_call = on_call
        self.breaker = Breaker()
        self.after_fork()
        reset_after_fork(self)
        self._prepared = False
        self.errors: Counter[str] = Counter()
        self.waited = 0.0

    def after_fork(self) -> None:
        """Take a new lock: a thread of the parent may hold the old one."""
        self._lock = threading.Lock()

    def deadline(self, keys: int) -> float:
        """A deadline for so many keys that begins now, on the clock of ``time.monotonic``."""
        return time.monotonic() + self.seconds * -(-keys // KEYS_A_DEADLINE)

    def unwrap(
        self, requests: Sequence[UnwrapRequest], until: float
    ) -> list[Unwrapped | RowRejectedError]:
        """Open keys. One KEK that is refused does not keep the keys of others from being opened.

        Raises:
            KMSError: KMS refused all of them, or cannot be reached.
        """
        try:
            return self._unwrap(requests, until)
        except KMSRefusedError as error:
            by_kek: dict[str | None, list[int]] = {}
            for i, request in enumerate(requests):
                by_kek.setdefault(request.kek_id, []).append(i)
            if len(by_kek) == 1:
                raise
            refused = error
        answers: dict[int, Unwrapped | RowRejectedError] = {}
        opened = False
        for places in by_kek.values():
            try:
                found = self._unwrap([requests[i] for i in places], until)
                opened = True
            except KMSRefusedError as error:
                rejected = RowRejectedError(error.message, hint=error.hint, code=error.code)
                rejected.__cause__ = error  # by which it is told from what is wrong with a row
                found = [rejected] * len(places)
            answers.update(zip(places, found, strict=True))
        if not opened:
            raise refused
        return [answers[i] for i in range(len(requests))]

    def _unwrap(
        self, requests: Sequence[UnwrapRequest], until: float
    ) -> list[Unwrapped | RowRejectedError]:
        return self._call("unwrap", len(requests), lambda kms: kms.unwrap_many(requests), until)

    def generate(
        self, requests: Sequence[GenerateRequest], until: float
    ) -> list[tuple[Unwrapped, Wrapped] | RowRejectedError]:
        """Make new keys.

        Raises:
            KMSError: KMS refused, or cannot be reached.
        """
        return self._call("generate", len(requests), lambda kms: kms.generate_many(requests), until)

    def look_up(self, allowed: AllowedKEKs, until: float) -> None:
        """Ask KMS what the aliases among the allowed KEKs stand for.

        Raises:
            KMSError: KMS refused, or cannot be reached.
        """
        self._call("resolve", 0, lambda _: allowed.look_up(), until)

    def _call(
        self, operation: str, keys: int, work: Callable[[KMSInterface], Answer], until: float
    ) -> Answer:
        self.breaker.enter()
        failure: str | None = "interrupted"
        began = time.monotonic()
        try:
            provider = self._provider()
            if not self._prepared:  # what is made once does not count: it takes no network
                provider.prepare()
                self._prepared = True
                until += time.monotonic() - began
            with deadline(until):
                answer = work(provider)
        except KMSUnavailableError as error:
            self.breaker.failed(error)
            failure = error.code or type(error).__name__
            error.hint = _RETRY
            clear_locals(error)
            raise
        except KMSError as error:
            self.breaker.answered()
            failure = error.code or type(error).__name__
            clear_locals(error)
            raise
        except BaseException as error:
            self.breaker.answered()
            failure = type(error).__name__
            clear_locals(error)
            raise
        else:
            self.breaker.answered()
            failure = None
            return answer
        finally:
            self._note(KMSCall(operation, keys, time.monotonic() - began, failure))

    def _note(self, call: KMSCall) -> None:
        with self._lock:
            self.waited += call.seconds
            if call.error is not None:
                self.errors[call.error] += 1
        if self._on_call is not None:
            self._on_call(call)
