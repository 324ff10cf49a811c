"""``dekctl audit``: the trail, the ledger and the roles held against one another.

The commands run on the strict KMS; its journal is written as CloudTrail's files, because no
emulator delivers any. The bucket is moto's, over HTTP.
"""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
import sqlalchemy as sa

from sandbox.moto import MotoServer
from support.app import AppDatabase, Application
from support.cli import Dekctl, Result
from support.cloudtrail import Record, key_of, packed, records_of, write
from support.generations import Generations
from support.waiting import wait_until

ROWS = 12


@pytest.fixture
def app(
    sqlite_database: AppDatabase, make_app: Any, generations: Generations, dekctl: Dekctl
) -> Application:
    """A migrated table; the strict KMS's journal holds what that took and nothing else."""
    made: Application = make_app(sqlite_database, rows=ROWS, env=generations.env)
    generations.standin.reset_counters()
    dekctl("migrate").expect(0)
    return made


@pytest.fixture
def trail(app: Application, generations: Generations, tmp_path: Path) -> list[Record]:
    """What CloudTrail would record of that."""
    return records_of(generations.standin)


def audit(dekctl: Dekctl, folder: Path, records: list[Record], *options: str) -> Result:
    return dekctl("--json", "audit", "--events", str(write(folder, records)), *options)


def kinds(result: Result) -> dict[str, int]:
    found: dict[str, int] = result.expect(4).json["counts"]
    return found


def crypto(records: list[Record], api: str) -> list[Record]:
    return [record for record in records if record["eventName"] == api]


def test_a_migration_that_the_trail_and_the_ledger_both_know_needs_no_look(
    dekctl: Dekctl, trail: list[Record], tmp_path: Path
) -> None:
    result = audit(dekctl, tmp_path / "trail", trail).expect(0).json
    assert result["counts"] == {}
    calls = {(c["principal"], c["api"]): c["events"] for c in result["calls"] if not c["error"]}
    assert calls["wrapper", "Encrypt"] == calls["verifier", "Decrypt"] == ROWS
    wrap, verify = result["work"]
    assert wrap["seen"] == wrap["expected"] == {"Encrypt": ROWS}
    assert verify["seen"] == verify["expected"] == {"Decrypt": ROWS}
    assert (wrap["operations"], verify["operations"]) == (["wrap"], ["verify"])


def test_an_event_that_is_delivered_twice_counts_once(
    dekctl: Dekctl, trail: list[Record], tmp_path: Path
) -> None:
    write(tmp_path / "trail", trail, number=2)
    assert audit(dekctl, tmp_path / "trail", trail).expect(0).json["files"] == 2


def test_a_whole_rotation_and_the_application_s_own_reads_are_explained(
    app: Application, generations: Generations, dekctl: Dekctl, tmp_path: Path
) -> None:
    generations.roll()
    sample = str(tmp_path / "sample")
    for command in (
        ["doctor"],
        ["rewrap"],
        ["residue", "sample", "--output", sample],
        ["residue", "search", "--sample", sample, str(dekctl.folder)],
        ["retire", "g1"],
        ["scrub", "--yes"],
        ["restore", "--yes"],
    ):
        dekctl(*command).expect(0)
    records = records_of(generations.standin)
    read = copy.deepcopy(crypto(records, "Decrypt")[0])
    read |= {"eventID": "read", "eventTime": "2026-01-01T00:00:00Z"}
    read["userIdentity"] = json.loads(
        json.dumps(read["userIdentity"]).replace("files-verifier", "files-app")
    )
    result = audit(dekctl, tmp_path / "trail", [*records, read], "--since", "2025-12-31").json
    assert result["counts"] == {}
    assert all(work["complete"] for work in result["work"])
    assert {"principal": "app", "api": "Decrypt", "error": None, "events": 1} in result["calls"]
    administered = {change["api"] for change in result["administration"]}
    assert "UpdateAlias" in administered


@pytest.mark.parametrize(
    ("who", "kind"),
    [("user/mallory", "unknown-principal"), ("role/files-rewrapper", "wrong-role")],
)
def test_a_key_opened_by_somebody_else_is_found(
    who: str,
    kind: str,
    dekctl: Dekctl,
    generations: Generations,
    trail: list[Record],
    tmp_path: Path,
) -> None:
    stolen = copy.deepcopy(crypto(trail, "Decrypt")[0]) | {"eventID": "stolen"}
    arn = f"arn:aws:iam::{generations.standin.account}:{who}"
    stolen["userIdentity"] = {"type": "IAMUser", "arn": arn}
    result = audit(dekctl, tmp_path / "trail", [*trail, stolen])
    assert kinds(result) == {kind: 1}
    [finding] = result.json["findings"]
    assert finding["event_id"] == "stolen"
    pk = stolen["requestParameters"]["encryptionContext"]["dekctl:pk"]
    assert f"encrypted_files {pk}" in finding["detail"]


def test_a_role_at_work_while_the_ledger_knows_of_no_run_is_found(
    dekctl: Dekctl, trail: list[Record], tmp_path: Path
) -> None:
    night = f"{datetime.now(UTC) - timedelta(days=2):%Y-%m-%dT03:00:00Z}"
    odd = copy.deepcopy(crypto(trail, "Decrypt")[0]) | {"eventID": "odd", "eventTime": night}
    assert kinds(audit(dekctl, tmp_path / "trail", [*trail, odd])) == {"unexplained": 1}


def test_more_calls_than_the_runs_made_are_found(
    dekctl: Dekctl, trail: list[Record], tmp_path: Path
) -> None:
    more = copy.deepcopy(crypto(trail, "Decrypt")[0]) | {"eventID": "more"}
    result = audit(dekctl, tmp_path / "trail", [*trail, more])
    assert kinds(result) == {"surplus": 1}
    assert result.json["work"][1]["surplus"] == {"Decrypt": 1}


def test_calls_that_the_trail_does_not_hold_are_found_once_they_must_be_there(
    app: Application, dekctl: Dekctl, trail: list[Record], tmp_path: Path
) -> None:
    half = crypto(trail, "Encrypt")
    fresh = audit(dekctl, tmp_path / "trail", half).expect(0)
    assert len(fresh.json["pending"]) == 1
    assert "CloudTrail may not have delivered" in fresh.stderr
    # The same runs, an hour ago.
    past = f"{datetime.now(UTC) - timedelta(hours=1):%Y-%m-%d %H:%M:%S}.000"
    app.database.sql(
        "UPDATE dekctl_runs SET started_at = :t, ended_at = :t, heartbeat_at = :t", t=past
    )
    for event in half:
        event["eventTime"] = past[:19].replace(" ", "T") + "Z"
    result = audit(dekctl, tmp_path / "late", half)
    assert kinds(result) == {"missing": 1}
    assert f"none of its {ROWS:,} calls" in result.json["findings"][0]["detail"]


@pytest.mark.parametrize("context", [None, {"dekctl:table": "wages", "dekctl:pk": "1"}])
def test_a_key_used_without_a_row_s_context_is_found(
    context: dict[str, str] | None, dekctl: Dekctl, trail: list[Record], tmp_path: Path
) -> None:
    bare = crypto(trail, "Encrypt")[0]
    bare["requestParameters"]["encryptionContext"] = context
    assert kinds(audit(dekctl, tmp_path / "trail", trail))["context"] == 1


def test_a_denied_call_is_found_and_a_disabled_key_is_told_with_who_did_it(
    generations: Generations, dekctl: Dekctl, app: Application, tmp_path: Path
) -> None:
    generations.standin.put_role("files-wrapper", [])
    app.add(1)
    dekctl("wrap").expect(5)
    generations.standin.kms().disable_key(KeyId=generations.active)
    result = audit(dekctl, tmp_path / "trail", records_of(generations.standin))
    assert set(kinds(result)) == {"denied"}
    [change] = [c for c in result.json["administration"] if c["api"] == "DisableKey"]
    assert change["key"] == generations.active
    assert change["principal"].endswith("user/standin-admin")
    generations.standin.kms().enable_key(KeyId=generations.active)


def test_a_run_that_is_killed_has_noted_its_calls_and_explains_no_others(
    app: Application, generations: Generations, dekctl: Dekctl, tmp_path: Path
) -> None:
    app.add(40)
    generations.standin.reset_counters()
    child = dekctl.start("wrap", "--rate", "5")
    noted = "SELECT result FROM dekctl_runs WHERE state = 'running' AND result LIKE '%Encrypt%'"
    wait_until(lambda: app.database.sql(noted), child)
    child.kill()
    dekctl.finish(child)
    records = records_of(generations.standin)
    assert dekctl("wrap").expect(0)
    records += records_of(generations.standin)
    result = audit(dekctl, tmp_path / "trail", records)
    assert kinds(result) == {"unchecked": 1}
    [killed] = [work for work in result.json["work"] if not work["complete"]]
    assert killed["seen"]["Encrypt"] >= killed["expected"]["Encrypt"] > 0
    stolen = copy.deepcopy(crypto(records, "Encrypt")[:5])
    for number, record in enumerate(stolen):
        arn = record["userIdentity"]["arn"].rpartition("/")[0]
        record["userIdentity"]["arn"] = f"{arn}/dekctl"
        record["eventID"] = f"stolen {number}"
    result = audit(dekctl, tmp_path / "trail", [*records, *stolen])
    assert kinds(result) == {"unchecked": 1, "unexplained": 5}


def test_the_trail_s_bucket_is_read_as_the_auditor(
    moto_server: MotoServer, sqlite_database: AppDatabase, make_app: Any, dekctl: Dekctl
) -> None:
    moto_server.reset()
    dekctl.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    session = boto3.Session("test", "test", region_name="us-east-1")

    def client(service: Any) -> Any:
        return session.client(service, endpoint_url=moto_server.endpoint_url)

    kek = client("kms").create_key()["KeyMetadata"]["Arn"]
    account = kek.split(":")[4]
    client("s3").create_bucket(Bucket="trail")
    made = client("cloudtrail").create_trail(Name="trail", S3BucketName="trail")
    client("cloudtrail").start_logging(Name="trail")
    roles = ("app", "wrapper", "rewrapper", "verifier", "auditor", "key_admin")
    value = {
        "schema_version": 1,
        "region": "us-east-1",
        "account_id": account,
        "context_name": "encrypted_files",
        "kek": {
            "arn": kek,
            "alias": "alias/app",
            "generations": {"g1": {"arn": kek, "state": "active"}},
        },
        "roles": {role: f"arn:aws:iam::{account}:role/files-{role}" for role in roles},
        "audit": {"trail_arn": made["TrailARN"], "bucket": "trail", "log_group": None},
    }
    (dekctl.folder / "outputs.json").write_text(json.dumps({"dekctl": {"value": value}}))
    env = {
        "provider": "aws",
        "region": "us-east-1",
        "endpoint_url": moto_server.endpoint_url,
        "terraform_outputs": "outputs.json",
    }
    app = make_app(sqlite_database, rows=1, env=env)
    dekctl("migrate").expect(0)

    assert dekctl.json("audit")["files"] == 0
    [pk] = app.deks
    base = {
        "eventSource": "kms.amazonaws.com",
        "eventTime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "requestParameters": {
            "encryptionContext": {"dekctl:table": "encrypted_files", "dekctl:pk": str(pk[0])}
        },
        "resources": [{"ARN": kek}],
    }
    issuer = {"sessionIssuer": {"arn": value["roles"]["wrapper"]}}
    [(run_id,)] = app.database.sql("SELECT run_id FROM dekctl_runs WHERE operation = 'wrap'")
    events = [
        {**base, "eventID": "1", "eventName": "Encrypt"}
        | {"userIdentity": {"arn": f"x/dekctl-{run_id}", "sessionContext": issuer}},
        {**base, "eventID": "2", "eventName": "Decrypt"}
        | {"userIdentity": {"arn": f"arn:aws:iam::{account}:user/mallory"}},
        {**base, "eventID": "3", "eventName": "ListBuckets", "eventSource": "s3.amazonaws.com"},
    ]
    client("s3").put_object(Bucket="trail", Key=key_of(account, "us-east-1"), Body=packed(events))
    result = dekctl.json("audit", expect=4)
    assert (result["files"], result["events"], result["counts"]) == (1, 2, {"unknown-principal": 1})
    assert result["trail"]["logging"] is True

    client("cloudtrail").stop_logging(Name="trail")
    assert dekctl.json("audit", expect=4)["counts"] == {"unknown-principal": 1, "trail": 1}
    assert "is STOPPED" in dekctl("audit").expect(4).stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{}", "not CloudTrail's: 1 file"), (b"\x1f\x8bcut", "damaged: 1 file")],
)
def test_a_file_that_is_not_cloudtrail_s_is_refused(
    content: bytes, message: str, app: Application, dekctl: Dekctl, tmp_path: Path
) -> None:
    (tmp_path / "file.json").write_bytes(content)
    assert message in dekctl("audit", "--events", str(tmp_path / "file.json")).expect(2).stderr


def test_what_cannot_be_audited_says_why(
    app: Application, generations: Generations, dekctl: Dekctl, tmp_path: Path
) -> None:
    assert "the audit trail is off" in dekctl("audit").expect(2).stderr
    (tmp_path / "empty").mkdir()
    empty = dekctl("audit", "--events", str(tmp_path / "empty")).expect(2)
    assert "there is no log file of CloudTrail in" in empty.stderr
    dekctl.configure(f'[env.test]\ndatabase_url = "{app.database.url}"\nprovider = "env"\n')
    assert "provider env" in dekctl("audit").expect(2).stderr


def test_without_a_ledger_there_is_nothing_to_match_with(
    sqlite_database: AppDatabase,
    make_app: Any,
    generations: Generations,
    dekctl: Dekctl,
    tmp_path: Path,
) -> None:
    make_app(sqlite_database, rows=1, env=generations.env)
    assert not sa.inspect(sqlite_database.engine).has_table("dekctl_runs")
    result = dekctl("audit", "--events", str(write(tmp_path, []))).expect(3)
    assert "dekctl migrate" in result.stderr
