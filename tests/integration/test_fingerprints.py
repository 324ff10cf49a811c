"""What a write is compared by is the same in Python and in each database."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import sqlalchemy as sa

from dekctl.config import EnvConfig, TableConfig
from dekctl.db.connect import database_of
from dekctl.db.database import Database
from dekctl.db.row import Change, Row, fingerprint
from dekctl.db.table import DekTable
from support.app import AppDatabase

BINARY = [None, b"", b"\x00", b"\x00" * 32, b"\xff" * 32, b"-", b"1:a", bytes(range(256)) * 24]
TEXT = [None, "", "-", "2:ab", "a", "ä ß € 😀", "quote ' \" ` % : \\ ; --", "line\nbreak\r\t", " x"]


def open_table(database: AppDatabase, **config: Any) -> tuple[Database, DekTable]:
    opened = database_of(EnvConfig("test", database_url=database.url))
    return opened, DekTable(opened, TableConfig(**config))


def make(database: AppDatabase, plaintext: sa.types.TypeEngine[Any]) -> sa.Table:
    table = sa.Table(
        "encrypted_files",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("encryption_key", plaintext),
        sa.Column("wrapped_key", sa.LargeBinary),
        sa.Column("wrapped_key_version", sa.String(200)),
        sa.Column("kek_id", sa.String(255)),
    )
    table.create(database.engine)
    return table


def assert_equal(database: AppDatabase, rows: list[dict[str, Any]], table: sa.Table) -> None:
    with database.engine.begin() as connection:
        connection.execute(table.insert(), rows)
    opened, dek_table = open_table(database)
    with opened, opened.transaction(write=True) as connection:
        read = dek_table.page(connection, after=None, size=10_000, due_sql="1 = 1")
        assert [row.pk for row in read] == [(r["id"],) for r in rows]
        changes = [Change(row, (b"%d" % i,)) for i, row in enumerate(read)]
        assert not dek_table.swap(connection, ("wrapped",), changes), "these rows differ"
        now = dek_table.page(connection, after=None, size=10_000, due_sql="1 = 1")
    assert [row.wrapped for row in now] == [b"%d" % i for i in range(len(rows))]
    assert [row.plaintext for row in now] == [row.plaintext for row in read]


def test_odd_values_have_the_same_fingerprint_everywhere(app_database: AppDatabase) -> None:
    table = make(app_database, sa.LargeBinary())
    rows: list[dict[str, Any]] = []
    for binary in BINARY:
        for text in TEXT:
            rows.append(
                {
                    "id": len(rows),
                    "encryption_key": binary,
                    "wrapped_key": BINARY[len(rows) % len(BINARY)],
                    "wrapped_key_version": text,
                    "kek_id": TEXT[len(rows) % 7],
                }
            )
    assert_equal(app_database, rows, table)


@pytest.mark.parametrize(
    "plaintext",
    [
        sa.String(64),
        sa.CHAR(64),
        sa.Text(),
    ],
    ids=["varchar", "char", "text"],
)
def test_text_columns_have_the_same_fingerprint_everywhere(
    app_database: AppDatabase, plaintext: sa.types.TypeEngine[Any]
) -> None:
    table = make(app_database, plaintext)
    values = ["", "00" * 32, "QUJD+/==", "ä ß € 😀", "a" * 64, None]
    rows = [
        {
            "id": i,
            "encryption_key": value,
            "wrapped_key": b"w",
            "wrapped_key_version": "V2",
            "kek_id": "k",
        }
        for i, value in enumerate(values)
    ]
    assert_equal(app_database, rows, table)


@pytest.mark.parametrize("charset", ["latin1", "utf8mb4", "utf8mb3", "ascii", "ucs2"])
def test_each_character_set_of_mariadb_has_the_same_fingerprint(
    mariadb_database: AppDatabase, charset: str
) -> None:
    mariadb_database.sql(
        "CREATE TABLE encrypted_files (id INTEGER PRIMARY KEY, encryption_key VARCHAR(64), "
        "wrapped_key VARBINARY(6144), wrapped_key_version VARCHAR(10), kek_id VARCHAR(255)) "
        f"CHARACTER SET {charset}"
    )
    table = sa.Table("encrypted_files", sa.MetaData(), autoload_with=mariadb_database.engine)
    values = ["abc", "00" * 32, "x ", *([] if charset == "ascii" else ["äöü"])]
    rows = [
        {
            "id": i,
            "encryption_key": value,
            "wrapped_key": b"\xe4\xf6",
            "wrapped_key_version": "V2",
            "kek_id": value,
        }
        for i, value in enumerate(values)
    ]
    assert_equal(mariadb_database, rows, table)


@pytest.mark.parametrize("kind", ["BINARY(32)", "VARBINARY(32)", "TINYBLOB", "BLOB", "LONGBLOB"])
def test_each_binary_type_of_mariadb_has_the_same_fingerprint(
    mariadb_database: AppDatabase, kind: str
) -> None:
    mariadb_database.sql(
        f"CREATE TABLE encrypted_files (id INTEGER PRIMARY KEY, encryption_key {kind}, "
        "wrapped_key BLOB, wrapped_key_version VARCHAR(10), kek_id VARCHAR(255))"
    )
    table = sa.Table("encrypted_files", sa.MetaData(), autoload_with=mariadb_database.engine)
    rows = [
        {
            "id": i,
            "encryption_key": value,
            "wrapped_key": b"w",
            "wrapped_key_version": None,
            "kek_id": None,
        }
        for i, value in enumerate([b"", b"\x00\x01", b"\xff" * 32, b"a" * 31 + b" "])
    ]
    assert_equal(mariadb_database, rows, table)


def test_the_fingerprint_is_the_documented_one() -> None:
    text = b"2:pp" + b"-" + b"2:V2" + "3:kä".encode()
    assert fingerprint(b"pp", None, "V2", "kä") == hashlib.sha256(text).digest()


def test_no_value_can_pass_for_two() -> None:
    assert fingerprint(b"1:a", None, None, None) != fingerprint(b"", b"a", None, None)
    assert fingerprint(None, b"", None, None) != fingerprint(b"", None, None, None)
    assert fingerprint(b"-") != fingerprint(None)


def test_a_row_and_a_change_show_no_key_in_their_repr() -> None:
    row = Row((1,), b"secret plaintext", b"wrapped", "V2", "kek")
    assert "secret" not in repr(row)
    assert "secret" not in repr(Change(row, (b"secret plaintext",)))
