"""``--quota-share``: a part of what KMS allows the account, never more."""

from __future__ import annotations

import bisect
import json
import threading
import time
from pathlib import Path
from typing import Any

import botocore.exceptions as aws

from support.app import AppDatabase
from support.cli import Dekctl
from support.kms_standin import KmsStandin
from support.scripted_endpoint import Reply, ScriptedEndpoint, Seen, refusal

KEK = "arn:aws:kms:us-east-1:111122223333:key/11111111-2222-3333-4444-555555555555"
IDENTITY = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}


def prepared(dekctl: Dekctl, make_app: Any, database: AppDatabase, **env: Any) -> None:
    dekctl.environ |= IDENTITY
    make_app(database, rows=3, env={"kek": KEK, "region": "us-east-1", "provider": "aws", **env})
    dekctl.json("schema", "expand")


def quota_of_200(seen: Seen) -> Reply:
    assert "ServiceQuotas" in seen.headers["x-amz-target"]
    period = {"PeriodValue": 1, "PeriodUnit": "SECOND"}
    return Reply(200, json.dumps({"Quota": {"Value": 200.0, "Period": period}}).encode())


def test_the_rate_is_a_share_of_the_live_quota(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    with ScriptedEndpoint(quota_of_200) as endpoint:
        prepared(dekctl, make_app, sqlite_database, endpoint_url=endpoint.url)
        done = dekctl("wrap", "--dry-run", "--quota-share", "0.5").expect(0)
        assert "KMS allows 200 calls per second here; this run makes at most 100" in done.stderr


def test_each_shard_has_its_part_of_the_share(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    with ScriptedEndpoint(quota_of_200) as endpoint:
        prepared(dekctl, make_app, sqlite_database, endpoint_url=endpoint.url)
        done = dekctl("wrap", "--dry-run", "--quota-share", "0.5", "--shard", "2/4").expect(0)
        assert "divided among 4 shards" in done.stderr
        assert "this run makes at most 25" in done.stderr


def test_that_the_share_needs_no_second_process_is_told_beforehand(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    with ScriptedEndpoint(quota_of_200) as endpoint:
        prepared(dekctl, make_app, sqlite_database, endpoint_url=endpoint.url)
        dekctl.environ["DEKCTL_PROCESSORS"] = "8"
        arguments = ("wrap", "--dry-run", "--quota-share", "0.5", "--workers", "2")
        said = dekctl.process(*arguments).expect(0).stderr
        assert (
            "one process can make 100 KMS calls per second while KMS answers within 1,280" in said
        )
        assert "2 workers will not be faster at this rate" in said


def test_the_control_file_does_not_lift_the_share(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, tmp_path: Path
) -> None:
    control = tmp_path / "control.toml"
    control.write_text("rate = 20000\n")
    with ScriptedEndpoint(quota_of_200) as endpoint:
        prepared(dekctl, make_app, sqlite_database, endpoint_url=endpoint.url)
        arguments = ("wrap", "--dry-run", "--quota-share", "0.5", "--control", str(control))
        assert "--quota-share limits the rate to 100" in dekctl(*arguments).expect(0).stderr


def test_a_quota_that_nobody_tells_is_not_guessed(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    with ScriptedEndpoint(lambda _: refusal(400, "AccessDeniedException")) as endpoint:
        prepared(dekctl, make_app, sqlite_database, endpoint_url=endpoint.url)
        done = dekctl("wrap", "--dry-run", "--quota-share", "0.5").expect(2)
        assert "--rate N" in done.stderr


def test_a_local_provider_has_no_quota(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=1)
    dekctl.json("schema", "expand")
    dekctl("wrap", "--quota-share", "0.5").expect(2)


def test_an_application_beside_a_run_is_never_throttled(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, kms_standin: KmsStandin
) -> None:
    """However late the machine lets anyone send or answer.

    What the stand-in sees within T seconds is at most what the run may send (100 T, and 11 calls
    that are late) and has in flight (4), and the application likewise (80 T, 1 and 1): less than
    the 200 T and 20 of the quota.
    """
    dekctl.environ |= kms_standin.environment()
    make_app(sqlite_database, rows=250, env={"provider": "aws", "kek": kms_standin.create_key()})
    dekctl.json("schema", "expand")
    application = kms_standin.kms(kms_standin.put_user("application", None))
    key = kms_standin.create_key()
    refused: list[str] = []
    stop = threading.Event()

    def call() -> None:
        due = time.monotonic()
        while not stop.wait(max(0.0, due - time.monotonic())):
            due = max(due, time.monotonic()) + 1 / 80
            try:
                application.encrypt(KeyId=key, Plaintext=bytes(32))
            except aws.ClientError as error:
                refused.append(error.response["Error"]["Code"])

    beside = threading.Thread(target=call)
    kms_standin.set_quota(200)
    beside.start()
    try:
        with ScriptedEndpoint(quota_of_200) as endpoint:
            dekctl.environ["AWS_ENDPOINT_URL_SERVICE_QUOTAS"] = endpoint.url
            share = ("--quota-share", "0.5", "--concurrency", "4")
            assert dekctl.json("wrap", *share)["kms_calls"] == {"Encrypt": 250}
    finally:
        stop.set()
        beside.join()
    assert refused == []
    counters = kms_standin.counters()
    assert counters.errors == {}
    assert counters.calls["Encrypt"] == 250 + counters.principals["application"]
    times = [c["time"] for c in kms_standin.journal() if c["key"] != key and c["api"] == "Encrypt"]
    in_a_second = [bisect.bisect(times, first + 1) - i for i, first in enumerate(times)]
    assert max(in_a_second) <= 100 + 4
