"""How requests reach KMS: :class:`Transport` takes many calls and returns one result each.

Two transports exist: boto3 in threads (:mod:`dekctl.kms.aws.boto`, always available) and libcurl's
multi interface (:mod:`dekctl.kms.aws.curl`, the fast one). They take the same requests and return
the same results; the tests compare the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

from dekctl.errors import KMSError

TransportKind = Literal["auto", "boto3", "curl"]
"""``auto`` is the faster one that can be had."""

Request = Mapping[str, Any]
"""Parameters of one KMS call in boto3's form: names as in the API, blobs as ``bytes``."""

Response = dict[str, Any]
"""The answer in boto3's form: blobs as ``bytes``; ``ResponseMetadata`` may be absent."""


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


CountCall = Callable[[str], None]
"""Called once per attempt that was sent, with the API name; never by two threads at once."""
