"""`dekctl guard`: which plans are refused, over rows in a real (SQLite) table."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.app import AppDatabase, Application
from support.cli import Dekctl
from support.plans import (
    APP,
    WRAPPER,
    allow,
    arn_of,
    change,
    key,
    key_policy,
    plan,
    policy,
    write,
)

ROWS = 5


@pytest.fixture
def app(expanded_app: Application) -> Application:
    """Five rows; they are wrapped by nobody yet."""
    return expanded_app


def wrapped_by(app: Application, kek_id: str | None, version: str = "V2") -> None:
    """Let every row name a KEK; what the blob holds does not matter here."""
    app.database.sql(
        "UPDATE encrypted_files SET wrapped_key = :blob, wrapped_key_version = :version, "
        "kek_id = :kek",
        blob=b"blob",
        version=version,
        kek=kek_id,
    )


def guard(dekctl: Dekctl, document: dict[str, Any], *options: str, expect: int) -> dict[str, Any]:
    """Run the guard on a plan; its JSON."""
    file = write(dekctl.folder, document)
    return dekctl.json("guard", "--plan", file, *options, expect=expect)


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


def test_v1_rows_count_where_the_right_without_a_context_goes(
    app: Application, dekctl: Dekctl
) -> None:
    bare = allow(APP, "kms:Decrypt", context=None)
    document = plan(
        change("aws_kms_key", "kek", key("k1", policy=key_policy(bare)), key("k1")),
    )
    wrapped_by(app, arn_of("k1"), "V2")
    assert guard(dekctl, document, expect=0)["findings"] == []
    wrapped_by(app, arn_of("k1"), "V1")
    assert guard(dekctl, document, expect=3)["findings"][0]["rows"] == ROWS


def test_v3_rows_count_where_the_right_to_open_branch_keys_goes(
    app: Application, dekctl: Dekctl
) -> None:
    names = ["dekctl:table", "dekctl:branch"]
    branches = allow(APP, "kms:Decrypt")
    branches["Condition"]["ForAllValues:StringEquals"] = {"kms:EncryptionContextKeys": names}
    rows = allow(APP, "kms:Decrypt")
    rows["Condition"]["ForAllValues:StringEquals"] = {
        "kms:EncryptionContextKeys": ["dekctl:table", "dekctl:pk"]
    }
    both, one = policy(branches, rows), policy(rows)
    document = plan(change("aws_kms_key", "kek", key("k1", policy=both), key("k1", policy=one)))
    wrapped_by(app, arn_of("k1"), "V2")
    assert guard(dekctl, document, expect=0)["findings"] == []
    wrapped_by(app, arn_of("k1"), "V3")
    assert guard(dekctl, document, expect=3)["findings"][0]["rows"] == ROWS


def test_branch_keys_count_although_rows_of_v2_name_their_kek(
    app: Application, dekctl: Dekctl
) -> None:
    """A rewrap back to a KEK ended half-way: its branch keys are there, its V3 rows not yet."""
    branches = allow(APP, "kms:Decrypt")
    branches["Condition"]["Null"]["kms:EncryptionContext:dekctl:branch"] = "false"
    rows = allow(APP, "kms:Decrypt")
    rows["Condition"]["Null"]["kms:EncryptionContext:dekctl:pk"] = "false"
    both, one = policy(branches, rows), policy(rows)
    document = plan(
        change("aws_kms_key", "kek", key("k1", policy=both), key("k1", policy=one)),
        generations={"g1": "k1", "g2": "k2"},
    )
    wrapped_by(app, arn_of("k1"))
    app.database.sql(
        "UPDATE encrypted_files SET kek_id = :kek, wrapped_key_version = 'V3', "
        "wrapped_key = :blob WHERE id > 3",
        kek=arn_of("k2"),
        blob=b"\x03" + bytes(16) + b"the rest",
    )
    app.database.sql(
        "INSERT INTO dekctl_branch_keys VALUES "
        "(:id, 'encrypted_files', x'00', :kek, '2026-01-01', 10)",
        id=bytes(16).hex(),
        kek=arn_of("k2"),
    )
    assert guard(dekctl, document, expect=0)["findings"] == []
    app.database.sql("UPDATE dekctl_branch_keys SET kek_id = :kek", kek=arn_of("k1"))
    [finding] = guard(dekctl, document, expect=3)["findings"]
    assert finding["rows"] == ROWS - 3
    assert "it wraps 1 branch key (V3)" in finding["detail"]


def test_a_statement_that_moves_to_another_policy_of_the_role_is_no_loss(
    app: Application, dekctl: Dekctl
) -> None:
    wrapped_by(app, arn_of("k1"))
    use = policy(allow(None, "kms:Decrypt", arn_of("k1")))
    document = plan(
        change("aws_kms_key", "kek", key("k1"), key("k1")),
        change("aws_iam_role_policy", "old", {"role": "files-app", "policy": use}, None),
        change("aws_iam_role_policy", "new", None, {"role": "files-app", "policy": use}),
    )
    assert guard(dekctl, document, expect=0)["findings"] == []


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


@pytest.mark.parametrize("pattern", ["encrypted_files", "encrypted_*"])
def test_a_new_denial_of_a_table_that_no_present_policy_names_is_seen(
    pattern: str, app: Application, dekctl: Dekctl
) -> None:
    wrapped_by(app, arn_of("k1"))
    table = "kms:EncryptionContext:dekctl:table"
    use = {**allow(APP, "kms:Decrypt"), "Condition": {"StringLike": {table: "*"}}}
    deny = {**use, "Effect": "Deny", "Condition": {"StringLike": {table: pattern}}}
    document = plan(
        change(
            "aws_kms_key", "k", key("k1", policy=policy(use)), key("k1", policy=policy(use, deny))
        )
    )
    document["prior_state"]["values"]["outputs"]["dekctl"]["value"]["context_name"] = "photos"
    assert guard(dekctl, document, expect=3)["findings"][0]["rows"] == ROWS


def test_writers_named_by_account_lose_nothing(app: Application, dekctl: Dekctl) -> None:
    """A key policy that hands the decision to IAM lets the roles' own policies decide."""
    wrapped_by(app, arn_of("k1"))
    account = policy(
        {"Effect": "Allow", "Action": "kms:*", "Resource": "*", "Principal": {"AWS": WRAPPER[:25]}}
    )
    delegated = policy(
        {
            "Effect": "Allow",
            "Action": "kms:*",
            "Resource": "*",
            "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
        }
    )
    everything = policy({"Effect": "Allow", "Action": "kms:*", "Resource": "*"})
    own = [{"role": f"files-{role}", "policy": everything} for role in ("app", "wrapper")]
    document = plan(
        change("aws_kms_key", "kek", key("k1"), key("k1", policy=delegated)),
        *(change("aws_iam_role_policy", use["role"], use, use) for use in own),
    )
    [opened] = guard(dekctl, document, expect=3)["findings"]
    assert opened["kind"] == "exposure"  # to everybody whom the account's policies let in
    document = plan(change("aws_kms_key", "kek", key("k1"), key("k1", policy=account)))
    assert guard(dekctl, document, expect=3)["findings"][0]["kind"] == "decrypt"
