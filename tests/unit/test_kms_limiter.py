"""The rate of KMS calls, on a clock of the tests' own."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable

import pytest

from dekctl.kms.limiter import BACK_OFF, LATE_SECONDS, MAX_WAIT_SECONDS, RateLimiter
from support.waiting import PATIENCE_SECONDS, eventually


class Clock:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def run(
    limiter: RateLimiter,
    clock: Clock,
    seconds: float,
    *,
    quota: float | None = None,
    stall: Callable[[], float] = lambda: 0.0,
) -> list[float]:
    """Send as much as the limiter allows; KMS throttles above ``quota``. Returns the send times.

    ``stall`` tells how many seconds too late the sender wakes up, each time.
    """
    end = clock.now + seconds
    sent: list[float] = []
    last_second: deque[float] = deque()
    while clock.now < end:
        granted, wait = limiter.reserve(16)
        for _ in range(granted):
            sent.append(clock.now)
            last_second.append(clock.now)
            while last_second[0] <= clock.now - 1.0:
                last_second.popleft()
            if quota is not None and len(last_second) > quota:
                limiter.throttled()
            else:
                limiter.succeeded()
        clock.now += max(wait, 0.0005) + stall()
    return sent


def most_in_a_second(times: list[float]) -> int:
    window: deque[float] = deque()
    most = 0
    for moment in times:
        window.append(moment)
        while window[0] <= moment - 1.0 + 1e-9:
            window.popleft()
        most = max(most, len(window))
    return most


@pytest.mark.parametrize("rate", [1, 2.5, 50, 100, 1000, 9000])
def test_no_second_sees_more_calls_than_the_rate(rate: float) -> None:
    clock = Clock()
    sent = run(RateLimiter(rate, clock=clock), clock, 5.0)
    assert most_in_a_second(sent) <= max(rate, 1) + 1
    assert len(sent) >= rate * 5 * 0.95 - 1, "the limiter wastes the rate it was given"


@pytest.mark.parametrize("rate", [10, 200, 5000])
def test_a_busy_machine_costs_little_of_the_rate_and_never_exceeds_it(rate: int) -> None:
    """The sender wakes up late, again and again, as measured with other work on every processor."""
    clock, chance = Clock(), random.Random(1)  # noqa: S311 - repeatable

    def stall() -> float:
        if clock.now < woken[0]:
            return 0.0
        late = chance.uniform(0.01, 0.04)
        woken[0] = clock.now + late + chance.expovariate(8)  # about eight times a second
        return late

    woken = [clock.now]
    sent = run(RateLimiter(rate, clock=clock), clock, 60.0, stall=stall)
    assert most_in_a_second(sent) <= rate
    assert len(sent) >= 60 * rate * 0.97


def test_the_share_beside_an_application_never_meets_the_quota() -> None:
    """Half of a quota each: a bucket that holds a tenth of a second's calls never runs dry."""
    clock, chance, quota = Clock(), random.Random(2), 400.0  # noqa: S311 - repeatable
    sent = run(
        RateLimiter(quota / 2, clock=clock),
        clock,
        60.0,
        stall=lambda: chance.choice((0.0,) * 30 + (0.03, 0.2, 0.5)),
    )
    application = [1000.0 + i * 2 / quota for i in range(int(60 * quota / 2))]
    tokens = most = quota / 10
    before = 1000.0
    for moment in sorted(sent + application):
        tokens = min(most, tokens + (moment - before) * quota) - 1
        before = moment
        assert tokens >= 0


def test_idle_time_is_not_saved_up_for_a_burst() -> None:
    clock = Clock()
    limiter = RateLimiter(100, clock=clock)
    clock.now += 3600
    sent = run(limiter, clock, 2.0)
    assert most_in_a_second(sent) <= 100
    assert sent.count(sent[0]) <= 100 * LATE_SECONDS + 1


def test_a_lower_rate_counts_what_was_sent_in_the_second_before() -> None:
    clock = Clock()
    limiter = RateLimiter(1000, clock=clock)
    before = run(limiter, clock, 1.0)
    limiter.set_rate(100)
    sent = run(limiter, clock, 3.0)
    assert most_in_a_second(before[-100:] + sent) <= 100
    assert len(sent) >= 2 * 100


def test_without_a_rate_everything_is_granted_at_once() -> None:
    assert RateLimiter(None, clock=Clock()).reserve(100_000) == (100_000, 0.0)


def test_rate_zero_pauses_until_a_rate_is_set() -> None:
    clock = Clock()
    limiter = RateLimiter(0, clock=clock)
    assert limiter.reserve(1) == (0, MAX_WAIT_SECONDS)
    clock.now += 60
    assert limiter.reserve(1)[0] == 0
    assert limiter.snapshot().ceiling == 0
    limiter.set_rate(10)
    assert limiter.reserve(1)[0] == 1
    limiter.set_rate(None)
    assert limiter.reserve(500) == (500, 0.0)


def test_negative_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="0 calls per second or more"):
        RateLimiter(-1)
    with pytest.raises(ValueError, match="0 calls per second or more"):
        RateLimiter(float("nan"))


def test_waits_are_short_enough_to_obey_a_new_rate_soon() -> None:
    limiter = RateLimiter(0.01, clock=Clock())
    limiter.reserve(1)
    assert limiter.reserve(1) == (0, MAX_WAIT_SECONDS)


def test_throttling_cuts_the_rate_once_a_second() -> None:
    clock = Clock()
    limiter = RateLimiter(1000, clock=clock)
    run(limiter, clock, 1.0)
    for _ in range(200):
        limiter.throttled()
    after_one_wave = limiter.snapshot()
    assert after_one_wave.rate == pytest.approx(1000 * BACK_OFF, rel=0.05)
    assert after_one_wave.throttles == 200
    clock.now += 1.5
    limiter.throttled()
    again = limiter.snapshot().rate
    assert again is not None
    assert after_one_wave.rate is not None
    assert again < after_one_wave.rate


def test_throttling_cuts_the_rate_really_used_not_the_one_allowed() -> None:
    clock = Clock()
    limiter = RateLimiter(10_000, clock=clock)
    for _ in range(200):  # 200 calls a second are all there is to do
        limiter.reserve(1)
        clock.now += 0.005
    limiter.throttled()
    rate = limiter.snapshot().rate
    assert rate is not None
    assert rate < 250


def test_the_ceiling_is_found_again_within_seconds() -> None:
    clock = Clock()
    limiter = RateLimiter(1000, clock=clock)
    run(limiter, clock, 1.0)
    limiter.throttled()
    run(limiter, clock, 5.0)
    assert limiter.snapshot().rate == 1000


def test_the_rate_settles_below_a_quota_lower_than_the_ceiling() -> None:
    clock = Clock()
    limiter = RateLimiter(1000, clock=clock)
    run(limiter, clock, 5.0, quota=400)
    start = limiter.snapshot().throttles
    sent = run(limiter, clock, 20.0, quota=400)
    throttled = limiter.snapshot().throttles - start
    assert len(sent) - throttled > 20 * 400 * 0.7
    assert throttled < len(sent) * 0.1, "too many calls hit a wall that is known"


def test_without_a_ceiling_throttling_finds_a_rate_and_forgets_it_when_the_wall_is_gone() -> None:
    clock = Clock()
    limiter = RateLimiter(None, clock=clock)
    sent = run(limiter, clock, 10.0, quota=300)
    assert limiter.snapshot().rate is not None
    throttled = limiter.snapshot().throttles
    assert len(sent) - throttled > 10 * 300 * 0.6
    run(limiter, clock, 60.0)
    assert limiter.snapshot().rate is None


@pytest.mark.parametrize("rate", [None, 1000])
def test_throttling_at_random_slows_down_but_does_not_strangle(rate: float | None) -> None:
    clock = Clock()
    limiter = RateLimiter(rate, clock=clock)
    done = 0
    while clock.now < 1060:
        granted, wait = limiter.reserve(8)
        for _ in range(granted):
            done += 1
            if done % 5 == 0:  # a fifth, however slow we are
                limiter.throttled()
            else:
                limiter.succeeded()
        clock.now += max(wait, 0.005)
    assert done / 60 > 100


def test_throttling_never_stops_the_run() -> None:
    clock = Clock()
    limiter = RateLimiter(1000, clock=clock)
    for _ in range(100):
        clock.now += 2.0
        limiter.throttled()
    rate = limiter.snapshot().rate
    assert rate is not None
    assert rate >= 0.9


def test_a_paused_run_stays_paused_when_late_answers_say_throttled() -> None:
    clock = Clock()
    limiter = RateLimiter(0, clock=clock)
    limiter.throttled()
    limiter.succeeded()
    clock.now += 5
    assert limiter.reserve(1)[0] == 0


def test_a_waiting_thread_ends_at_once_when_cancelled() -> None:
    limiter = RateLimiter(0)
    cancel = threading.Event()
    answers: list[bool] = []
    threads = [
        threading.Thread(target=lambda: answers.append(limiter.acquire(cancel))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    cancel.set()
    for thread in threads:
        thread.join(timeout=PATIENCE_SECONDS)
    assert answers == [False] * 4


def test_threads_share_one_rate() -> None:
    limiter = RateLimiter(200)
    sent: list[float] = []
    stop = threading.Event()

    def work() -> None:
        while limiter.acquire(stop):
            sent.append(time.monotonic())
            if len(sent) >= 100:
                stop.set()

    threads = [threading.Thread(target=work) for _ in range(8)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=PATIENCE_SECONDS)
    # Slower is the machine's affair, faster would be the limiter's fault.
    assert time.monotonic() - started >= (100 - 2) / 200 - LATE_SECONDS


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
def test_a_forked_process_waits_for_no_thread_of_its_parent() -> None:
    limiter = RateLimiter(200)
    with limiter._lock, limiter._turnstile:
        child = os.fork()
        if child == 0:  # no exception may lead it back into pytest
            os._exit(0 if limiter.acquire(threading.Event()) else 1)
    found: list[int] = []

    def ended() -> bool:
        done, status = os.waitpid(child, os.WNOHANG)
        found.append(status)
        return done == child

    if not eventually(ended, 60):
        os.kill(child, 9)
        os.waitpid(child, 0)
        pytest.fail("the child hung")
    assert os.waitstatus_to_exitcode(found[-1]) == 0
