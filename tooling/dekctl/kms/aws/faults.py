"""What each KMS error means for a run: retry, stop, or quarantine one row.

Names are those of the AWS KMS API reference ("Errors" of Encrypt, Decrypt and ReEncrypt, and the
"Common Errors" page). ``ThrottlingException`` is not in botocore's model of KMS, so only the name
can be matched.
"""

from __future__ import annotations

import re
from enum import Enum

from dekctl.errors import KMSError, KMSRefusedError, KMSUnavailableError, RowRejectedError
from dekctl.kms.context import OTHER_CONTEXT_HINT


class ErrorClass(Enum):
    """What to do about an error."""

    THROTTLED = "throttled"  # slow down, then retry
    RETRY = "retry"  # retry
    GRACE = "grace"  # retry for a few seconds (IAM changes take time to spread), then stop
    ROW = "row"  # only this row's key is at fault
    STOP = "stop"  # every other row would fail the same way


THROTTLE_CODES = frozenset(
    {
        "ThrottlingException",
        "Throttling",
        "ThrottledException",
        "RequestThrottledException",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "LimitExceededException",
        "SlowDown",
    }
)
RETRY_CODES = frozenset(
    {
        "KMSInternalException",
        "DependencyTimeoutException",
        "KeyUnavailableException",
        "InternalFailure",
        "InternalError",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "RequestTimeout",
        "RequestTimeoutException",
    }
)
GRACE_CODES = frozenset({"AccessDeniedException"})
ROW_CODES = frozenset({"InvalidCiphertextException"})
CLOCK_CODES = frozenset(
    {
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "RequestExpired",
        "RequestInTheFuture",
        "RequestTimeTooSkewed",
    }
)
"""Refusals that a wrong clock may have caused."""

ACCESS_GRACE_SECONDS = 10.0
"""How long an AccessDeniedException is retried: IAM is eventually consistent."""


def classify(code: str | None, http_status: int | None = None) -> ErrorClass:
    """Classify an answer. ``code`` is None if the connection broke before an answer."""
    if code in THROTTLE_CODES or http_status == 429:
        return ErrorClass.THROTTLED
    if http_status in (407, 501):  # a proxy; an emulator without this call: retrying is no use
        return ErrorClass.STOP
    if code is None or code in RETRY_CODES:
        return ErrorClass.RETRY
    if code in GRACE_CODES:
        return ErrorClass.GRACE
    if code in ROW_CODES:
        return ErrorClass.ROW
    if http_status is not None and http_status >= 500:
        return ErrorClass.RETRY
    return ErrorClass.STOP


NOT_KMS = "not a valid KMS response (is the endpoint right?)"
WRONG_TYPE = "a parameter has the wrong type"

HINTS = {
    "AccessDeniedException": "check the role and the key policy: dekctl doctor",
    "DisabledException": "the KEK is disabled; run: dekctl doctor",
    "KMSInvalidStateException": "the KEK cannot be used in its present state; run: dekctl doctor",
    "NotFoundException": "the KEK does not exist in this account and Region; check `kek` or the "
    "Terraform outputs with: dekctl doctor",
    "IncorrectKeyException": "the row names a different KEK from the one that wrapped its key; "
    "find such rows with: dekctl verify",
    "InvalidCiphertextException": "the wrapped key is damaged, or belongs to another row or table: "
    + OTHER_CONTEXT_HINT,
    "ExpiredTokenException": "the AWS session has expired; log in again",
    "UnrecognizedClientException": "AWS does not know these credentials; log in or set AWS_PROFILE",
    "InvalidSignatureException": "check the AWS credentials and the clock of this machine",
}


PROXY_REFUSED = "the proxy asks for a user and a password (407)"
PROXY_HINT = (
    "put them into HTTPS_PROXY (http://USER:PASSWORD@HOST:PORT), or KMS's host into NO_PROXY"
)


def wants_proxy_login(detail: str) -> bool:
    """Whether a connection failed, as the network layer says, because a proxy answered 407."""
    return re.search(r"\b407\b", detail) is not None


def error_for(
    operation: str, code: str | None, detail: str, http_status: int | None = None
) -> KMSError:
    """Build the exception for an error that is not retried, or no longer.

    ``detail`` is the message of KMS or of the network; neither repeats key material.
    """
    if http_status == 407:
        return KMSRefusedError(
            f"KMS {operation} failed: {PROXY_REFUSED}", hint=PROXY_HINT, code="407"
        )
    text = f"KMS {operation} failed: {code or 'no answer'}" + (f" ({detail})" if detail else "")
    hint = HINTS.get(code or "")
    match classify(code, http_status):
        case ErrorClass.ROW:
            return RowRejectedError(text, hint=hint, code=code)
        case ErrorClass.THROTTLED | ErrorClass.RETRY:
            return KMSUnavailableError(
                text,
                hint=hint or "check the endpoint and the network, then try again",
                code=code,
            )
        case ErrorClass.GRACE | ErrorClass.STOP:
            return KMSRefusedError(text, hint=hint, code=code)
