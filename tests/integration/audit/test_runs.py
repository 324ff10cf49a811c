"""Which calls a run in the ledger explains, and which not."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dekctl.ledger.tables import time_text
from support.audit_world import MINUTE, AuditWorld


def killed(world: AuditWorld, noted: dict[str, Any] | None) -> str:
    """A run that was killed ten minutes after it began, an hour before anybody noticed."""
    return world.run(
        "wrap",
        state="abandoned",
        ended_at=time_text(world.hour + timedelta(hours=1)),
        result=json.dumps(noted) if noted is not None else None,
    )


def test_what_both_records_know_is_no_finding(world: AuditWorld) -> None:
    _, calls = world.verified()
    assert world.counts(*calls, world.event()) == {}


def test_a_killed_run_explains_no_call_of_another_session(world: AuditWorld) -> None:
    killed(world, None)
    stolen = [world.event("Decrypt", "verifier", session="dekctl", pk=n) for n in range(500)]
    assert world.counts(*stolen) == {"unchecked": 1, "unexplained": 500}


def test_a_killed_run_explains_nothing_after_its_last_heartbeat(world: AuditWorld) -> None:
    run = killed(world, {"changed": 2, "kms_calls": {"Encrypt": 2}, "scanned": 2, "rows": 9})
    calls = [world.event("Encrypt", "wrapper", run=run, pk=pk) for pk in range(2)]
    late = world.event("Encrypt", "wrapper", run=run, pk=3, at=12 * MINUTE)
    result = world.audit(*calls, late)
    assert dict(result.matched.findings.counts) == {"unchecked": 1, "unexplained": 1}
    [finding] = [f for f in result.matched.findings.kept if f.kind.value == "unexplained"]
    assert "1 call in its sessions after its last heartbeat" in finding.detail


@pytest.mark.parametrize(
    ("seen", "counts"),
    [
        (0, {"unchecked": 1, "missing": 1}),  # none of what it noted is in the trail
        (1, {"unchecked": 1, "missing": 1}),
        (2, {"unchecked": 1}),
        (5, {"unchecked": 1}),  # between its last heartbeat and its end
        (6, {"unchecked": 1, "surplus": 1}),  # more than it had left to do
    ],
)
def test_the_calls_of_a_killed_run_have_bounds(
    seen: int, counts: dict[str, int], world: AuditWorld
) -> None:
    run = killed(world, {"changed": 2, "kms_calls": {"Encrypt": 2}, "scanned": 2, "rows": 5})
    calls = [world.event("Encrypt", "wrapper", run=run, pk=pk) for pk in range(seen)]
    assert world.counts(*calls, world.event()) == counts


def test_a_run_whose_calls_all_failed_must_be_in_the_trail_too(world: AuditWorld) -> None:
    world.run("verify", {"Decrypt": 3})
    assert world.counts(world.event()) == {"missing": 1}


def test_a_row_that_somebody_inserts_into_the_ledger_silences_nothing(world: AuditWorld) -> None:
    stolen = [world.event("Decrypt", "verifier", session="x", pk=n) for n in range(3)]
    hour = time_text(world.hour)
    far = time_text(datetime.now(UTC) + timedelta(days=900))
    for values in (
        {"state": "abandoned", "ended_at": None, "result": None},
        {"state": "running", "ended_at": None, "result": None},
        {"state": "running", "ended_at": None, "heartbeat_at": far},  # it would run for ever
        {"state": "finished", "ended_at": far},
        {"state": "finished", "ended_at": None},
        {"state": "interrupted", "started_at": "2000-01-01 00:00:00.000"},
        {"state": "finished", "heartbeat_at": "2000-01-01 00:00:00.000"},
        {"state": "forged"},
        {"result": "no JSON"},
        {"result": "[]"},
        {"result": json.dumps({"kms_calls": {"Decrypt": "many"}})},
        {"result": json.dumps({"kms_calls": {"Decrypt": -1}})},
        {"result": json.dumps({"kms_calls": {"Decrypt": 10**9}})},  # calls that were never made
        {"started_at": "yesterday"},
        {"started_at": hour, "heartbeat_at": hour, "ended_at": "9"},
    ):
        world.run(**values)
    counts = world.counts(*stolen)
    assert counts["unexplained"] == 3
    # Each is a finding itself, but for the one that notes no call and so explains none.
    assert counts["unchecked"] + counts["missing"] == 14


def test_a_session_that_names_a_run_explains_no_more_than_the_run_noted(world: AuditWorld) -> None:
    run, calls = world.verified()
    more = world.event("Decrypt", "verifier", run=run, pk=9)
    other_api = world.event("Encrypt", "wrapper", run=run, pk=9)
    failed = world.event("Decrypt", "verifier", run=run, error="InvalidCiphertextException")
    other_table = world.event("Decrypt", "verifier", run=run, table="wages")
    early = world.event("Decrypt", "verifier", run=run, at=-5 * MINUTE)
    unknown = world.event("Decrypt", "verifier", run="0d5b1a52-6f9b-4b52-8b65-0a3c9d3a1e11")
    assert world.counts(*calls, more) == {"surplus": 1}
    for record in (other_api, failed):
        assert world.counts(record, paths=[world.write([*calls, record])]) == {"surplus": 1}
    assert world.counts(paths=[world.write([*calls, early])]) == {"unexplained": 1}
    assert world.counts(paths=[world.write([*calls, unknown])]) == {"unexplained": 1}
    assert world.counts(paths=[world.write([*calls, other_table])]) == {"context": 1, "surplus": 1}


def test_runs_at_the_same_time_are_told_apart(world: AuditWorld) -> None:
    first, calls = world.verified()
    _, others = world.verified(rows=2)
    assert world.counts(*calls, *others) == {}
    # Together they made as many calls as before, but not each of them.
    wrong = world.event("Decrypt", "verifier", run=first, pk=7)
    assert world.counts(paths=[world.write([*calls, wrong, *others[1:]])]) == {
        "surplus": 1,
        "missing": 1,
    }


def test_clocks_may_differ_by_a_minute(world: AuditWorld) -> None:
    run = world.run("verify", {"Decrypt": 2}, proved=2)
    near = [
        world.event("Decrypt", "verifier", run=run, at=at)
        for at in (timedelta(seconds=-55), timedelta(minutes=10, seconds=55))
    ]
    assert world.counts(*near) == {}


def test_a_run_that_lost_a_worker_is_a_finding_only_if_that_shows(world: AuditWorld) -> None:
    result = {"changed": 1, "kms_calls": {"Encrypt": 1}, "incomplete": True}
    run = world.run("wrap", result=json.dumps(result))
    call = world.event("Encrypt", "wrapper", run=run)
    assert world.counts(call) == {}
    assert world.counts(world.event("Encrypt", "wrapper", run=run)) == {"unchecked": 1}
