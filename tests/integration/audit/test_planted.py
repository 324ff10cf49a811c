"""Twenty-five planted findings among many events are found, and nothing else.

There are 20,000 events here; more of them, by hand::

    DEKCTL_AUDIT_EVENTS=1000000 make test ARGS=tests/integration/audit/test_planted.py
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from support.audit_world import (
    BUCKET,
    FOREIGN_KEK,
    KEK,
    MALLORY,
    TRAIL,
    AuditWorld,
    DigestSigner,
    Record,
)

EVENTS = int(os.environ.get("DEKCTL_AUDIT_EVENTS", "20000"))
IN_A_FILE = 5_000
SECOND = timedelta(seconds=1)


def planted(world: AuditWorld) -> Iterator[tuple[str, Record]]:
    """Single events that are findings, with their kinds."""
    yield "unknown-principal", world.event("Decrypt", MALLORY)
    yield "unknown-principal", world.event("Decrypt", MALLORY, error="InvalidCiphertextException")
    yield "unknown-principal", world.event("GenerateDataKey", MALLORY, table="x")
    yield "denied", world.event("Decrypt", MALLORY, error="AccessDenied")
    yield "wrong-role", world.event("Decrypt", "rewrapper")
    yield "wrong-role", world.event("Encrypt", "app")
    yield "context", world.event("Decrypt", table="wages")
    yield "foreign-key", world.event("GenerateDataKey", key=FOREIGN_KEK)
    yield "unexplained", world.event("Decrypt", "verifier", session="dekctl")
    yield "unexplained", world.event("Encrypt", "wrapper", run="0d5b1a52-6f9b-4b52-8b65-0a3c9d3a1e")
    for api, kind in {
        "PutKeyPolicy": "key-policy-changed",
        "CreateGrant": "grant-created",
        "ScheduleKeyDeletion": "key-deletion-scheduled",
        "DisableKey": "key-disabled",
        "DisableKeyRotation": "rotation-disabled",
    }.items():
        yield kind, world.event(api, MALLORY)
    alias = {"aliasName": "alias/files", "targetKeyId": KEK}
    yield "alias-changed", world.record("kms", "UpdateAlias", MALLORY, alias)
    yield "trail-stopped", world.record("cloudtrail", "StopLogging", MALLORY, {"name": TRAIL})
    selectors = world.record("cloudtrail", "PutEventSelectors", MALLORY, {"trailName": TRAIL})
    yield "trail-changed", selectors
    policy = world.record("s3", "PutBucketPolicy", MALLORY, {"bucketName": BUCKET})
    yield "bucket-changed", policy
    trust = world.record("iam", "UpdateAssumeRolePolicy", MALLORY, {"roleName": "files-verifier"})
    yield "role-changed", trust


def usual(world: AuditWorld, chance: random.Random, number: int) -> Record:
    """An event as there are many: the application reads rows, and others do other things."""
    at = SECOND * (number % 7200)
    if number % 5 == 4:
        bucket = {"bucketName": "photos", "key": f"{number}.jpg"}
        return world.record("s3", "GetBucketLocation", "arn:aws:iam::1:role/x", bucket, at=at)
    if number % 50 == 3:
        other = world.event("Decrypt", MALLORY, key=FOREIGN_KEK, table="others", at=at)
        return other | {"recipientAccountId": "999999999999"}
    if number % 1000 == 7:
        error = "ThrottlingException"
        return world.event("Decrypt", pk=chance.randrange(1000), at=at, error=error)
    return world.event("Decrypt", pk=chance.randrange(1000), at=at)


def test_planted_findings_are_found_and_nothing_else(tmp_path: Path) -> None:
    world = AuditWorld(tmp_path / "world")
    chance = random.Random(7)  # noqa: S311 - a repeatable mixture
    signer = DigestSigner(world)
    single = list(planted(world))
    kinds = Counter(kind for kind, _ in single)

    # A run with one call too many, one whose calls are missing, one that was killed.
    surplus = world.run("verify", {"Decrypt": 500}, proved=500)
    missing = world.run("verify", {"Decrypt": 500}, proved=500)
    world.run("wrap", state="abandoned", result=None)
    calls = [world.event("Decrypt", "verifier", run=surplus, pk=pk) for pk in range(501)]
    calls += [world.event("Decrypt", "verifier", run=missing, pk=pk) for pk in range(499)]
    hot = [world.event("Decrypt", pk="hot") for _ in range(max(200, 60 * EVENTS // 1000))]
    kinds.update(("surplus", "missing", "unchecked", "hot-row", "removed"))
    assert kinds.total() == 25

    special = [*(record for _, record in single), *calls, *hot]
    chance.shuffle(special)
    where = sorted(chance.randrange(EVENTS) for _ in special)
    files: list[Path] = []
    page: list[Record] = []
    for number in range(EVENTS):
        page.append(usual(world, chance, number))
        while where and where[0] == number:
            where.pop(0)
            page.append(special.pop())
        if len(page) >= IN_A_FILE or number == EVENTS - 1:
            files.append(world.write(page, at=timedelta(minutes=10)))
            page = []
    removed = world.write([world.event()])
    signer.digest([*files, removed])
    signer.digest([], timedelta(hours=1))
    removed.unlink()

    result = world.audit(
        public_keys=signer.public_keys(),
        since=world.hour,
        until=world.hour + timedelta(hours=2),
    )
    found = {kind.value: n for kind, n in result.matched.findings.counts.items()}
    assert found == dict(kinds)
    planted_ids = {record["eventID"] for _, record in single}
    named = {finding.event_id for finding in result.matched.findings.kept if finding.event_id}
    assert named == planted_ids
