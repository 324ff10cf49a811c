"""Hierarchical wrapping (V3): branch keys, their rows, another KEK, and the ways in and out."""

from __future__ import annotations

from typing import Any

import boto3

from dekctl.kms import AWSKMS, EnvKMS
from dekctl.kms.branch.keys import BranchKeys
from support.app import AppDatabase
from support.cli import Dekctl
from support.hierarchical import (
    BRANCHES,
    ROWS,
    ROWS_PER_KEY,
    branches,
    make,
    on_standin,
)
from support.kms_standin import KmsStandin
from support.v3_rows import branch_store


def provider_of(standin: KmsStandin, kek: str) -> AWSKMS:
    session = boto3.Session(
        aws_access_key_id=standin.admin.access_key,
        aws_secret_access_key=standin.admin.secret_key,
        region_name=standin.region,
    )
    return AWSKMS(kek, session=session, endpoint_url=standin.endpoint_url)


def test_v3_rows_go_the_whole_way_on_every_database(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make(make_app, app_database)
    provider = EnvKMS(dekctl.environ)
    dekctl.json("schema", "expand")

    assert dekctl.json("wrap")["changed"] == ROWS
    assert app.versions() == {"V3"}
    assert len(branches(app)) == BRANCHES
    assert dekctl.json("verify")["verified"] == ROWS
    status = dekctl.json("status")
    assert status["keks"][0]["version"] == "V3"
    [under] = status["branch_keys"]
    assert (under["kek_id"], under["keys"]) == (provider.kek_id, BRANCHES)
    assert f"{BRANCHES} branch keys under {provider.kek_id}" in dekctl("status").expect(0).stdout
    assert dekctl.json("scrub", "--yes")["changed"] == ROWS
    app.assert_files_open(provider)

    old = provider.kek_id
    dekctl.use_env_kek()
    provider = EnvKMS(dekctl.environ)
    blobs = {pk: row["wrapped_key"] for pk, row in app.rows().items()}
    assert dekctl.json("rewrap")["changed"] == ROWS
    assert app.keks() == {provider.kek_id} != {old}
    assert {row["kek_id"] for row in branches(app)} == {provider.kek_id}
    assert blobs == {pk: row["wrapped_key"] for pk, row in app.rows().items()}
    app.assert_files_open(provider)

    dekctl.json("schema", "contract", "--yes")
    assert dekctl.json("verify")["verified"] == ROWS
    dekctl.json("rollback", "--yes")
    app.assert_files_open()


def test_kms_is_called_once_for_each_branch_key_and_not_for_rows(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, kms_standin: KmsStandin
) -> None:
    app = on_standin(make_app, sqlite_database, dekctl, kms_standin)
    dekctl.json("schema", "expand")

    assert dekctl.json("wrap")["kms_calls"] == {"GenerateDataKey": BRANCHES}
    assert dekctl.json("verify")["kms_calls"] == {"Decrypt": BRANCHES}
    contexts = [call["context"] for call in kms_standin.journal() if call["context"]]
    assert len(contexts) == 2 * BRANCHES
    assert {tuple(sorted(context)) for context in contexts} == {("dekctl:branch", "dekctl:table")}

    target = kms_standin.create_key()
    calls = dekctl.json("rewrap", "--to", target)["kms_calls"]
    assert calls == {"ReEncrypt": 2 * BRANCHES}, "each one, and the proof that its new copy opens"
    assert app.keks() == {target}
    app.assert_files_open(provider_of(kms_standin, target))


def test_each_table_has_its_own_number_of_rows_a_branch_key(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=ROWS)
    make_app(sqlite_database, rows=ROWS, name="photos", context_name="photos")
    dekctl.configure(
        '[[table]]\nname = "encrypted_files"\nwrapping = "V3"\n'
        '[[table]]\nname = "photos"\ncontext_name = "photos"\nwrapping = "V3"\n'
        f"rows_per_branch_key = {ROWS_PER_KEY}\n"
        f'[env.test]\ndatabase_url = "{sqlite_database.url}"\nprovider = "env"\n'
    )
    dekctl.json("migrate")
    files, photos = dekctl.json("status")["tables"]
    assert [len(files["branch_keys"]), files["branch_keys"][0]["keys"]] == [1, 1]
    assert photos["branch_keys"][0]["keys"] == BRANCHES


def test_rewrap_moves_rows_between_v2_and_v3(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=ROWS)
    provider = EnvKMS(dekctl.environ)
    dekctl.json("schema", "expand")
    dekctl.json("wrap")
    assert app.versions() == {"V2"}

    done = dekctl("--json", "rewrap", "--hierarchical").expect(0)
    assert (done.json["changed"], done.json["carried_over"]) == (ROWS, 0)
    assert "rows that change between V2 and V3" in done.stderr
    assert "another provider" not in done.stderr
    assert app.versions() == {"V3"}
    app.assert_files_open(provider)

    assert dekctl.json("rewrap")["changed"] == ROWS
    assert app.versions() == {"V2"}
    app.assert_files_open(provider)
    assert dekctl.json("rewrap")["changed"] == 0


def test_a_kek_that_wraps_only_a_branch_key_is_still_counted_as_in_use(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    """A rewrap that died after the branch keys: rows name the old KEK, the keys need the new."""
    app = make(make_app, sqlite_database)
    old = EnvKMS(dekctl.environ).kek_id
    dekctl.json("schema", "expand")
    dekctl.json("wrap")
    dekctl.use_env_kek()
    new = EnvKMS(dekctl.environ)

    store = branch_store(app.database.engine)
    BranchKeys(new, store).rewrap_all(app.config.context_name)

    assert app.keks() == {old}
    assert store.keks(app.config.context_name) == {new.kek_id: BRANCHES}
    app.assert_files_open(new)
    assert dekctl.json("rewrap")["changed"] == ROWS
    assert app.keks() == {new.kek_id}


def test_a_v3_key_opens_for_its_own_row_only(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make(make_app, sqlite_database)
    dekctl.json("schema", "expand")
    dekctl.json("wrap")
    rows = app.rows()
    app.set((1,), wrapped=rows[2,]["wrapped_key"])

    verified = dekctl.json("verify", expect=4)
    assert (verified["verified"], verified["failed"]) == (ROWS - 1, 1)
    assert verified["set_aside"][0]["pk"] == "1"


def test_a_disabled_kek_closes_v3_rows(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, kms_standin: KmsStandin
) -> None:
    app = on_standin(make_app, sqlite_database, dekctl, kms_standin)
    dekctl.json("schema", "expand")
    dekctl.json("wrap")
    [kek] = app.keks()
    kms_standin.kms().disable_key(KeyId=kek)
    done = dekctl("verify").expect(5)
    assert "DisabledException" in done.stderr


def test_retire_counts_a_kek_that_only_branch_keys_need(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make(make_app, sqlite_database)
    old = EnvKMS(dekctl.environ)
    dekctl.json("schema", "expand")
    dekctl.json("wrap")
    dekctl.use_env_kek()
    new = EnvKMS(dekctl.environ)
    BranchKeys(new, branch_store(app.database.engine)).rewrap_all(app.config.context_name)

    assert dekctl.json("retire", new.kek_id, expect=3)["branch_keys"] == BRANCHES
    assert dekctl("retire", old.kek_id).expect(3)
    dekctl.json("rewrap")
    assert dekctl("retire", old.kek_id).expect(0)


def test_branch_keys_of_the_related_key_of_another_region_are_moved_with_it(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, kms_standin: KmsStandin
) -> None:
    dekctl.environ |= kms_standin.environment()
    related = kms_standin.kms().create_key(MultiRegion=True)["KeyMetadata"]["Arn"]
    app = make(make_app, sqlite_database, provider="aws", kek=related, region=kms_standin.region)
    dekctl.json("schema", "expand")
    dekctl.json("wrap")
    elsewhere = related.replace(kms_standin.region, "eu-west-1")
    for table in ("encrypted_files", "dekctl_branch_keys"):
        app.database.sql(f"UPDATE {table} SET kek_id = :kek", kek=elsewhere)
    target = kms_standin.create_key()
    assert dekctl.json("rewrap", "--from", related, "--to", target)["changed"] == ROWS
    assert {row["kek_id"] for row in branches(app)} == app.keks() == {target}
