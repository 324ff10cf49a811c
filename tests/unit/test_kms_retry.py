"""How long and how often a call is tried again."""

from __future__ import annotations

import pytest

from dekctl.errors import ExitCode
from dekctl.kms.aws.faults import ErrorClass, classify
from dekctl.kms.aws.retry import CancelledError, Retries, RetryPolicy


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def longest(_low: float, high: float) -> float:
    return high


def total_wait(
    policy: RetryPolicy, fault: ErrorClass, *, contacted: bool = True
) -> tuple[float, int]:
    """Fail until the policy gives up. Returns the seconds waited and the retries made."""
    clock = Clock()
    retries = Retries(policy, clock=clock, uniform=longest)
    start, count = clock.now, 0
    while (delay := retries.next_delay(fault, contacted=contacted)) is not None:
        clock.now += delay
        count += 1
        assert count < 1000, "the retries never end"
    return clock.now - start, count


@pytest.mark.parametrize("fault", [ErrorClass.THROTTLED, ErrorClass.RETRY])
def test_passing_faults_are_retried_until_the_patience_runs_out(fault: ErrorClass) -> None:
    waited, count = total_wait(RetryPolicy(patience=60), fault)
    assert waited == pytest.approx(60)
    assert count < 30


def test_denied_calls_are_retried_for_the_grace_only() -> None:
    waited, _ = total_wait(RetryPolicy(access_grace=10), ErrorClass.GRACE)
    assert waited == pytest.approx(10)


@pytest.mark.parametrize("fault", [ErrorClass.ROW, ErrorClass.STOP])
def test_lasting_faults_are_not_retried(fault: ErrorClass) -> None:
    assert total_wait(RetryPolicy(), fault) == (0, 0)


def test_an_endpoint_that_never_answered_is_given_up_early() -> None:
    policy = RetryPolicy(patience=120, first_contact=15)
    waited, _ = total_wait(policy, ErrorClass.RETRY, contacted=False)
    assert waited == pytest.approx(15)


def test_waits_double_up_to_a_bound() -> None:
    policy = RetryPolicy(base=0.1, longest=2.0, patience=1000)
    clock = Clock()
    retries = Retries(policy, clock=clock, uniform=longest)
    delays = [retries.next_delay(ErrorClass.RETRY) for _ in range(7)]
    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0])


def test_waits_are_spread_from_zero_to_the_bound() -> None:
    policy = RetryPolicy(base=1.0)
    delays = [Retries(policy).next_delay(ErrorClass.RETRY) for _ in range(500)]
    assert all(delay is not None and 0 <= delay <= 1.0 for delay in delays)
    assert min(d for d in delays if d is not None) < 0.2
    assert max(d for d in delays if d is not None) > 0.8


def test_an_interrupted_call_ends_the_command_as_interrupted() -> None:
    assert CancelledError("Encrypt").exit_code is ExitCode.INTERRUPTED


def test_a_call_that_the_endpoint_does_not_implement_is_not_tried_again() -> None:
    assert classify("InternalFailure", 500) is ErrorClass.RETRY
    assert classify("InternalFailure", 501) is ErrorClass.STOP
