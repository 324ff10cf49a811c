"""Which transport a run uses."""

from __future__ import annotations

import threading
from typing import Literal

from botocore.session import Session

from dekctl.errors import UsageError
from dekctl.kms.aws.boto import BotoTransport
from dekctl.kms.aws.retry import RetryPolicy
from dekctl.kms.aws.transport import CountCall, Transport
from dekctl.kms.limiter import RateLimiter

TransportKind = Literal["auto", "boto3", "curl"]


def make_transport(
    kind: TransportKind,
    session: Session,
    *,
    region: str | None,
    endpoint_url: str | None,
    concurrency: int = 32,
    limiter: RateLimiter | None = None,
    count: CountCall | None = None,
    cancel: threading.Event | None = None,
    policy: RetryPolicy | None = None,
) -> Transport:
    """Make a transport: ``auto`` is libcurl where pycurl is installed, else boto3.

    Raises:
        UsageError: ``curl`` was asked for and is not installed; or the Region or endpoint is
            missing or wrong.
    """
    transport: type[Transport] = BotoTransport
    if kind != "boto3":
        try:
            from dekctl.kms.aws.curl.transport import CurlTransport  # noqa: PLC0415 (pycurl is optional)
        except ImportError as error:
            if kind == "curl":
                raise UsageError(
                    f"the fast KMS client is not installed: {error}",
                    hint='run: pip install "dekctl[fast]"',
                ) from error
        else:
            transport = CurlTransport
    return transport(  # type: ignore[call-arg]
        session,
        region=region,
        endpoint_url=endpoint_url,
        concurrency=concurrency,
        limiter=limiter,
        count=count,
        cancel=cancel,
        policy=policy,
    )
