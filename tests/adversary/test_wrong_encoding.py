"""Plaintexts in another encoding than the configured one are never wrapped as other keys."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Callable

import pytest

from dekctl.config import Encoding
from dekctl.db.plaintext import decode_plaintext, encode_plaintext, refuse_other_form
from dekctl.errors import RowRejectedError
from support.app import AppDatabase
from support.cli import Dekctl

ROWS = 40


def fernet() -> str:
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


def base64_of_16() -> str:
    return base64.b64encode(os.urandom(16)).decode()


def prepared(
    database: AppDatabase, dekctl: Dekctl, encoding: str, make: Callable[[], str], kind: str
) -> None:
    database.sql(f"CREATE TABLE encrypted_files (id INTEGER PRIMARY KEY, encryption_key {kind})")
    for number in range(ROWS):
        text = make()
        dekctl.hidden.append(text.encode())
        stored = text if kind.startswith("VARCHAR") else text.encode()
        database.sql(
            f"INSERT INTO encrypted_files (id, encryption_key) VALUES ({number + 1}, :stored)",
            stored=stored,
        )
    configure(database, dekctl, encoding)


def configure(database: AppDatabase, dekctl: Dekctl, encoding: str) -> None:
    dekctl.configure(
        f'[table]\nplaintext_encoding = "{encoding}"\n'
        f'[env.test]\ndatabase_url = "{database.url}"\nprovider = "env"\n'
    )


BINARY = {"sqlite": "BLOB", "postgresql": "BYTEA", "mariadb": "VARBINARY(64)"}


@pytest.mark.parametrize(
    ("make", "right"), [(base64_of_16, "base64"), (lambda: secrets.token_hex(16), "hex")]
)
def test_the_text_of_a_16_byte_key_is_not_taken_for_a_raw_key(
    app_database: AppDatabase, dekctl: Dekctl, make: Callable[[], str], right: str
) -> None:
    prepared(app_database, dekctl, "raw", make, BINARY[app_database.kind])
    for command in (["doctor"], ["migrate", "--dry-run"], ["migrate"]):
        said = dekctl(*command).expect(3)
        assert f'plaintext_encoding = "{right}"' in said.stdout + said.stderr
    configure(app_database, dekctl, right)
    assert dekctl.json("migrate")["changed"] == ROWS


def test_a_single_encoded_row_among_raw_keys_is_quarantined(
    sqlite_database: AppDatabase, dekctl: Dekctl
) -> None:
    prepared(sqlite_database, dekctl, "raw", base64_of_16, "BLOB")
    for number in range(2, ROWS + 1):
        sqlite_database.sql(
            f"UPDATE encrypted_files SET encryption_key = :dek WHERE id = {number}",
            dek=os.urandom(32),
        )
    result = dekctl.json("migrate", expect=4)
    assert (result["changed"], result["quarantined"]) == (ROWS - 1, 1)
    assert "base64" in str(result)


def test_a_text_that_is_the_key_itself_can_be_said_to_be_one(
    sqlite_database: AppDatabase, dekctl: Dekctl
) -> None:
    prepared(sqlite_database, dekctl, "raw", lambda: secrets.token_hex(16), "VARCHAR(64)")
    assert '"text" if' in dekctl("migrate").expect(3).stderr
    configure(sqlite_database, dekctl, "text")
    assert dekctl.json("migrate")["changed"] == ROWS
    assert dekctl.json("scrub", "--yes")["changed"] == ROWS
    assert dekctl.json("restore", "--yes")["changed"] == ROWS


@pytest.mark.parametrize(
    ("make", "right"),
    [(fernet, "base64url"), (lambda: secrets.token_urlsafe(32), "base64url-unpadded")],
)
def test_url_safe_base64_is_named_and_can_be_migrated(
    sqlite_database: AppDatabase, dekctl: Dekctl, make: Callable[[], str], right: str
) -> None:
    prepared(sqlite_database, dekctl, "base64", make, "VARCHAR(64)")
    assert f'plaintext_encoding = "{right}"' in dekctl("migrate").expect(3).stderr
    before = sqlite_database.sql("SELECT id, encryption_key FROM encrypted_files ORDER BY id")
    configure(sqlite_database, dekctl, right)
    assert dekctl.json("migrate")["changed"] == ROWS
    assert dekctl.json("scrub", "--yes")["changed"] == ROWS
    assert dekctl.json("restore", "--yes")["changed"] == ROWS
    after = sqlite_database.sql("SELECT id, encryption_key FROM encrypted_files ORDER BY id")
    assert after == before


KEY = bytes(range(200, 232))
TEXT = base64.b64encode(KEY).decode()


@pytest.mark.parametrize(
    ("stored", "encoding", "named"),
    [
        (base64.urlsafe_b64encode(bytes(range(224, 256))).decode(), "base64", "it is base64url"),
        (TEXT[:20] + "\n" + TEXT[20:], "base64", "line breaks"),
        (TEXT.rstrip("="), "base64", "padding"),
        ("\\x" + KEY.hex(), "hex", "begins with"),
        ("0x" + KEY.hex(), "hex", "begins with"),
        (KEY.hex(" "), "hex", "spaces"),
    ],
)
def test_what_is_wrong_with_a_text_is_named(stored: str, encoding: Encoding, named: str) -> None:
    with pytest.raises(RowRejectedError) as caught:
        decode_plaintext(stored, encoding, (16, 24, 32))
    assert named in caught.value.message
    assert stored not in caught.value.message + str(caught.value.hint)


@pytest.mark.parametrize("encoding", ["base64url", "base64url-unpadded", "text"])
def test_new_encodings_are_written_back_byte_for_byte(encoding: Encoding) -> None:
    for _ in range(200):
        key = secrets.token_hex(8).encode() if encoding == "text" else os.urandom(16)
        stored = encode_plaintext(key, encoding, as_text=True)
        assert decode_plaintext(stored, encoding, (16,)) == key
        refuse_other_form(stored, key, encoding, as_text=True)
