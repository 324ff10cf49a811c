"""Rows whose keys are impossible, exchanged or out of reach lose nothing, and stop no other row."""

from __future__ import annotations

from typing import Any

import pytest

from dekctl.kms import EnvKMS
from dekctl.reader import RowKeys
from support.app import AppDatabase
from support.cli import Dekctl
from support.refusals import assert_says, refused


@pytest.mark.parametrize(
    ("encoding", "stored", "words"),
    [
        ("raw", b"fifteen bytes!!", ("15 bytes long", "16, 24, 32")),
        ("raw", b"", ("0 bytes long",)),
        ("base64", "this is not base64", ("not base64", "plaintext_encoding")),
        ("base64", b"c2hvcnQ=", ("5 bytes long",)),
        ("hex", "zz" * 16, ("not hex",)),
        ("hex", b"abc", ("not hex",)),
    ],
)
def test_a_row_with_an_impossible_key_is_set_aside_and_the_others_are_wrapped(
    app_database: AppDatabase,
    dekctl: Dekctl,
    make_app: Any,
    encoding: str,
    stored: bytes | str,
    words: tuple[str, ...],
) -> None:
    storage = "text" if isinstance(stored, str) else "binary"
    app = make_app(app_database, plaintext_encoding=encoding, storage=storage)
    dek = b"0123456789abcdef"
    good = [app.add_dek(dek), app.add_dek(dek)]
    bad = app.add_dek(b"", stored)
    before = app.rows()[bad]

    result = dekctl.json("migrate", expect=4)

    assert (result["changed"], result["quarantined"]) == (2, 1)
    rows = app.rows()
    assert all(rows[pk]["wrapped_key"] is not None for pk in good)
    assert {k: v for k, v in rows[bad].items() if k in before} == before
    status = dekctl.json("status")
    assert status["quarantined"] == 1
    assert all(word in status["quarantine"][0]["reason"] for word in words)
    # Set aside is not forgotten: the next run says so again, and scrub leaves the row alone.
    assert dekctl.json("wrap", expect=4)["quarantined"] == 1
    assert dekctl.json("scrub", "--yes", expect=4)["quarantined"] == 1
    assert app.rows()[bad][app.config.plaintext_column] == before[app.config.plaintext_column]
    dekctl("schema", "contract", "--yes").expect(3)


def test_a_corrected_row_leaves_quarantine(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(sqlite_database, rows=2)
    bad = app.add_dek(b"", b"short")
    dekctl("migrate").expect(4)
    app.deks[bad] = b"0123456789abcdef"
    app.set(bad, plaintext=app.deks[bad])
    assert dekctl.json("wrap", "--retry-quarantined")["changed"] == 1
    assert dekctl.json("status")["quarantined"] == 0
    assert app.counts()["both"] == 3


def test_exchanged_wrapped_keys_make_verify_end_with_4(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=10)
    for command in (["migrate"], ["scrub", "--yes"]):
        dekctl(*command).expect(0)
    rows = app.rows()
    app.set((3,), wrapped=rows[(7,)]["wrapped_key"])
    app.set((7,), wrapped=rows[(3,)]["wrapped_key"])

    result = dekctl.json("verify", expect=4)

    assert (result["verified"], result["failed"]) == (8, 2)
    assert {row["pk"] for row in result["set_aside"]} == {"3", "7"}
    # Put right again, they leave quarantine with the next verify.
    app.set((3,), wrapped=rows[(3,)]["wrapped_key"])
    app.set((7,), wrapped=rows[(7,)]["wrapped_key"])
    assert dekctl.json("verify")["verified"] == 10
    assert dekctl.json("status")["quarantined"] == 0


def test_a_plaintext_that_no_longer_fits_is_not_scrubbed(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=4)
    dekctl("migrate").expect(0)
    other = bytes(range(32))
    app.set((2,), plaintext=other)
    assert dekctl.json("scrub", "--yes", expect=4)["quarantined"] == 1
    assert app.rows()[(2,)]["encryption_key"] == other
    assert app.counts()["wrapped_only"] == 3


def test_rows_of_a_local_kek_that_is_not_at_hand_stop_the_command(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(sqlite_database, rows=2)
    dekctl("migrate").expect(0)
    dekctl.use_env_kek()
    del dekctl.environ["DEKCTL_OLD_KEKS"]
    result = refused(dekctl, app, "scrub", "--yes", exit_code=5)
    assert_says(result, "is not available", "DEKCTL_OLD_KEKS")
    dekctl("verify").expect(5)


def test_a_key_that_the_text_column_cannot_hold_is_set_aside_by_restore(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    """Raw keys in a text column are text; the application may have issued others since."""
    app = make_app(app_database, storage="text")
    pks = [app.add_dek(b"0123456789abcdef"), app.add_dek(b"fedcba9876543210")]
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    row = app.rows()[pks[0]]
    app.deks[pks[0]] = RowKeys(EnvKMS(dekctl.environ), plaintext="read").issue(row, replace=True)
    app.set(pks[0], wrapped=row["wrapped_key"], kek=row["kek_id"], version="V2")

    result = dekctl.json("restore", "--yes", expect=4)

    assert (result["changed"], result["quarantined"]) == (1, 1)
    assert "text" in result["set_aside"][0]["reason"]
    assert dekctl.json("verify")["verified"] == 2


def test_a_number_in_sqlites_key_column_is_set_aside(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=2)
    sqlite_database.sql("UPDATE encrypted_files SET encryption_key = 12345 WHERE id = 1")
    assert dekctl.json("migrate", expect=4)["quarantined"] == 1
    wrapped = "SELECT id FROM encrypted_files WHERE wrapped_key IS NOT NULL"
    assert sqlite_database.sql(wrapped) == [(2,)]
    dekctl("scrub", "--yes").expect(4)
    assert sqlite_database.sql("SELECT encryption_key FROM encrypted_files WHERE id = 1") == [
        (12345,)
    ]
