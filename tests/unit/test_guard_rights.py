"""`dekctl guard`: rights in key policies and role policies, and the rows that need them."""

from __future__ import annotations

import pytest

from support.app import Application
from support.cli import Dekctl
from support.guarded import ROWS, guard, wrapped_by
from support.plans import APP, WRAPPER, allow, arn_of, change, key, key_policy, plan, policy


@pytest.fixture
def app(expanded_app: Application) -> Application:
    """Five rows; they are wrapped by nobody yet."""
    return expanded_app


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
