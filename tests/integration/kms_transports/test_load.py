"""Both ways to KMS keep the rate and the number of calls in flight, and end at once when told."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dekctl.errors import KMSError, KMSRefusedError
from dekctl.kms.aws.boto import BotoTransport
from dekctl.kms.aws.curl.transport import CurlTransport
from dekctl.kms.aws.retry import CancelledError, RetryPolicy
from dekctl.kms.limiter import LATE_SECONDS, RateLimiter
from support.kms_standin import Fault, KmsStandin
from support.scripted_endpoint import Reply, ScriptedEndpoint, Seen, refusal
from support.transports import (
    ANSWER,
    REQUEST,
    Kind,
    Make,
    bad,
    good,
)
from support.waiting import PATIENCE_SECONDS, wait_until


def test_throttling_slows_the_calls_down(standin: KmsStandin, make: Make, kind: Kind) -> None:
    arn = standin.create_key()
    limiter = RateLimiter(None)
    transport = make(kind, standin.endpoint_url, limiter=limiter, concurrency=16)
    standin.set_faults(Fault("ThrottlingException", times=3, apis=("Encrypt",)))
    good(transport.call_many("Encrypt", [{"KeyId": arn, "Plaintext": b"x"}] * 20))
    snapshot = limiter.snapshot()
    assert snapshot.throttles == 3
    assert snapshot.rate is not None


def test_the_rate_is_never_exceeded(standin: KmsStandin, make: Make, kind: Kind) -> None:
    arn = standin.create_key()
    transport = make(kind, standin.endpoint_url, limiter=RateLimiter(50), concurrency=16)
    started = time.monotonic()
    good(transport.call_many("Encrypt", [{"KeyId": arn, "Plaintext": b"x"}] * 100))
    # Slower is the machine's affair, faster would be the limiter's fault.
    assert time.monotonic() - started >= (100 - 1) / 50 - LATE_SECONDS


@pytest.mark.parametrize("concurrency", [1, 5])
def test_no_more_calls_are_in_flight_than_allowed(make: Make, kind: Kind, concurrency: int) -> None:
    def answer(_: Seen) -> Reply:
        time.sleep(0.01)
        return Reply(200, ANSWER)

    with ScriptedEndpoint(answer) as endpoint:
        good(make(kind, endpoint.url, concurrency=concurrency).call_many("Encrypt", [REQUEST] * 40))
        assert endpoint.most_at_once <= concurrency


def test_concurrency_changes_while_calls_run(make: Make) -> None:
    gate = threading.Semaphore(0)

    def answer(_: Seen) -> Reply:
        gate.acquire(timeout=PATIENCE_SECONDS)
        return Reply(200, ANSWER)

    with ScriptedEndpoint(answer) as endpoint:
        transport = make("curl", endpoint.url, concurrency=2)
        assert isinstance(transport, CurlTransport)
        thread = threading.Thread(target=transport.call_many, args=("Encrypt", [REQUEST] * 40))
        thread.start()
        wait_until(lambda: len(endpoint.seen) == 2)
        transport.set_concurrency(6)
        wait_until(lambda: len(endpoint.seen) == 6)
        transport.set_concurrency(1)
        gate.release(6)
        wait_until(lambda: len(endpoint.seen) == 7)
        assert endpoint.most_at_once == 6
        gate.release(40)
        thread.join(timeout=PATIENCE_SECONDS)
        assert not thread.is_alive()
        assert len(endpoint.seen) == 40


def test_concurrency_may_change_while_boto3_s_calls_are_handed_out(make: Make) -> None:
    class Slow(ThreadPoolExecutor):
        """A pool that is exchanged just as it takes up work, if that can be."""

        def submit(self, *args: Any, **options: Any) -> Any:
            thread = threading.Thread(target=transport.set_concurrency, args=(3,))
            thread.start()
            thread.join(timeout=0.2)
            threads.append(thread)
            return super().submit(*args, **options)

    threads: list[threading.Thread] = []
    with ScriptedEndpoint(lambda _: Reply(200, ANSWER)) as endpoint:
        made = make("boto3", endpoint.url, concurrency=2)
        assert isinstance(made, BotoTransport)
        transport = made
        transport._pool.shutdown()
        transport._pool = Slow(2)
        assert len(good(transport.call_many("Encrypt", [REQUEST] * 4))) == 4
        for thread in threads:
            thread.join(timeout=PATIENCE_SECONDS)
        assert len(good(transport.call_many("Encrypt", [REQUEST] * 4))) == 4


@pytest.mark.parametrize("rate", [None, 0])
def test_cancelling_ends_the_waiting_at_once(make: Make, kind: Kind, rate: float | None) -> None:
    cancel = threading.Event()
    patient = RetryPolicy(patience=600, base=100, longest=100)
    with ScriptedEndpoint(lambda _: refusal(400, "ThrottlingException")) as endpoint:
        transport = make(
            kind, endpoint.url, cancel=cancel, limiter=RateLimiter(rate), policy=patient
        )
        threading.Timer(0.5, cancel.set).start()
        started = time.monotonic()
        answers = bad(transport.call_many("Encrypt", [REQUEST] * 30))
        assert time.monotonic() - started < 90, "the back-off of 100 seconds was waited for"
    assert all(isinstance(answer, CancelledError) for answer in answers)


def test_cancelling_gives_up_on_answers_that_do_not_come(make: Make, kind: Kind) -> None:
    cancel, hold = threading.Event(), threading.Event()

    def answer(_: Seen) -> Reply:
        hold.wait(PATIENCE_SECONDS)
        return Reply(200, ANSWER)

    with ScriptedEndpoint(answer) as endpoint:
        transport = make(kind, endpoint.url, cancel=cancel)
        threading.Timer(0.2, cancel.set).start()
        answers = bad(transport.call_many("Encrypt", [REQUEST] * 30))
        hold.set()
    assert all(isinstance(answer, CancelledError) for answer in answers)


def test_a_closed_transport_refuses(standin: KmsStandin, make: Make, kind: Kind) -> None:
    transport = make(kind, standin.endpoint_url)
    transport.close()
    transport.close()
    with pytest.raises(KMSRefusedError, match="closed"):
        transport.call_many("Encrypt", [REQUEST])


def test_closing_ends_calls_that_wait(make: Make) -> None:
    transport = make("curl", "http://127.0.0.1:9", limiter=RateLimiter(0))
    errors: list[KMSError] = []

    def work() -> None:
        try:
            transport.call_many("Encrypt", [REQUEST])
        except KMSError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.1)
    transport.close()
    thread.join(timeout=PATIENCE_SECONDS)
    assert [str(error) for error in errors] == ["the connection to KMS is closed"]
