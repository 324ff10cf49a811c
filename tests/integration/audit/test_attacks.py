"""`dekctl audit` against somebody who may write files, ledger rows or sessions: it never ends well.

Each case changes evidence in which nothing is wrong, and must leave a finding.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dekctl.audit.digests import Digest, read_digest
from dekctl.ledger.tables import tables
from dekctl.lifecycle.probe import PROBE_PRIMARY_KEY
from support.audit_world import (
    ACCOUNT,
    BUCKET,
    FOREIGN_KEK,
    KEK,
    MALLORY,
    REGION,
    TABLE,
    TRAIL,
    AuditWorld,
    DigestSigner,
    Record,
)

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
RESOURCES = {
    "kms": KEK,
    "cloudtrail": TRAIL,
    "s3": f"arn:aws:s3:::{BUCKET}",
    "iam": f"arn:aws:iam::{ACCOUNT}:role/files-verifier",
    "logs": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/dekctl/files:log-stream:",
    "monitoring": f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:files-key-disabled",
    "events": f"arn:aws:events:{REGION}:{ACCOUNT}:rule/files-kms",
    "sns": f"arn:aws:sns:{REGION}:{ACCOUNT}:files-alerts",
}


class Scene:
    """A run of two calls that the trail has, in two hours with their digests."""

    def __init__(self, folder: Path) -> None:
        self.world = world = AuditWorld(folder / "world")
        self.run = world.run("verify", {"Decrypt": 2}, proved=2)
        calls = [world.event("Decrypt", "verifier", run=self.run, pk=pk) for pk in (1, 2)]
        self.log = world.write(calls)
        self.signer = DigestSigner(world)
        self.digests = [self.signer.digest([self.log]), self.signer.digest([], HOUR)]
        self.keys: Path | None = self.signer.public_keys()
        self.options: dict[str, Any] = {"since": world.hour, "until": world.hour + 2 * HOUR}

    def without_digests(self) -> None:
        """As somebody has it who copied the log files only."""
        for digest in self.digests:
            digest.unlink()
        self.keys = None

    def findings(self) -> dict[str, int]:
        return self.world.counts(public_keys=self.keys, **self.options)

    def record(self, *records: Record) -> None:
        """A log file more, that CloudTrail delivered."""
        self.without_digests()
        self.world.write(records)

    def enter(self, **values: Any) -> None:
        """Change the run's row in the ledger."""
        runs = tables(None)["runs"]
        change = sa.update(runs).where(runs.c.run_id == self.run).values(values)
        self.world.project.database.run(lambda c: c.execute(change), write=True)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_nothing_is_wrong_to_begin_with(scene: Scene) -> None:
    assert scene.findings() == {}
    scene.without_digests()
    assert scene.findings() == {}


def denied(scene: Scene, service: str, api: str, who: str = MALLORY) -> Record:
    """A denied call has no parameters and no resources in CloudTrail: only the message tells."""
    asked = f"{service}:{api} on resource: {RESOURCES[service]}"
    return scene.world.record(service, api, who, {}) | {
        "requestParameters": None,
        "errorCode": "AccessDenied",
        "errorMessage": f"User: {who} is not authorized to perform: {asked} because no policy "
        f"allows the {service}:{api} action",
    }


@pytest.mark.parametrize("who", [MALLORY, "app", "key_admin"])
def test_a_denied_call_names_the_key_in_its_message_only(who: str, scene: Scene) -> None:
    scene.record(denied(scene, "kms", "Decrypt", who))
    assert scene.findings() == {"denied": 1}


def test_a_denied_call_to_a_foreign_key_is_nobody_s_concern(scene: Scene) -> None:
    record = denied(scene, "kms", "Decrypt")
    record["errorMessage"] = record["errorMessage"].replace(KEK, FOREIGN_KEK)
    scene.record(record)
    assert scene.findings() == {}


@pytest.mark.parametrize(
    ("service", "api"),
    [
        ("kms", "ScheduleKeyDeletion"),
        ("cloudtrail", "StopLogging"),
        ("s3", "PutBucketPolicy"),
        ("iam", "UpdateAssumeRolePolicy"),
        ("logs", "DeleteLogGroup"),
        ("monitoring", "DeleteAlarms"),
        ("events", "DisableRule"),
        ("sns", "DeleteTopic"),
    ],
)
def test_a_denied_change_names_what_it_is_about_in_its_message_only(
    service: str, api: str, scene: Scene
) -> None:
    scene.record(denied(scene, service, api))
    assert scene.findings() == {"denied": 1}


def moved_to_the_probe(scene: Scene) -> Record:
    """The rewrapper binds a row's key to the context that `dekctl doctor` uses."""
    record = scene.world.event("ReEncrypt", "rewrapper", session="dekctl")
    target = {"dekctl:table": TABLE, "dekctl:pk": PROBE_PRIMARY_KEY}
    record["requestParameters"]["destinationEncryptionContext"] = target
    return record


def of_the_probe(scene: Scene, api: str, who: str, **more: Any) -> Record:
    return scene.world.event(api, who, session="dekctl", pk=PROBE_PRIMARY_KEY, **more)


def shifted(scene: Scene, by: timedelta) -> Record:
    """An event of a stranger, as if it were of another time."""
    at = scene.world.hour + by
    return scene.world.event("Decrypt", MALLORY) | {"eventTime": f"{at:%Y-%m-%dT%H:%M:%SZ}"}


def elsewhere(scene: Scene, record: Record) -> Record:
    return record | {"recipientAccountId": "999999999999"}


EVENTS: dict[str, tuple[Callable[[Scene], Record], str]] = {
    "a row's key is bound to the context of doctor": (moved_to_the_probe, "context"),
    "a key in the context of doctor is decrypted": (
        lambda s: of_the_probe(s, "Decrypt", "verifier"),
        "unexplained",
    ),
    "the context of doctor under a foreign key": (
        lambda s: of_the_probe(s, "Encrypt", "wrapper", key=FOREIGN_KEK),
        "foreign-key",
    ),
    "a role does another's work in the context of doctor": (
        lambda s: of_the_probe(s, "Decrypt", "wrapper"),
        "wrong-role",
    ),
    "an event of the future": (lambda s: shifted(s, timedelta(days=400)), "altered"),
    "a run's session after the run": (
        lambda s: s.world.event("Decrypt", "verifier", run=s.run, at=90 * MINUTE),
        "unexplained",
    ),
    "a run's session beyond the run": (
        lambda s: s.world.event("Decrypt", "verifier", run=s.run, pk=3),
        "surplus",
    ),
    "a renamed session": (
        lambda s: s.world.event("Decrypt", "verifier", session=f"Dekctl-{s.run}"),
        "unexplained",
    ),
    "a session of no run": (
        lambda s: s.world.event("Decrypt", "verifier", session="dekctl-1"),
        "unexplained",
    ),
    "another account's record of the environment's KEK": (
        lambda s: elsewhere(s, s.world.event("Decrypt", MALLORY)),
        "unknown-principal",
    ),
}


@pytest.mark.parametrize("case", EVENTS)
def test_one_event_more(case: str, scene: Scene) -> None:
    make, kind = EVENTS[case]
    scene.record(make(scene))
    assert scene.findings() == {kind: 1}


def test_what_doctor_does_is_no_finding(scene: Scene) -> None:
    dry = {"error": "DryRunOperationException"}
    scene.record(
        of_the_probe(scene, "Encrypt", "wrapper"),
        of_the_probe(scene, "Encrypt", "wrapper", **dry),
        of_the_probe(scene, "Decrypt", "verifier", **dry),
        of_the_probe(scene, "ReEncrypt", "rewrapper", **dry),
        of_the_probe(scene, "GenerateDataKey", "app", **dry),
    )
    assert scene.findings() == {}


def test_an_event_with_another_s_id_is_judged_and_named(scene: Scene) -> None:
    first = scene.world.event("Decrypt", "app")
    scene.record(first, scene.world.event("Decrypt", MALLORY) | {"eventID": first["eventID"]})
    assert scene.findings() == {"unknown-principal": 1, "altered": 1}


def garbage(scene: Scene) -> None:
    scene.without_digests()
    scene.world.write([])
    scene.log.write_bytes(scene.log.read_bytes() + b"garbage")


def second_member(scene: Scene) -> None:
    scene.without_digests()
    scene.world.write([])
    scene.log.write_bytes(scene.log.read_bytes() + gzip.compress(b'{"Records":[]}'))


def other_content(scene: Scene) -> None:
    scene.without_digests()
    scene.log.write_bytes(gzip.compress(b'{"records":[]}'))
    scene.world.write([])
    scene.enter(result=json.dumps({"kms_calls": {}}))


def signed_for(**elsewhere: str) -> Callable[[Scene], None]:
    """In place of the files there are others that CloudTrail signed, but of something else."""

    def change(scene: Scene) -> None:
        scene.enter(result='{"kms_calls": {}}')
        for file in (scene.log, *scene.digests):
            file.unlink()
        other = DigestSigner(scene.world, None, **elsewhere)
        other.digest([scene.world.write([])])
        other.digest([], HOUR)
        scene.keys = other.public_keys()

    return change


def begins_anew(scene: Scene) -> None:
    """Old files are removed, and a new trail of this name has digests that begin later."""
    scene.enter(result='{"kms_calls": {}}')
    for file in (scene.log, *scene.digests):
        file.unlink()
    other = DigestSigner(scene.world)
    other.digest([scene.world.write([], at=130 * MINUTE)], 2 * HOUR)
    other.digest([], 3 * HOUR)
    scene.keys = other.public_keys()
    scene.options["until"] = scene.world.hour + 4 * HOUR


ODD: list[Any] = [None, -1, [], {}, ["x"], [{}], "\ud800", "0001-01-01T00:00:00+14:00"]
"""Values that no field of CloudTrail's files has."""


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a document has values."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for name, part in inner:
        yield (*path, name)
        if isinstance(part, dict | list):
            yield from places(part, (*path, name))


def varied(document: Record) -> Iterator[Record]:
    """The document with one odd value each."""
    text = json.dumps(document)
    for path in places(document):
        for odd in ODD:
            changed = part = json.loads(text)
            for name in path[:-1]:
                part = part[name]
            part[path[-1]] = odd
            yield changed


def test_odd_values_in_records_are_findings_or_no_matter_and_never_end_the_audit(
    scene: Scene,
) -> None:
    world = scene.world
    alias = {"aliasName": "alias/files", "targetKeyId": KEK}
    records = (
        world.event("Decrypt", MALLORY),
        world.event("ReEncrypt", "rewrapper"),
        world.record("kms", "UpdateAlias", MALLORY, alias),
        denied(scene, "monitoring", "DeleteAlarms"),
    )
    scene.record(*(changed for record in records for changed in varied(record)))
    result = world.audit(**scene.options)
    assert result.reading.damaged
    assert not result.clean
    assert json.dumps(result.as_json(), ensure_ascii=False).encode()


def test_odd_values_in_a_digest_are_findings(scene: Scene) -> None:
    [_, last] = scene.digests
    original = json.loads(gzip.decompress(last.read_bytes()))
    original["logFiles"] = [
        {"s3Bucket": "b", "s3Object": "x", "hashAlgorithm": "SHA-256", "hashValue": "y"}
    ]
    for changed in varied(original):
        read = read_or_refuse(json.dumps(changed).encode())
        assert read is None or not read.is_signed_by(scene.signer.key.public_key())


def read_or_refuse(content: bytes) -> Digest | None:
    try:
        return read_digest("d", content, "00")
    except ValueError:
        return None


FILES: dict[str, tuple[Callable[[Scene], None], set[str]]] = {
    "garbage after the packed data": (garbage, {"missing", "unchecked"}),
    "a second packed file in one": (second_member, {"missing", "unchecked"}),
    "a log file with something else in it": (other_content, {"unchecked"}),
    "everything of the KEK's Region is removed": (signed_for(region="eu-west-1"), {"gap"}),
    "the files are of another account": (signed_for(account="999999999999"), {"gap"}),
    "the files are of another trail": (signed_for(trail="mallorys"), {"gap"}),
    "the files are of another trail's bucket": (signed_for(bucket="mallorys"), {"gap"}),
    "the record begins anew after the first run": (begins_anew, {"gap"}),
}


@pytest.mark.parametrize("case", FILES)
def test_files_that_are_not_as_they_were(case: str, scene: Scene) -> None:
    change, kinds = FILES[case]
    change(scene)
    assert set(scene.findings()) == kinds


def test_a_trail_that_is_as_old_as_the_first_run_has_no_gap(scene: Scene) -> None:
    scene.options["since"] = scene.world.hour - 20 * HOUR
    assert scene.findings() == {}


LEDGER: dict[str, tuple[dict[str, Any], set[str]]] = {
    "the run is another's": ({"env": "other"}, {"unexplained"}),
    "the run has another id": ({"run_id": "0"}, {"unexplained", "missing"}),
    "the run was on another table": ({"table_name": "wages"}, {"unexplained"}),
    "the run ended before it began": (
        {"ended_at": "2020-01-01T00:00:00.000000Z"},
        {"unexplained", "unchecked"},
    ),
    "the run is still running": ({"state": "running"}, {"unchecked"}),
    "the run was killed": ({"state": "abandoned"}, {"unchecked"}),
    "the run has no result": ({"result": "[]"}, {"unexplained", "unchecked"}),
    "the run made fewer calls": (
        {"result": json.dumps({"proved": 1, "kms_calls": {"Decrypt": 1}})},
        {"surplus"},
    ),
    "the run made more calls": (
        {"result": json.dumps({"proved": 9, "kms_calls": {"Decrypt": 9}})},
        {"missing"},
    ),
    "the run made other calls": ({"result": '{"kms_calls": {"Encrypt": 2}}'}, {"surplus"}),
    "the run made less than no call": (
        {"result": '{"kms_calls": {"Decrypt": -2}}'},
        {"unexplained", "unchecked"},
    ),
}


@pytest.mark.parametrize("case", LEDGER)
def test_a_changed_entry_of_the_ledger(case: str, scene: Scene) -> None:
    values, kinds = LEDGER[case]
    scene.enter(**values)
    assert set(scene.findings()) == kinds
