"""What each KMS error means for a run: try again, stop, or set one row aside.

Names are those of the AWS KMS API reference ("Errors" of Encrypt, Decrypt and ReEncrypt, and the
"Common Errors" page). ``ThrottlingException`` is not in botocore's model of KMS, so only the name
can be matched.
"""

from __future__ import annotations

from enum import Enum

from dekctl.errors import KMSError, KMSRefusedError, KMSUnavailableError, RowRejectedError


class Fault(Enum):
    """What to do about an error name."""

    THROTTLED = "throttled"  # slow down, then try again
    RETRY = "retry"  # try again
    GRACE = "grace"  # try again for a few seconds (IAM changes take time to spread), then stop
    ROW = "row"  # this row's key is at fault
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
"""Refusals that a wrong clock may be the reason for."""

ACCESS_GRACE_SECONDS = 10.0
"""How long an AccessDeniedException is retried: IAM is eventually consistent."""


def classify(code: str | None, http_status: int | None = None) -> Fault:
    """Say what an answer means. ``code`` is None where the connection broke before an answer."""
    if code in THROTTLE_CODES or http_status == 429:
        return Fault.THROTTLED
    if http_status == 501:  # an emulator has not implemented the call: it never will in this run
        return Fault.STOP
    if code is None or code in RETRY_CODES:
        return Fault.RETRY
    if code in GRACE_CODES:
        return Fault.GRACE
    if code in ROW_CODES:
        return Fault.ROW
    if http_status is not None and http_status >= 500:
        return Fault.RETRY
    return Fault.STOP


NOT_KMS = "the answer is not KMS's"
WRONG_TYPE = "a parameter has the wrong type"

HINTS = {
    "AccessDeniedException": "check the role and the key policy: dekctl doctor",
    "DisabledException": "the KEK is disabled; how to enable it, says: dekctl doctor",
    "KMSInvalidStateException": "the KEK is not usable; what to do, says: dekctl doctor",
    "NotFoundException": "the KEK does not exist in this account and Region; check `kek` or the "
    "Terraform outputs with: dekctl doctor",
    "IncorrectKeyException": "the row names another KEK than the one that wrapped its key; "
    "find such rows with: dekctl verify",
    "InvalidCiphertextException": "the wrapped key is damaged, or belongs to another row or table",
    "ExpiredTokenException": "the AWS session is over; log in and run the same command again",
    "UnrecognizedClientException": "AWS does not know these credentials; log in or set AWS_PROFILE",
    "InvalidSignatureException": "check the AWS credentials and the clock of this machine",
}


def error_for(
    operation: str, code: str | None, detail: str, http_status: int | None = None
) -> KMSError:
    """Build the exception for an answer that will not be retried any more.

    ``detail`` is KMS's own message or the network's; KMS never repeats key material in it.
    """
    text = f"KMS {operation} failed: {code or 'no answer'}" + (f" ({detail})" if detail else "")
    hint = HINTS.get(code or "")
    match classify(code, http_status):
        case Fault.ROW:
            return RowRejectedError(text, hint=hint, code=code)
        case Fault.THROTTLED | Fault.RETRY:
            return KMSUnavailableError(
                text,
                hint=hint or "check the endpoint and the network, then run the same command again",
                code=code,
            )
        case _:
            return KMSRefusedError(text, hint=hint, code=code)
