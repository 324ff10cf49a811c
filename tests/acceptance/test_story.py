"""The whole story on each database: legacy to contracted, rotated, and all the way back."""

from __future__ import annotations

import os
import secrets
from typing import Any

import pytest

from dekctl.kms import EnvKMS
from support.app import AppDatabase
from support.cli import Dekctl
from support.secrets import assert_hidden

ROWS = 60
RESULT_FIELDS = {
    "operation",
    "env",
    "run_id",
    "dry_run",
    "scanned",
    "changed",
    "skipped",
    "moved",
    "quarantined",
    "kms_calls",
    "seconds",
}
STATUS_FIELDS = {"stage", "rows", "plaintext_only", "both", "wrapped_only", "no_key", "keks"}


def provider(dekctl: Dekctl) -> EnvKMS:
    return EnvKMS(dekctl.environ)


def assert_row_result(value: dict[str, Any], **expected: Any) -> None:
    assert value.keys() >= RESULT_FIELDS
    assert {name: value[name] for name in expected} == expected


def test_a_table_goes_from_raw_keys_to_wrapped_ones_and_on_to_a_new_kek(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=ROWS)
    before = app.foreign_fingerprint()

    status = dekctl.json("status")
    assert status.keys() >= STATUS_FIELDS
    assert (status["stage"], status["rows"], status["plaintext_only"]) == ("legacy", ROWS, ROWS)

    dekctl.json("schema", "expand")
    assert dekctl.json("status")["stage"] == "expanded"
    app.assert_files_open(provider(dekctl))

    wrapped = dekctl.json("wrap")
    assert_row_result(
        wrapped,
        operation="wrap",
        env="test",
        dry_run=False,
        scanned=ROWS,
        changed=ROWS,
        moved=0,
        quarantined=0,
    )
    assert app.counts()["both"] == ROWS
    app.assert_files_open(provider(dekctl))

    verified = dekctl.json("verify")
    assert_row_result(verified, operation="verify", verified=ROWS, failed=0, changed=0)

    assert_row_result(dekctl.json("scrub", "--yes"), changed=ROWS, quarantined=0)
    assert app.counts()["wrapped_only"] == ROWS

    dekctl.json("schema", "contract", "--yes")
    status = dekctl.json("status")
    assert (status["stage"], status["wrapped_only"]) == ("contracted", ROWS)
    assert app.config.plaintext_column not in app.now().c
    app.assert_files_open(provider(dekctl))

    old = provider(dekctl).kek_id
    dekctl.use_env_kek()
    new = provider(dekctl).kek_id
    assert old != new
    assert_row_result(dekctl.json("rewrap"), operation="rewrap", changed=ROWS)
    assert_row_result(dekctl.json("verify"), verified=ROWS, failed=0)
    [census] = dekctl.json("status")["keks"]
    assert (census["kek_id"], census["version"], census["rows"]) == (new, "V2", ROWS)

    del dekctl.environ["DEKCTL_OLD_KEKS"]  # the old KEK is not needed any more
    app.assert_files_open(provider(dekctl))
    assert app.foreign_fingerprint() == before


def test_the_whole_way_back_ends_at_the_legacy_schema_with_the_same_keys(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=ROWS)
    legacy = app.shape()
    before, keys = app.foreign_fingerprint(), {pk: app.encode(k) for pk, k in app.deks.items()}
    for command in (["migrate"], ["scrub", "--yes"], ["schema", "contract", "--yes"]):
        dekctl(*command).expect(0)

    rehearsal = dekctl.json("rollback", "--dry-run")
    assert_row_result(rehearsal, dry_run=True, changed=0, quarantined=0)
    assert dekctl.json("status")["stage"] == "contracted"

    dekctl.json("rollback", "--yes")

    assert dekctl.json("status")["stage"] == "legacy"
    assert app.shape() == legacy
    stored = {pk: row[app.config.plaintext_column] for pk, row in app.rows().items()}
    assert stored == keys
    assert app.foreign_fingerprint() == before


def test_a_rehearsed_way_back_opens_the_keys_of_rows_that_have_a_plaintext_too(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(sqlite_database, rows=6)
    dekctl("migrate").expect(0)
    for pk in ((1,), (2,)):
        app.set(pk, plaintext=None)
    good = dekctl.json("rollback", "--dry-run")
    assert (good["operation"], good["scanned"], good["changed"], good["skipped"]) == (
        "rollback",
        6,
        2,
        0,
    )
    app.set((5,), wrapped=app.rows()[(6,)]["wrapped_key"])

    rehearsal = dekctl("--json", "rollback", "--dry-run").expect(4)

    assert rehearsal.json["set_aside"][0]["pk"] == "5"
    assert rehearsal.json["operation"] == "rollback"
    assert "dekctl rollback --retry-quarantined" in rehearsal.stderr
    assert dekctl.json("status")["quarantined"] == 0


def test_a_way_back_that_sets_rows_aside_names_itself_as_the_next_command(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(sqlite_database, rows=3)
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    app.set((2,), wrapped=app.rows()[(3,)]["wrapped_key"])
    ended = dekctl("--json", "rollback", "--yes").expect(4)
    assert ended.json["operation"] == "rollback"
    assert "dekctl rollback --retry-quarantined" in ended.stderr


def text_key(size: int) -> bytes:
    """A key that is text, and no hex or base64 of another."""
    return "".join(secrets.choice("!$%&()*,.;<>?@[]^{|}~") for _ in range(size)).encode()


@pytest.mark.parametrize(
    ("key", "storage", "encoding"),
    [
        ("bigint", "text", "base64"),
        ("uuid", "binary", "raw"),
        ("text", "binary", "hex"),
        ("composite", "text", "hex"),
        ("composite", "binary", "base64"),
        ("uuid", "text", "raw"),
    ],
)
def test_every_shape_of_table_goes_there_and_back(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any, key: str, storage: str, encoding: str
) -> None:
    primary_key = ("tenant", "id") if key == "composite" else ("id",)
    app = make_app(
        app_database,
        plaintext_encoding=encoding,
        storage=storage,
        key=key,
        primary_key=primary_key,
    )
    as_text = storage == "text" and encoding == "raw"
    for size in (16, 24, 32, 16, 24, 32, 32):
        app.add_dek(text_key(size) if as_text else os.urandom(size))
    stored = {pk: app.encode(dek) for pk, dek in app.deks.items()}
    for command in (
        ["migrate", "--batch-size", "2"],
        ["scrub", "--yes", "--batch-size", "1"],
        ["schema", "contract", "--yes"],
    ):
        dekctl(*command).expect(0)
    app.assert_files_open(provider(dekctl))
    dekctl("rollback", "--yes").expect(0)
    assert {pk: row[app.config.plaintext_column] for pk, row in app.rows().items()} == stored


def test_the_ledger_holds_no_key(app_database: AppDatabase, dekctl: Dekctl, make_app: Any) -> None:
    app = make_app(app_database, rows=5)
    app.add_dek(b"much too short, and very secret")
    dekctl("migrate").expect(4)
    for table in ("dekctl_runs", "dekctl_quarantine", "dekctl_tables"):
        for row in app_database.sql(f"SELECT * FROM {table}"):
            assert_hidden(repr(row), dekctl.all_keys(), table)
