"""What an audit finds in evidence that was forged, cut, moved or made up.

Each case is one deviation in a trail and a ledger that otherwise agree.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dekctl.audit.event_reader import EventReader
from dekctl.audit.scope import Scope
from dekctl.audit.trail_file import read_log
from dekctl.cli.main import cli
from dekctl.errors import UsageError
from dekctl.ledger.tables import time_text
from support.audit_world import (
    ACCOUNT,
    BUCKET,
    FOREIGN_KEK,
    KEK,
    OLD_KEK,
    TABLE,
    TOPIC,
    TRAIL,
    AuditWorld,
    Record,
    role_arn,
)

MALLORY = f"arn:aws:iam::{ACCOUNT}:user/mallory"
MINUTE = timedelta(minutes=1)


@pytest.fixture
def world(tmp_path: Path) -> AuditWorld:
    return AuditWorld(tmp_path / "world")


def verified(world: AuditWorld, rows: int = 3, **values: Any) -> tuple[str, list[Record]]:
    """A `verify` that both records know."""
    run = world.run("verify", {"Decrypt": rows}, proved=rows, **values)
    return run, [world.event("Decrypt", "verifier", run=run, pk=pk) for pk in range(rows)]


# -- runs ------------------------------------------------------------------------------------------


def killed(world: AuditWorld, noted: dict[str, Any] | None) -> str:
    """A run that was killed ten minutes after it began, an hour before anybody noticed."""
    return world.run(
        "wrap",
        state="abandoned",
        ended_at=time_text(world.hour + timedelta(hours=1)),
        result=json.dumps(noted) if noted is not None else None,
    )


def test_what_both_records_know_is_no_finding(world: AuditWorld) -> None:
    _, calls = verified(world)
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
    run, calls = verified(world)
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
    first, calls = verified(world)
    _, others = verified(world, rows=2)
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


# -- what else is a finding ------------------------------------------------------------------------


def _alias(world: AuditWorld, who: str, **changes: Any) -> Record:
    asked = {"aliasName": "alias/files", "targetKeyId": KEK}
    return world.record("kms", "UpdateAlias", who, asked) | changes


def _by_mallory(api: str) -> Callable[[AuditWorld], Record]:
    return lambda world: world.event(api, MALLORY, requestParameters={"keyId": KEK})


CASES: dict[str, tuple[Callable[[AuditWorld], Record], dict[str, int]]] = {
    **{
        f"{api} by a stranger": (
            _by_mallory(api),
            {kind: 1},
        )
        for api, kind in {
            "PutKeyPolicy": "key-policy-changed",
            "CreateGrant": "grant-created",
            "ScheduleKeyDeletion": "key-deletion-scheduled",
            "DisableKey": "key-disabled",
            "DisableKeyRotation": "rotation-disabled",
            "TagResource": "administration",
        }.items()
    },
    "PutKeyPolicy by the key administrator": (
        lambda w: w.event("PutKeyPolicy", "key_admin", requestParameters={"keyId": KEK}),
        {},
    ),
    "PutKeyPolicy by a role of dekctl": (
        lambda w: w.event("PutKeyPolicy", "verifier", requestParameters={"keyId": KEK}),
        {"key-policy-changed": 1},
    ),
    "a failed change by a stranger": (
        lambda w: w.event("DisableKey", MALLORY, error="KMSInvalidStateException"),
        {"key-disabled": 1},
    ),
    "a denied change by a stranger": (
        lambda w: w.event("DisableKey", MALLORY, error="AccessDenied"),
        {"denied": 1},
    ),
    "the alias": (lambda w: _alias(w, MALLORY), {"alias-changed": 1}),
    "another Region's alias": (
        lambda w: _alias(
            w,
            MALLORY,
            awsRegion="eu-west-1",
            requestParameters={"aliasName": "alias/files", "targetKeyId": FOREIGN_KEK},
        ),
        {},
    ),
    "another account's alias": (
        lambda w: _alias(
            w,
            MALLORY,
            recipientAccountId="999999999999",
            requestParameters={"aliasName": "alias/files", "targetKeyId": FOREIGN_KEK},
        ),
        {},
    ),
    "key material that AWS rotates": (
        lambda w: w.event(
            "RotateKey",
            "x",
            eventType="AwsServiceEvent",
            requestParameters=None,
            userIdentity={"accountId": ACCOUNT, "invokedBy": "AWS Internal"},
        ),
        {},
    ),
    "a key that AWS deleted": (
        lambda w: w.event(
            "DeleteKey",
            "x",
            eventType="AwsServiceEvent",
            requestParameters=None,
            userIdentity={"accountId": ACCOUNT, "invokedBy": "AWS Internal"},
        ),
        {"key-deletion-scheduled": 1},
    ),
    "StopLogging": (
        lambda w: w.record("cloudtrail", "StopLogging", MALLORY, {"name": TRAIL}),
        {"trail-stopped": 1},
    ),
    "StopLogging by the key administrator": (
        lambda w: w.record("cloudtrail", "StopLogging", "key_admin", {"name": "files-trail"}),
        {"trail-stopped": 1},
    ),
    "StopLogging of another trail": (
        lambda w: w.record("cloudtrail", "StopLogging", MALLORY, {"name": "other"}),
        {},
    ),
    "DeleteTrail": (
        lambda w: w.record("cloudtrail", "DeleteTrail", MALLORY, {"name": TRAIL}),
        {"trail-deleted": 1},
    ),
    "PutEventSelectors": (
        lambda w: w.record("cloudtrail", "PutEventSelectors", MALLORY, {"trailName": TRAIL}),
        {"trail-changed": 1},
    ),
    "the bucket's policy": (
        lambda w: w.record("s3", "PutBucketPolicy", MALLORY, {"bucketName": BUCKET}),
        {"bucket-changed": 1},
    ),
    "another bucket's policy": (
        lambda w: w.record("s3", "PutBucketPolicy", MALLORY, {"bucketName": "photos"}),
        {},
    ),
    "a role's trust": (
        lambda w: w.record("iam", "UpdateAssumeRolePolicy", MALLORY, {"roleName": "files-app"}),
        {"role-changed": 1},
    ),
    "the log group": (
        lambda w: w.record("logs", "DeleteLogGroup", MALLORY, {"logGroupName": "/dekctl/files"}),
        {"log-group-changed": 1},
    ),
    "a log stream that CloudTrail makes": (
        lambda w: w.record("logs", "CreateLogStream", MALLORY, {"logGroupName": "/dekctl/files"}),
        {},
    ),
    "an alarm among others": (
        lambda w: w.record(
            "monitoring", "DeleteAlarms", MALLORY, {"alarmNames": ["cpu", "files-key-disabled"]}
        ),
        {"alarm-changed": 1},
    ),
    "others' alarms": (
        lambda w: w.record("monitoring", "DeleteAlarms", MALLORY, {"alarmNames": ["cpu"]}),
        {},
    ),
    "a rule": (
        lambda w: w.record("events", "DisableRule", MALLORY, {"name": "files-kms"}),
        {"rule-changed": 1},
    ),
    "a subscription": (
        lambda w: w.record("sns", "Unsubscribe", MALLORY, {"subscriptionArn": f"{TOPIC}:1"}),
        {"topic-changed": 1},
    ),
    "a stranger's use": (lambda w: w.event("Decrypt", MALLORY), {"unknown-principal": 1}),
    "a stranger's failed use": (
        lambda w: w.event("Decrypt", MALLORY, error="InvalidCiphertextException"),
        {"unknown-principal": 1},
    ),
    "a stranger's denied use": (
        lambda w: w.event("Decrypt", MALLORY, error="AccessDenied"),
        {"denied": 1},
    ),
    "a stranger's use by alias, which failed": (
        lambda w: w.event(
            "Decrypt", MALLORY, key="alias/files", table="x", resources=[], error="NotFound"
        ),
        {"unknown-principal": 1},
    ),
    "a stranger's use of a stranger's key": (
        lambda w: w.event("Decrypt", MALLORY, key=FOREIGN_KEK, table="x"),
        {},
    ),
    "the same table's name in another account": (
        lambda w: w.event("Decrypt", MALLORY, key=FOREIGN_KEK, recipientAccountId="999999999999"),
        {},
    ),
    "the application under a foreign key": (
        lambda w: w.event("GenerateDataKey", "app", key=FOREIGN_KEK),
        {"foreign-key": 1},
    ),
    "a role that tries another's task": (
        lambda w: w.event("Decrypt", "rewrapper", error="InvalidCiphertextException"),
        {"wrong-role": 1},
    ),
    "a probe of doctor": (
        lambda w: w.event(
            "Decrypt", "verifier", pk="dekctl doctor", error="DryRunOperationException"
        ),
        {},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_one_event(case: str, world: AuditWorld) -> None:
    make, counts = CASES[case]
    assert world.counts(make(world), world.event()) == counts


def test_a_key_that_is_reencrypted_to_a_foreign_key_within_a_run_is_found(
    world: AuditWorld,
) -> None:
    run = world.run("rewrap", {"ReEncrypt": 2}, changed=2)
    good = world.event("ReEncrypt", "rewrapper", run=run)
    exiled = world.event("ReEncrypt", "rewrapper", run=run, key=FOREIGN_KEK)
    assert world.counts(good, exiled) == {"foreign-key": 1}


@pytest.mark.parametrize(("operation", "counts"), [("rewrap", {"context": 1}), ("rebind", {})])
def test_a_key_that_is_reencrypted_for_another_row_is_found(
    operation: str, counts: dict[str, int], world: AuditWorld
) -> None:
    run = world.run(operation, {"ReEncrypt": 1}, changed=1)
    moved = world.event("ReEncrypt", "rewrapper", run=run)
    moved["requestParameters"]["sourceEncryptionContext"] = {
        "dekctl:table": TABLE,
        "dekctl:pk": "7",
    }
    assert world.counts(moved) == counts


@pytest.mark.parametrize(("factor", "counts"), [(50, {"hot-row": 1}), (500, {}), (0, {})])
def test_a_row_that_is_read_far_more_often_than_others_is_found(
    factor: int, counts: dict[str, int], tmp_path: Path
) -> None:
    world = AuditWorld(tmp_path / "world", f"hot_row_factor = {factor}\n")
    usual = [world.event(pk=pk) for pk in range(40) for _ in range(4)]
    result = world.audit(*usual, *(world.event(pk="7") for _ in range(300)))
    assert {k.value: n for k, n in result.matched.findings.counts.items()} == counts
    if counts:
        [finding] = result.matched.findings.kept
        assert f"{TABLE} 7 was decrypted 304 times, the average row 4.0 times" in finding.detail


def test_others_may_administer_if_the_configuration_says_so(tmp_path: Path) -> None:
    world = AuditWorld(tmp_path / "world", f'administrators = ["{MALLORY}"]\n')
    changed = world.event("PutKeyPolicy", MALLORY)
    stopped = world.record("cloudtrail", "StopLogging", MALLORY, {"name": TRAIL})
    assert world.counts(changed, stopped) == {"trail-stopped": 1}


# -- accepted findings -----------------------------------------------------------------------------


def test_a_finding_is_accepted_by_its_id_with_a_reason_until_it_expires(world: AuditWorld) -> None:
    result = world.audit(world.event("Decrypt", MALLORY), world.event())
    [finding] = result.matched.findings.kept
    file = world.folder / "accepted.toml"
    file.write_text(
        f'[[accepted]]\nid = "{finding.id}"\nreason = "Drill 7"\nexpires = 2999-01-01\n'
    )
    accepted = world.audit(accept=file)
    assert accepted.clean
    [entry] = accepted.as_json()["accepted"]
    assert (entry["id"], entry["reason"]) == (finding.id, "Drill 7")
    file.write_text(file.read_text().replace("2999", "2020"))
    expired = world.audit(accept=file)
    assert not expired.clean
    assert expired.expired == [finding.id]


def test_more_of_the_same_is_another_finding(world: AuditWorld) -> None:
    run, calls = verified(world)
    ids = []
    for more in (1, 2):
        extra = [world.event("Decrypt", "verifier", run=run, pk=pk) for pk in range(more)]
        result = world.audit(paths=[world.write([*calls, *extra])])
        ids += [finding.id for finding in result.matched.findings.kept]
    assert len(set(ids)) == 2


@pytest.mark.parametrize(
    "text",
    [
        "[[accepted]]\nid = '0123456789abcdef'\n",
        "[[accepted]]\nid = '0123456789abcdef'\nreason = ' '\n",
        "[[accepted]]\nreason = 'x'\n",
        "[[accepted]]\nid = '*'\nreason = 'x'\n",
        "[[accepted]]\nid = '0123456789abcdef'\nreason = 'x'\nexpires = 'soon'\n",
        "[[accepted]]\nid = '0123456789abcdef'\nreason = 'x'\nkind = 'y'\n",
        "accepted = 'all'\n",
        "[accept]\n",
        "no TOML",
    ],
)
def test_an_acceptance_without_id_or_reason_is_refused(text: str, world: AuditWorld) -> None:
    file = world.folder / "accepted.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"accepted\.toml"):
        world.audit(world.event(), accept=file)


# -- files -----------------------------------------------------------------------------------------


def test_the_order_of_files_does_not_matter_and_copies_count_once(world: AuditWorld) -> None:
    _, calls = verified(world, rows=6)
    files = [world.write(calls[n : n + 2], at=n * MINUTE) for n in (4, 0, 2)]
    copy = world.trail / "copy" / files[0].name
    copy.parent.mkdir()
    copy.write_bytes(files[0].read_bytes())
    result = world.audit()
    assert result.clean
    assert (result.matched.events, result.reading.duplicates) == (6, 2)


def test_an_event_cannot_be_hidden_behind_one_of_its_id(world: AuditWorld) -> None:
    stolen = world.event("Decrypt", MALLORY)
    decoy = world.event() | {"eventID": stolen["eventID"]}
    world.write([decoy], at=timedelta(0))
    assert world.counts(stolen) == {"altered": 1, "unknown-principal": 1}


def test_records_that_are_written_otherwise_are_read_too(world: AuditWorld) -> None:
    stolen = world.event("Decrypt", MALLORY)
    stolen["requestParameters"]["x"] = [{"a": 1}, {"eventVersion": "1.11"}]  # as a boundary looks
    stolen["userAgent"] = '"},{"eventVersion":"1.11"'
    file = world.write([world.event(), stolen, world.event()])
    assert world.counts() == {"unknown-principal": 1}
    text = gzip.decompress(file.read_bytes()).decode()
    escaped = text.replace("/", "\\/").replace("kms.amazonaws", "\\u006bms.amazonaws")
    for other in (escaped, json.dumps(json.loads(text), indent=1), text + "\n"):
        file.write_bytes(gzip.compress(other.encode()))
        assert world.counts() == {"unknown-principal": 1}


def test_alike_records_are_read_as_if_each_was_parsed(world: AuditWorld) -> None:
    """The fast reader against the slow one, on records that try to look alike."""
    run = world.run("rewrap", {"ReEncrypt": 9}, changed=9)
    records = []
    for pk in ("1", "2", 'a"b', "é", "", "1"):
        for api, who in (("Decrypt", "app"), ("ReEncrypt", "rewrapper"), ("Encrypt", "wrapper")):
            records.append(world.event(api, who, pk=pk, run=run))
            moved = world.event(api, who, pk=pk, run=run)
            for name in ("encryptionContext", "sourceEncryptionContext"):
                if name in moved["requestParameters"]:
                    moved["requestParameters"][name] = {
                        "eventID": pk,
                        "eventSource": "s3.amazonaws.com",
                        "dekctl:table": TABLE,
                        "dekctl:pk": "7",
                        "eventTime": "2026-01-01T00:00:00Z",
                    }
            records.append(moved)
            records.append(world.event(api, who, pk=pk) | {"requestID": pk})
            records.append(world.event(api, who, pk=pk) | {"eventTime": "2026-11-27T10:00:00.5Z"})
            records.append(world.event(api, who, pk=pk) | {"eventID": pk})
    scope = Scope.of(
        world.project.outputs or pytest.fail("no outputs"), world.project.known_keks(), [TABLE]
    )
    content = world.write(records * 2).read_bytes()
    fast = read_log("x", content, EventReader(scope.filter(), scope.concerns))
    slow = read_log("x", gzip.decompress(content), EventReader(scope.filter(), scope.concerns))
    assert fast.events == slow.events
    assert len(fast.events) == 2 * len(records)


def test_what_a_caller_chose_never_looks_like_a_line_of_the_audit(world: AuditWorld) -> None:
    world.write([world.event("Decrypt", MALLORY, pk="1\nno findings\x1b[2J")])
    config = str(world.folder / "dekctl.toml")
    done = CliRunner().invoke(cli, ["--config", config, "audit", "--events", str(world.trail)])
    assert done.exit_code == 4
    assert "no findings" not in done.stdout.splitlines()
    assert r"1\nno findings\x1b[2J" in done.stdout


def test_keys_are_known_by_any_of_their_names(world: AuditWorld) -> None:
    by_id = world.event("Decrypt", MALLORY, key=OLD_KEK.rpartition("/")[2], resources=[])
    by_alias = world.event(
        "Decrypt", MALLORY, key=f"arn:aws:kms:us-east-1:{ACCOUNT}:alias/files", resources=[]
    )
    assert world.counts(by_id, by_alias) == {"unknown-principal": 2}
    assert role_arn("app").endswith("files-app")
