"""How requests reach KMS: :class:`Transport` takes many calls and returns one result each.

Two transports exist: boto3 in threads (:mod:`dekctl.kms.aws.boto`, always available) and libcurl's
multi interface (:mod:`dekctl.kms.aws.curl`, the fast one). They take the same requests and return
the same results; the tests compare the two.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from dekctl.errors import KMSError
from dekctl.kms.aws.retry import RetryPolicy
from dekctl.kms.limiter import RateLimiter

TransportKind = Literal["auto", "boto3", "curl"]
"""``auto`` is the faster one that can be had."""

Request = Mapping[str, Any]
"""Parameters of one KMS call in boto3's form: names as in the API, blobs as ``bytes``."""

Response = dict[str, Any]
"""The answer in boto3's form: blobs as ``bytes``; ``ResponseMetadata`` may be absent."""


CountCall = Callable[[str], None]
"""Called once per attempt that was sent, with the API name; never by two threads at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportOptions:
    """Where KMS is, and how it is called: the same for both transports."""

    region: str | None
    """None: botocore finds it."""
    endpoint_url: str | None
    """None: AWS's own, or what botocore finds."""
    concurrency: int = 32
    """Maximum number of calls in flight."""
    limiter: RateLimiter | None = None
    """Shared limit on calls per second; None: not limited until KMS throttles."""
    count: CountCall | None = None
    cancel: threading.Event | None = None
    """Once set, waiting ends, and with it every call that was not sent yet."""
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    allow_plain_http: bool = False
    """Accept an ``http://`` endpoint beyond this machine."""


class Transport(Protocol):
    """Sends KMS calls. Safe to use from several threads at once."""

    def call_many(self, operation: str, requests: Sequence[Request]) -> list[Response | KMSError]:
        """Send the same operation (``"Encrypt"``, ``"Decrypt"``, ``"ReEncrypt"``, …) many times.

        Returns one answer per request, in order: KMS's answer, or a KMSError instance *with the
        service's error name in ``code``* once retrying is over. Retries what
        :mod:`dekctl.kms.aws.faults` calls retryable, and obeys the rate limiter. Returns by the
        deadline in force (:mod:`dekctl.kms.deadline`), with an error for what is not answered.
        Throttling slows down calls without a deadline only: an application's are few, each is
        wanted now, and they must not be slow for longer than KMS throttles.

        Raises:
            KMSError: only for what has nothing to do with one request (no credentials, closed).
        """

    def set_concurrency(self, concurrency: int) -> None:
        """Change how many calls may be in flight. Calls already sent are not affected."""

    def close(self) -> None:
        """Drop connections; later calls raise."""
