"""Which events are findings: administration, strangers, foreign keys, rows read too often."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.audit_world import (
    ACCOUNT,
    BUCKET,
    FOREIGN_KEK,
    KEK,
    MALLORY,
    TABLE,
    TOPIC,
    TRAIL,
    AuditWorld,
    Record,
)


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
