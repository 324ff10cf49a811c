"""A caller's deadline bounds the limiter, retries and a silent endpoint, on both transports."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dekctl.errors import KMSError, KMSUnavailableError
from dekctl.kms import AWSKMS
from dekctl.kms.aws.transport import TransportKind
from dekctl.kms.deadline import deadline
from dekctl.kms.dek import DEK
from dekctl.kms.limiter import RateLimiter
from support.frames import assert_frames_hide
from support.kms_standin import Fault, KmsStandin

SECONDS = 0.4
SLACK = 1.5  # a busy machine


@pytest.fixture(params=["boto3", "curl"])
def transport(request: pytest.FixtureRequest) -> TransportKind:
    if request.param == "curl":
        pytest.importorskip("pycurl")
    kind: TransportKind = request.param
    return kind


def seconds(call: Callable[[], Any]) -> tuple[KMSError, float]:
    """The error of a call under a deadline, and how long it took."""
    began = time.monotonic()
    with pytest.raises(KMSError) as caught, deadline(began + SECONDS):
        call()
    return caught.value, time.monotonic() - began


def test_throttling_and_errors_end_within_the_deadline(
    environ: dict[str, str], kms_standin: KmsStandin, transport: TransportKind
) -> None:
    kms = AWSKMS(kms_standin.create_key(), transport=transport)
    blob = kms.wrap(bytes(32))
    for kind in ("ThrottlingException", "KMSInternalException", "cut-before"):
        kms_standin.set_faults(Fault(kind), seed=1)
        error, took = seconds(lambda: kms.unwrap(blob))
        assert isinstance(error, KMSUnavailableError)
        assert error.code in (kind, None)
        assert took < SECONDS + SLACK, kind
    kms_standin.clear_faults()
    assert kms.unwrap(blob) == bytes(32), "without a deadline there is time"
    kms.close()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server.getsockname()[1]


def test_an_endpoint_that_does_not_answer_is_left_at_the_deadline(
    environ: dict[str, str], silent_port: int, transport: TransportKind
) -> None:
    key = "arn:aws:kms:us-east-1:111122223333:key/12345678-1234-1234-1234-123456789012"
    kms = AWSKMS(key, transport=transport, endpoint_url=f"http://127.0.0.1:{silent_port}")
    kms.prepare()
    error, took = seconds(lambda: kms.unwrap(b"blob"))
    assert isinstance(error, KMSUnavailableError)
    assert took < SECONDS + SLACK
    kms.close()


def test_waiting_for_the_rate_limit_counts(
    environ: dict[str, str], kms_standin: KmsStandin, transport: TransportKind
) -> None:
    kms = AWSKMS(kms_standin.create_key(), transport=transport, limiter=RateLimiter(0))
    kms.prepare()
    error, took = seconds(lambda: kms.unwrap(b"blob"))
    assert "deadline" in error.message
    assert took < SECONDS + SLACK
    kms.close()


def test_an_error_passes_no_frame_that_holds_a_key(
    environ: dict[str, str], kms_standin: KmsStandin, transport: TransportKind
) -> None:
    kms = AWSKMS(kms_standin.create_key(), transport=transport)
    key = bytes(range(32))
    kms_standin.set_faults(Fault("KMSInternalException"), seed=1)
    for given in (DEK(key), bytearray(key)):
        with pytest.raises(KMSError) as caught, deadline(time.monotonic() + 0.1):
            kms.wrap(given, {"a": "b"})
        names = assert_frames_hide(caught.value, [key], __file__)
        assert "wrap_many" in names, "the traceback still tells where it happened"
    kms.close()
