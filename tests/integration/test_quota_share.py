"""``--quota-share``: a part of what KMS allows the account, never more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.app import AppDatabase
from support.cli import Dekctl
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
