"""Keys in memory: age, uses, number, one call for all, outages, and the breaker."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dekctl.errors import KMSRefusedError, KMSUnavailableError, RowRejectedError, UsageError
from dekctl.reader import KeyCache
from dekctl.reader.memory import REMEMBER_SECONDS, AbandonedError, Limits, Memory
from dekctl.reader.patience import FAILURES, PROBE_SECONDS, Breaker
from dekctl.reader.refusals import Refusals
from dekctl.reader.steps import result_of

AWAY = KMSUnavailableError("away")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def memory(clock: Clock, **limits: float) -> Memory[str, str]:
    return Memory(Limits(**{"max_age": 10, "max_entries": 3, **limits}), clock)  # type: ignore[arg-type]  # ints and floats alike


def test_a_key_is_used_up_to_its_age_and_its_uses(clock: Clock) -> None:
    kept = memory(clock, max_uses=3)
    kept.keep("a", "key", clock.now)
    assert [kept.get("a") for _ in range(3)] == ["key", "key", None], "the first use made the call"
    kept.keep("a", "key", clock.now)
    clock.now += 9.9
    assert kept.get("a") == "key"
    clock.now += 0.2
    assert kept.get("a") is None
    assert kept.hits == 3


def test_the_age_counts_from_the_call_and_not_from_its_answer(clock: Clock) -> None:
    kept = memory(clock)
    kept.keep("a", "key", clock.now - 9)
    clock.now += 2
    assert kept.get("a") is None


def test_the_least_used_key_goes_first(clock: Clock) -> None:
    kept = memory(clock)
    for name in "abc":
        kept.keep(name, name, clock.now)
    kept.get("a")
    kept.keep("d", "d", clock.now)
    assert [name for name in "abcd" if kept.get(name)] == ["a", "c", "d"]
    assert len(kept) == 3


def test_a_thousand_readers_of_one_key_make_one_call(clock: Clock) -> None:
    kept, calls, start = memory(clock), list[str](), threading.Event()

    def read(_: int) -> str:
        claim = kept.claim(["a"])
        if claim.mine:
            start.wait(10)
            calls.append("call")
            kept.keep("a", "key", clock.now)
            return "key"
        return claim.found.get("a") or claim.others["a"].result(10)

    with ThreadPoolExecutor(50) as pool:
        reads = [pool.submit(read, i) for i in range(1000)]
        start.set()
        assert {each.result(20) for each in reads} == {"key"}
    assert calls == ["call"]


def test_those_who_wait_share_a_failure_with_tracebacks_of_their_own(clock: Clock) -> None:
    kept = memory(clock)
    kept.claim(["a"])
    waiting = kept.claim(["a"]).others["a"]
    refused = KMSRefusedError("no", hint="why", code="AccessDeniedException")
    kept.fail("a", refused)
    for _ in range(2):
        with pytest.raises(KMSRefusedError, match="no") as caught:
            result_of(waiting)
        assert caught.value is not refused
        assert (caught.value.hint, caught.value.code) == ("why", "AccessDeniedException")


def test_a_refusal_is_remembered_for_a_moment_and_an_outage_is_not(clock: Clock) -> None:
    kept = memory(clock)
    for error, remembered in ((RowRejectedError("no"), True), (AWAY, False)):
        assert kept.claim(["a"]).mine == ["a"]
        kept.fail("a", error)
        claim = kept.claim(["a"])
        assert bool(claim.failed) is remembered
        assert bool(claim.mine) is not remembered
        if remembered:
            clock.now += REMEMBER_SECONDS
        else:
            kept.fail("a", error)


def test_an_old_key_serves_through_an_outage_up_to_its_limit_and_never_after_a_refusal(
    clock: Clock,
) -> None:
    kept = memory(clock, stale_if_unavailable=30)
    kept.keep("a", "key", clock.now)
    clock.now += 20
    assert kept.claim(["a"]).mine == ["a"]
    assert kept.fail("a", AWAY) == "key"
    assert kept.get("a") == "key", "for a moment without asking"
    assert (kept.hits, kept.stale_hits) == (0, 2)
    clock.now += REMEMBER_SECONDS
    assert kept.get("a") is None, "then KMS is asked again"
    clock.now = 1000 + 40
    assert kept.fail("a", AWAY) is None, "its age and the limit together are over"

    kept.keep("a", "key", clock.now)
    clock.now += 11
    kept.fail("a", KMSRefusedError("disabled"))
    assert kept.fail("a", AWAY) is None, "what was refused is gone"


KEK, REPLICA, OTHER = (
    f"arn:aws:kms:{region}:111122223333:key/mrk-{digit * 32}"
    for region, digit in (("eu-west-1", "a"), ("eu-west-2", "a"), ("eu-west-1", "b"))
)


@pytest.mark.parametrize(
    ("refused", "served"),
    [(KEK, False), (REPLICA, False), (OTHER, True), (None, False), ("alias/app", False)],
)
def test_after_a_refusal_that_may_be_of_its_kek_no_old_key_serves(
    clock: Clock, refused: str | None, served: bool
) -> None:
    """A row of an earlier script names no KEK, or an alias: then any may have been refused."""
    kept = memory(clock, stale_if_unavailable=30)
    kept.keep("a", "key", clock.now, KEK)
    clock.now += 20
    kept.refuse(refused)
    assert kept.fail("a", AWAY) == ("key" if served else None)
    clock.now += 1
    kept.keep("a", "new", clock.now, KEK)
    clock.now += 20
    assert kept.fail("a", AWAY) == "new", "it was opened after the refusal"


def test_refusals_are_forgotten_with_the_keys_that_they_concern(clock: Clock) -> None:
    """A row may name any text as its KEK, so they must not become more and more."""
    refusals = Refusals(40, clock)
    for number in range(100):
        refusals.add(f"arn:aws:kms:eu-west-1:111122223333:key/{number}")
        clock.now += 1
    assert len(refusals._at) == 40


def test_a_key_that_is_too_old_leaves_the_memory_when_another_is_asked_for(clock: Clock) -> None:
    kept = memory(clock, max_entries=100, stale_if_unavailable=30)
    kept.keep("a", "key", clock.now)
    clock.now += 39
    kept.claim(["b"])
    assert len(kept) == 1, "it may still be needed in an outage"
    clock.now += 1
    kept.claim(["c"])
    assert len(kept) == 0


def test_a_call_on_its_way_brings_no_key_into_a_memory_that_was_cleared(clock: Clock) -> None:
    kept, began = memory(clock), clock.now
    kept.claim(["a"])
    waiting = kept.claim(["a"]).others["a"]
    clock.now += 1
    kept.clear()
    kept.keep("a", "key", began)
    assert waiting.result(0) == "key"
    assert kept.get("a") is None
    clock.now += 1
    kept.keep("a", "key", clock.now)
    assert kept.get("a") == "key"


def test_without_a_limit_for_outages_an_old_key_does_not_serve(clock: Clock) -> None:
    kept = memory(clock)
    kept.keep("a", "key", clock.now)
    clock.now += 10
    assert kept.fail("a", AWAY) is None


def test_who_waits_for_a_reader_that_was_interrupted_may_ask_itself(clock: Clock) -> None:
    kept = memory(clock)
    kept.claim(["a"])
    waiting = kept.claim(["a"]).others["a"]
    with pytest.raises(KeyboardInterrupt):
        kept.give_up(["a"], KeyboardInterrupt())
    with pytest.raises(AbandonedError):
        result_of(waiting)
    assert kept.claim(["a"]).mine == ["a"]


@pytest.mark.parametrize(
    "limits",
    [
        {"max_age": 0, "max_entries": 1},
        {"max_age": 1, "max_entries": 0},
        {"max_age": 1, "max_entries": 1, "max_uses": 0},
        {"max_age": 1, "max_entries": 1, "stale_if_unavailable": -1},
    ],
)
def test_a_cache_with_a_limit_out_of_range_is_refused(limits: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="KeyCache"):
        KeyCache(**limits)


def test_the_breaker_opens_after_some_failures_lets_one_probe_through_and_closes_at_once(
    clock: Clock,
) -> None:
    breaker = Breaker(clock)
    for _ in range(FAILURES):
        breaker.enter()
        breaker.failed(AWAY)
    assert breaker.is_open
    with pytest.raises(KMSUnavailableError, match="not asked"):
        breaker.enter()
    clock.now += PROBE_SECONDS
    breaker.enter()  # the probe
    clock.now += 60
    with pytest.raises(KMSUnavailableError):
        breaker.enter()
    breaker.failed(AWAY)
    with pytest.raises(KMSUnavailableError):
        breaker.enter()
    clock.now += PROBE_SECONDS
    breaker.enter()
    breaker.answered()
    for _ in range(3):  # no probe any more: all go through
        breaker.enter()


def test_throttling_is_an_answer(clock: Clock) -> None:
    breaker = Breaker(clock)
    for _ in range(3 * FAILURES):
        breaker.enter()
        breaker.failed(KMSUnavailableError("slow down", code="ThrottlingException"))
    assert not breaker.is_open
