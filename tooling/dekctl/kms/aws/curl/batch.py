"""The calls that one ``call_many`` hands to the thread of :mod:`dekctl.kms.aws.curl.loop`."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from dekctl.errors import KMSError
from dekctl.kms.aws.retry import Retries
from dekctl.kms.aws.transport import Request, Response


class Batch:
    """The requests of one ``call_many`` and the answers so far."""

    __slots__ = (
        "abandoned",
        "answers",
        "done",
        "error",
        "left",
        "next",
        "operation",
        "requests",
        "until",
    )

    def __init__(
        self, operation: str, requests: Sequence[Request], until: float | None = None
    ) -> None:
        """``until`` is the deadline on the clock of ``time.monotonic``, if there is one."""
        self.operation = operation
        self.until = until
        self.requests = requests
        self.answers: list[Response | KMSError | None] = [None] * len(requests)
        self.next = 0
        self.left = len(requests)
        self.done = threading.Event()
        self.abandoned = False
        self.error: BaseException | None = None

    def take(self) -> Call | None:
        """Return the next request that was not sent yet; None if there is none."""
        if self.next == len(self.requests):
            return None
        self.next += 1
        return Call(self, self.next - 1)

    def fail(self, error: BaseException) -> None:
        """End the whole batch with an error."""
        self.error = self.error or error
        self.abandoned = True
        self.done.set()


class Call:
    """One request that was taken up."""

    __slots__ = ("batch", "clock_tried", "index", "retries", "skew")

    def __init__(self, batch: Batch, index: int) -> None:
        self.batch = batch
        self.index = index
        self.retries: Retries | None = None
        self.skew = 0.0
        self.clock_tried = False

    def answer(self, answer: Response | KMSError) -> None:
        """Store the answer, and wake the waiting caller if it was the last."""
        batch = self.batch
        batch.answers[self.index] = answer
        batch.left -= 1
        if batch.left == 0:
            batch.done.set()
