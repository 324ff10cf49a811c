"""The digest files of a trail: known answers, made in the documented form with a key of the test.

AWS CloudTrail User Guide, "CloudTrail digest file structure" and "Custom implementations of
CloudTrail log file integrity validation".
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from dekctl.audit.digests import public_keys_of
from dekctl.errors import UsageError
from sandbox.moto import MotoServer
from support.audit_world import BUCKET, REGION, AuditWorld, DigestSigner

HOUR = timedelta(hours=1)


class Hours:
    """Three hours with a log file each, and the digests of all three."""

    def __init__(self, world: AuditWorld) -> None:
        self.world = world
        self.signer = DigestSigner(world)
        self.keys = self.signer.public_keys()
        self.logs: list[Path] = []
        self.digests: list[Path] = []
        for number in range(3):
            at = number * HOUR + timedelta(minutes=10)
            log = world.write([world.event(at=at, pk=number)], at=at)
            self.logs.append(log)
            self.digests.append(self.signer.digest([log], number * HOUR))

    def counts(self) -> dict[str, int]:
        """Findings of these hours."""
        hour = self.world.hour
        return self.world.counts(public_keys=self.keys, since=hour, until=hour + 3 * HOUR)

    def details(self) -> list[str]:
        """The same, in words."""
        hour = self.world.hour
        result = self.world.audit(public_keys=self.keys, since=hour, until=hour + 3 * HOUR)
        return [finding.detail for finding in result.matched.findings.kept]


@pytest.fixture
def hours(tmp_path: Path) -> Hours:
    return Hours(AuditWorld(tmp_path / "world"))


def rewrite(file: Path, old: str, new: str) -> Path:
    """Change a packed file. Returns it."""
    text = gzip.decompress(file.read_bytes()).decode()
    assert old in text
    file.write_bytes(gzip.compress(text.replace(old, new).encode()))
    return file


def remove(*files: Path) -> None:
    """Remove files."""
    for file in files:
        file.unlink()


def signature(digest: Path) -> Path:
    """The file with a digest's signature."""
    return digest.with_name(f"{digest.name}.signature")


def test_files_as_cloudtrail_delivered_them_are_no_finding(hours: Hours) -> None:
    assert hours.counts() == {}
    result = hours.world.audit(public_keys=hours.keys, since=hours.world.hour)
    integrity = {"digests": 3, "signatures": 3, "log_files": 3, "unchecked": []}
    assert result.as_json()["integrity"] == integrity
    for digest in hours.digests[:2]:  # a copy lacks signatures, but the next digest has them
        signature(digest).unlink()
    assert hours.counts() == {}


CASES: dict[str, tuple[Callable[[Hours], object], dict[str, int], str]] = {
    "a log file was altered": (
        lambda h: rewrite(h.logs[1], '"dekctl:pk":"1"', '"dekctl:pk":"9"'),
        {"altered": 1},
        "its hash is another in",
    ),
    "a log file was removed": (
        lambda h: h.logs[1].unlink(),
        {"removed": 1},
        "names it, it is not there",
    ),
    "a log file was damaged": (
        lambda h: h.logs[1].write_bytes(h.logs[1].read_bytes()[:-9]),
        {"altered": 1, "unchecked": 1},
        "is damaged",
    ),
    "a log file was added": (
        lambda h: h.world.write([h.world.event()], at=timedelta(minutes=20)),
        {"altered": 1},
        "no digest names it",
    ),
    "a digest was altered": (
        lambda h: rewrite(h.digests[1], '"awsAccountId": "1', '"awsAccountId": "2'),
        {"altered": 2},  # the next digest has its hash
        "is not signed by CloudTrail",
    ),
    "a log file and its digest were altered": (
        lambda h: (
            rewrite(h.logs[2], '"dekctl:pk":"2"', '"dekctl:pk":"9"'),
            rewrite(h.digests[2], '"oldestEventTime"', '"oldestEventTim"'),
        ),
        {"altered": 2},
        "is not signed by CloudTrail",
    ),
    "a digest was removed with its log file": (
        lambda h: remove(h.digests[1], h.logs[1]),
        {"removed": 1, "gap": 1},
        "names it, it is not there",
    ),
    "the last digest was removed": (
        lambda h: h.digests[2].unlink(),
        {"gap": 1},
        "no digest covers",
    ),
    "the first digest was removed": (
        lambda h: h.digests[0].unlink(),
        {"gap": 1},
        "no digest covers",
    ),
    "a digest was renamed": (
        lambda h: h.digests[1].rename(h.digests[1].with_name("x_CloudTrail-Digest_1.json.gz")),
        {"altered": 1},
        "was delivered as",
    ),
    "a digest was damaged": (
        lambda h: h.digests[2].write_bytes(b"\x1f\x8bcut"),
        {"altered": 1, "gap": 1},
        "is damaged or no digest file",
    ),
    "another's signature": (
        lambda h: signature(h.digests[2]).write_text("ab" * 256),
        {"altered": 1},
        "is not signed by CloudTrail",
    ),
    "no signature at all": (
        lambda h: signature(h.digests[2]).unlink(),
        {"unchecked": 1},
        "aws s3api head-object",
    ),
    "another key": (
        lambda h: DigestSigner(h.world, rsa.generate_private_key(65537, 2048)).public_keys(),
        {"altered": 3},
        "is not signed by CloudTrail",
    ),
    "a digest that nests without end": (
        lambda h: h.digests[2].write_bytes(gzip.compress(b"[" * 200_000)),
        {"altered": 1, "gap": 1},
        "is damaged or no digest file",
    ),
    "no key of that fingerprint": (
        lambda h: h.keys.write_text('{"PublicKeyList": []}'),
        {"unchecked": 1},
        "--public-keys",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_one_deviation(case: str, hours: Hours) -> None:
    change, counts, text = CASES[case]
    change(hours)
    assert hours.counts() == counts
    assert any(text in detail for detail in hours.details())


UNVERIFIED: dict[str, tuple[Callable[[Hours], object], dict[str, int]]] = {
    "as they were delivered": (lambda h: h.digests, {}),
    "without signatures": (lambda h: remove(*map(signature, h.digests)), {}),
    # Nobody knows whether the digests are CloudTrail's: they accuse no file that they do not name.
    "a log file was added": (
        lambda h: h.world.write([h.world.event()], at=timedelta(minutes=20)),
        {},
    ),
    "a log file of another name": (
        lambda h: h.logs[1].with_name("a.json.gz").write_bytes(h.logs[1].read_bytes()),
        {},
    ),
    "the last digest was removed": (lambda h: h.digests[2].unlink(), {}),
    # What they name is there, or is not.
    "a log file was altered": (
        lambda h: rewrite(h.logs[1], '"dekctl:pk":"1"', '"dekctl:pk":"9"'),
        {"altered": 1},
    ),
    "a log file was removed": (lambda h: h.logs[1].unlink(), {"removed": 1}),
    "a digest was removed": (lambda h: remove(h.digests[1], h.logs[1]), {"removed": 1}),
    "a digest was altered": (
        lambda h: rewrite(h.digests[1], '"awsAccountId": "1', '"awsAccountId": "2'),
        {"altered": 1},
    ),
}


@pytest.mark.parametrize("case", UNVERIFIED)
def test_digests_of_a_copy_that_nobody_can_verify_accuse_only_what_they_name(
    case: str, tmp_path: Path
) -> None:
    # No account of the tester's is asked for keys.
    hours = Hours(AuditWorld(tmp_path / "world", 'endpoint_url = "http://127.0.0.1:1"\n'))
    change, counts = UNVERIFIED[case]
    change(hours)
    until = hours.world.hour + 3 * HOUR
    result = hours.world.audit(since=hours.world.hour, until=until)
    assert {kind.value: n for kind, n in result.matched.findings.counts.items()} == counts
    said = " ".join(result.as_json()["integrity"]["unchecked"])
    assert "pass them with --public-keys" in said or "aws s3api head-object" in said
    assert result.integrity.as_json()["signatures"] == 0


def test_a_copy_without_digests_says_what_was_not_checked(hours: Hours) -> None:
    remove(*hours.digests)
    result = hours.world.audit(since=hours.world.hour)
    assert result.clean
    [said] = result.as_json()["integrity"]["unchecked"]
    assert "copy CloudTrail-Digest/" in said


def test_hours_without_logs_have_digests_too(hours: Hours) -> None:
    hour = hours.world.hour
    hours.signer.digest([], 3 * HOUR)
    hours.signer.digest([], 5 * HOUR)
    until = hour + 5 * HOUR
    result = hours.world.audit(public_keys=hours.keys, since=hour, until=until)
    assert {kind.value: n for kind, n in result.matched.findings.counts.items()} == {"gap": 1}
    [finding] = result.matched.findings.kept
    assert f"{hour + 4 * HOUR:%Y-%m-%d %H:%M:%S} to {hour + 5 * HOUR:%Y-%m-%d}" in finding.detail


def test_files_that_came_late_are_in_digests_of_their_own(tmp_path: Path) -> None:
    world = AuditWorld(tmp_path / "world")
    hours = Hours(world)
    late = world.write([world.event(at=timedelta(minutes=20))], at=timedelta(minutes=20))
    assert hours.counts() == {"altered": 1}
    backfills = DigestSigner(world, hours.signer.key)
    backfills.digest([late], backfill=True)
    backfills.digest([], 2 * HOUR, backfill=True)  # no gap: there is not one for each hour
    assert hours.counts() == {}


def test_a_key_as_cloudtrail_lists_it_is_read(tmp_path: Path) -> None:
    # From the AWS CLI's examples, list-public-keys.
    value = (
        "MIIBCgKCAQEAlSS3cl92HDycr/MTj0moOhas8habjrraXw+KzlWF0axSI2tcF+3iJ9BKQAVSKxGwxwu3m0wG3J+kU"
        "l1xboEcEPHYoIYMbgfSw7KGnuDKwkLzsQWhUJ0cIbOHASox1vv/5fNXkrHhGbDCHeVXm804c83nvHUEFYThr1PfyP"
        "/8HwrCtR3FX5OANtQCP61C1nJtSSkC8JSQUOrIP4CuwJjc+4WGDk+BGH5m9iuiAKkipEHWmUl8/P7XpfpWQuk4h8g"
        "3pXZOrNXr08lbh4d39svj7UqdhvOXoBISp9t/EXYuePGEtBdrKD9Dz+VHwyUPtBQvYr9BnkF88qBnaPNhS44rzwID"
        "AQAB"
    )
    [key] = public_keys_of([{"Value": value, "Fingerprint": "7f3f"}]).values()
    assert key.key_size == 2048


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"PublicKeyList": [{"Value": "x"}]})])
def test_a_file_without_keys_is_refused(text: str, hours: Hours) -> None:
    hours.keys.write_text(text)
    with pytest.raises(UsageError) as refused:
        hours.counts()
    assert "list-public-keys" in (refused.value.hint or "")


def test_the_bucket_has_the_signatures_wherever_the_trail_writes(
    moto_server: MotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moto_server.reset()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    settings = f'region = "{REGION}"\nendpoint_url = "{moto_server.endpoint_url}"\n'
    elsewhere = {"prefix": "all/trails", "organization_id": "o-exampleorgid"}
    world = AuditWorld(tmp_path / "world", settings, elsewhere)
    hours = Hours(world)
    session = boto3.Session("test", "test", region_name=REGION)
    s3: Any = session.client("s3", endpoint_url=moto_server.endpoint_url)
    cloudtrail: Any = session.client("cloudtrail", endpoint_url=moto_server.endpoint_url)
    s3.create_bucket(Bucket=BUCKET)
    cloudtrail.create_trail(Name="files-trail", S3BucketName=BUCKET)
    cloudtrail.start_logging(Name="files-trail")
    for file in (*hours.logs, *hours.digests):
        signed = {"signature": signature(file).read_text().strip()} if file in hours.digests else {}
        key = str(file.relative_to(world.trail))
        s3.put_object(Bucket=BUCKET, Key=key, Body=file.read_bytes(), Metadata=signed)

    def counts(keys: Path | None) -> dict[str, int]:
        until = world.hour + 3 * HOUR
        return world.counts(paths=[], public_keys=keys, since=world.hour, until=until)

    assert counts(hours.keys) == {}
    assert counts(None) == {"unchecked": 1}  # moto has no ListPublicKeys
    s3.delete_object(Bucket=BUCKET, Key=str(hours.logs[0].relative_to(world.trail)))
    cloudtrail.stop_logging(Name="files-trail")
    assert counts(hours.keys) == {"removed": 1, "trail": 1}
    # A trail that does not say since when it records should have files of the whole period.
    for file in (*hours.logs, *hours.digests):
        s3.delete_object(Bucket=BUCKET, Key=str(file.relative_to(world.trail)))
    cloudtrail.delete_trail(Name="files-trail")
    assert counts(hours.keys) == {"unchecked": 3}
