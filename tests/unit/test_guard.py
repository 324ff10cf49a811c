"""`dekctl guard`: which plans are refused, over rows in a real (SQLite) table."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.app import AppDatabase, Application
from support.cli import Dekctl
from support.guarded import ROWS, guard, wrapped_by
from support.plans import APP, allow, arn_of, change, key, key_policy, plan, policy, write


@pytest.fixture
def app(expanded_app: Application) -> Application:
    """Five rows; they are wrapped by nobody yet."""
    return expanded_app


DANGEROUS = {
    "delete": (change("aws_kms_key", "kek", key("k1"), None),),
    "replace": (change("aws_kms_key", "kek", key("k1"), key("k1"), actions=["delete", "create"]),),
    "disable": (change("aws_kms_key", "kek", key("k1"), key("k1", is_enabled=False)),),
    "the key policy drops the app's Decrypt": (
        change("aws_kms_key", "kek", key("k1"), key("k1", policy=key_policy(app=False))),
    ),
    "the key policy denies the app": (
        change(
            "aws_kms_key",
            "kek",
            key("k1"),
            key(
                "k1",
                policy=key_policy(
                    {
                        "Effect": "Deny",
                        "Action": "kms:*",
                        "Resource": "*",
                        "Principal": "*",
                        "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}},
                    }
                ),
            ),
        ),
    ),
    "the role's policy drops Decrypt": (
        change("aws_kms_key", "kek", key("k1"), key("k1")),
        change(
            "aws_iam_role_policy",
            "app",
            {"role": "files-app", "policy": policy(allow(None, "kms:Decrypt", arn_of("k1")))},
            {"role": "files-app", "policy": policy(allow(None, "kms:Decrypt", arn_of("k2")))},
        ),
    ),
    "the role's policy is deleted": (
        change("aws_kms_key", "kek", key("k1"), key("k1")),
        change(
            "aws_iam_role_policy",
            "app",
            {"role": "files-app", "policy": policy(allow(None, "kms:*", "*"))},
            None,
        ),
    ),
    "the plan does not show the role's new policy": (
        change("aws_kms_key", "kek", key("k1"), key("k1")),
        change(
            "aws_iam_role_policy",
            "app",
            {"role": "files-app", "policy": policy(allow(None, "kms:Decrypt", arn_of("k1")))},
            {"role": "files-app"},
            unknown={"policy": True},
        ),
    ),
    "the role's managed policy is detached": (
        change("aws_kms_key", "kek", key("k1"), key("k1")),
        change(
            "aws_iam_policy",
            "use",
            {"arn": "arn:use", "policy": policy(allow(None, "kms:Decrypt", arn_of("k1")))},
            {"arn": "arn:use", "policy": policy(allow(None, "kms:Decrypt", arn_of("k1")))},
        ),
        change(
            "aws_iam_role_policy_attachment",
            "use",
            {"role": "files-app", "policy_arn": "arn:use"},
            None,
        ),
    ),
    "the app's role is deleted": (
        change("aws_kms_key", "kek", key("k1"), key("k1")),
        change("aws_iam_role", "app", {"arn": APP, "name": "files-app"}, None),
    ),
    "the alias is deleted": (
        change("aws_kms_key", "kek", key("k1"), key("k1")),
        change("aws_kms_alias", "kek", {"name": "alias/files", "target_key_id": "k1"}, None),
    ),
}


@pytest.mark.parametrize("changes", DANGEROUS.values(), ids=DANGEROUS.keys())
def test_a_plan_that_takes_a_kek_from_rows_is_refused(
    changes: tuple[dict[str, Any], ...], app: Application, dekctl: Dekctl
) -> None:
    document = plan(*changes)
    file = write(dekctl.folder, document)
    unneeded = json.loads(dekctl("--json", "guard", "--plan", file).stdout)["findings"]
    assert {finding["kind"] for finding in unneeded} <= {"write"}  # no row is wrapped by it

    wrapped_by(app, arn_of("k1"))
    refused = dekctl("guard", "--plan", write(dekctl.folder, document)).expect(3)
    [finding] = guard(dekctl, document, expect=3)["findings"]
    assert (finding["rows"], finding["generation"], finding["kek_id"]) == (ROWS, "g1", arn_of("k1"))
    assert finding["address"] == changes[-1]["address"]
    for told in (arn_of("k1"), finding["address"], f"{ROWS} rows"):
        assert told in refused.stderr

    wrapped_by(app, arn_of("k2"))  # the plan does not know that key
    other = guard(dekctl, document, expect=3)["findings"]
    assert [(f["kind"], f["kek_id"]) for f in other if f["kind"] != "write"] == [
        ("lost", arn_of("k2"))
    ]


@pytest.mark.parametrize("kek_id", [None, "alias/files", "k1"])
def test_rows_that_name_no_arn_may_need_the_kek(
    kek_id: str | None, app: Application, dekctl: Dekctl
) -> None:
    wrapped_by(app, kek_id, "V1")
    deleted = plan(change("aws_kms_key", "kek", key("k1"), None))
    assert guard(dekctl, deleted, expect=3)["findings"][0]["rows"] == ROWS


def test_the_trail_s_own_key_is_no_kek(app: Application, dekctl: Dekctl) -> None:
    wrapped_by(app, None, "V1")
    document = plan(
        change("aws_kms_key", "trail", key("t1"), None),
        change("aws_cloudwatch_log_group", "trail", {"kms_key_id": arn_of("t1")}, None),
    )
    assert guard(dekctl, document, expect=0)["findings"] == []


ALWAYS = {
    "window": (change("aws_kms_key", "kek", key("k1"), key("k1", deletion_window_in_days=7)),),
    "rotation": (change("aws_kms_key", "kek", key("k1"), key("k1", enable_key_rotation=False)),),
    "trail": (change("aws_cloudtrail", "trail", {"name": "t", "s3_bucket_name": "b"}, None),),
    "trail stops": (
        change(
            "aws_cloudtrail",
            "trail",
            {"name": "t", "enable_logging": True},
            {"name": "t", "enable_logging": False},
        ),
    ),
    "trail leaves out KMS": (
        change(
            "aws_cloudtrail",
            "trail",
            {"name": "t", "event_selector": [{"read_write_type": "All"}]},
            {"name": "t", "event_selector": [{"read_write_type": "WriteOnly"}]},
        ),
    ),
    "alias to a disabled key": (
        change("aws_kms_key", "kek", key("k1"), key("k1")),
        change("aws_kms_key", "next", key("k2", is_enabled=False), key("k2", is_enabled=False)),
        change(
            "aws_kms_alias",
            "kek",
            {"name": "alias/files", "target_key_id": "k1"},
            {"name": "alias/files", "target_key_id": "k2"},
        ),
    ),
    "alias to a new key that writers may not use": (
        change("aws_kms_key", "kek", key("k1"), key("k1")),
        change("aws_kms_key", "next", None, key("k2", arn=None, policy=key_policy(writers=False))),
        change(
            "aws_kms_alias",
            "kek",
            {"name": "alias/files", "target_key_id": "k1"},
            {"name": "alias/files"},
            unknown={"target_key_id": True},
        ),
    ),
    "alias to a key that nobody knows": (
        change("aws_kms_key", "kek", key("k1"), key("k1")),
        change(
            "aws_kms_alias",
            "kek",
            {"name": "alias/files", "target_key_id": "k1"},
            {"name": "alias/files", "target_key_id": "elsewhere"},
        ),
    ),
}


@pytest.mark.parametrize("changes", ALWAYS.values(), ids=ALWAYS.keys())
def test_a_plan_that_weakens_the_guarantees_is_refused_with_or_without_rows(
    changes: tuple[dict[str, Any], ...], app: Application, dekctl: Dekctl
) -> None:
    [finding] = guard(dekctl, plan(*changes), expect=3)["findings"]
    assert finding["address"] == changes[-1]["address"]


def test_a_rotation_is_harmless_and_needs_no_database(dekctl: Dekctl) -> None:
    dekctl.configure('[table]\n[env.test]\ndatabase_url = "sqlite:////nowhere/app.db"\n')
    before = key("k1")
    document = plan(
        change("aws_kms_key", "g1", before, {**before, "policy": key_policy(writers=False)}),
        change("aws_kms_key", "g2", None, key("k2", arn=None)),
        change(
            "aws_kms_alias",
            "kek",
            {"name": "alias/files", "target_key_id": "k1"},
            {"name": "alias/files"},
            unknown={"target_key_id": True},
        ),
    )
    found = guard(dekctl, document, expect=0)
    assert (found["findings"], found["rows_counted"]) == ([], False)


def test_a_dangerous_plan_is_refused_while_the_database_cannot_be_reached(
    dekctl: Dekctl,
) -> None:
    dekctl.configure('[table]\n[env.test]\ndatabase_url = "sqlite:////nowhere/app.db"\n')
    file = write(dekctl.folder, plan(change("aws_kms_key", "kek", key("k1"), None)))
    refused = dekctl("guard", "--plan", file).expect(3)
    assert "the rows cannot be counted" in refused.stderr


@pytest.mark.parametrize("after", [None, key("k1", is_enabled=False)], ids=["delete", "disable"])
def test_a_table_that_is_not_there_is_no_empty_table(
    after: dict[str, Any] | None, sqlite_database: AppDatabase, dekctl: Dekctl
) -> None:
    """The database URL may be another environment's. A first environment says so by --allow."""
    dekctl.configure(f'[table]\n[env.test]\ndatabase_url = "{sqlite_database.url}"\n')
    sqlite_database.sql("CREATE TABLE another (id INTEGER)")
    document = plan(change("aws_kms_key", "kek", key("k1"), after))
    [finding] = guard(dekctl, document, expect=3)["findings"]
    assert "encrypted_files is not in this database" in finding["detail"]
    guard(dekctl, document, "--allow", finding["id"], expect=0)

    created = plan(change("aws_kms_key", "g2", None, key("k2", arn=None)))
    assert guard(dekctl, created, expect=0)["findings"] == []


def test_a_managed_table_that_is_gone_is_no_empty_table(app: Application, dekctl: Dekctl) -> None:
    wrapped_by(app, arn_of("k1"))
    app.database.sql("ALTER TABLE encrypted_files RENAME TO files")
    file = write(dekctl.folder, plan(change("aws_kms_key", "kek", key("k1"), None)))
    assert "is gone" in dekctl("guard", "--plan", file).expect(3).stderr


def test_one_finding_is_accepted_by_name_and_the_ledger_keeps_who_did(
    app: Application, dekctl: Dekctl
) -> None:
    wrapped_by(app, arn_of("k1"))
    document = plan(
        change("aws_kms_key", "kek", key("k1"), None),
        change("aws_cloudtrail", "trail", {"name": "t"}, None),
    )
    ids = {f["kind"]: f["id"] for f in guard(dekctl, document, expect=3)["findings"]}
    one = guard(dekctl, document, "--allow", ids["delete"], expect=3)
    assert [f["allowed"] for f in one["findings"]] == [True, False]
    both = guard(dekctl, document, "--allow", ids["delete"], "--allow", ids["trail"], expect=0)
    assert both["recorded"]
    [(who, result)] = app.database.sql(
        "SELECT who, result FROM dekctl_runs WHERE operation = 'guard'"
    )
    assert who
    assert ids["delete"] in result
    guard_again = dekctl("guard", "--plan", write(dekctl.folder, document), "--allow", "nothing")
    assert "matches no finding" in guard_again.expect(2).stderr


def test_an_accepted_finding_accepts_no_worse_plan(app: Application, dekctl: Dekctl) -> None:
    """The same key, the same resource, the same kind; the ALLOW= stayed in a pipeline."""
    wrapped_by(app, arn_of("k1"))
    app.database.sql("UPDATE encrypted_files SET wrapped_key_version = 'V1' WHERE id = 1")
    before = key("k1", policy=key_policy(allow(APP, "kms:Decrypt", context=None)))
    some, all_ = (
        plan(change("aws_kms_key", "kek", before, key("k1", policy=after)))
        for after in (key_policy(), key_policy(app=False))
    )
    [accepted] = guard(dekctl, some, expect=3)["findings"]
    assert accepted["rows"] == 1
    guard(dekctl, some, "--allow", accepted["id"], expect=0)
    [worse] = guard(dekctl, all_, expect=3)["findings"]
    assert (worse["rows"], worse["address"]) == (ROWS, accepted["address"])
    file = write(dekctl.folder, all_)
    stale = dekctl("guard", "--plan", file, "--allow", accepted["id"]).expect(2)
    assert "matches no finding" in stale.stderr
