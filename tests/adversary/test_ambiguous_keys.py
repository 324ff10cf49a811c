"""Two rows whose primary keys read the same could exchange their keys: such tables are refused."""

from __future__ import annotations

import pytest

from support.app import AppDatabase
from support.cli import Dekctl

DEKS = (bytes(range(32)), bytes(range(32, 64)))
NOT_THE_ROWID = {
    "int": "id INT PRIMARY KEY, encryption_key BLOB)",
    "bigint": "id BIGINT PRIMARY KEY, encryption_key BLOB)",
    "desc": "id INTEGER PRIMARY KEY DESC, encryption_key BLOB)",
    "unique": "id INTEGER UNIQUE NOT NULL, encryption_key BLOB)",
    "without-rowid": "id INTEGER PRIMARY KEY, encryption_key BLOB) WITHOUT ROWID",
}


def configured(dekctl: Dekctl, database: AppDatabase) -> None:
    dekctl.hidden += DEKS
    dekctl.configure(f'[env.test]\ndatabase_url = "{database.url}"\nprovider = "env"\n')


def insert(database: AppDatabase, key: str, dek: bytes) -> None:
    database.sql(f"INSERT INTO encrypted_files (id, encryption_key) VALUES ({key}, :dek)", dek=dek)


@pytest.mark.parametrize("table", NOT_THE_ROWID.values(), ids=NOT_THE_ROWID)
def test_a_number_and_a_blob_that_reads_like_it_are_refused(
    sqlite_database: AppDatabase, dekctl: Dekctl, table: str
) -> None:
    sqlite_database.sql(f"CREATE TABLE encrypted_files ({table}")
    configured(dekctl, sqlite_database)
    insert(sqlite_database, "31", DEKS[0])
    assert dekctl.json("migrate")["changed"] == 1
    # The blob came later, with the wrapped key of the other row.
    sqlite_database.sql(
        "INSERT INTO encrypted_files SELECT x'31', NULL, wrapped_key, wrapped_key_version, kek_id "
        "FROM encrypted_files"
    )
    for command in (["verify"], ["wrap"], ["scrub", "--yes"], ["rewrap"], ["doctor"]):
        said = dekctl(*command).expect(3)
        assert "different kinds of values" in said.stdout + said.stderr
    sqlite_database.sql("DELETE FROM encrypted_files WHERE typeof(id) = 'blob'")
    assert dekctl.json("verify")["verified"] == 1


def test_a_row_without_a_primary_key_is_named_as_that(
    sqlite_database: AppDatabase, dekctl: Dekctl
) -> None:
    sqlite_database.sql("CREATE TABLE encrypted_files (id INT PRIMARY KEY, encryption_key BLOB)")
    configured(dekctl, sqlite_database)
    insert(sqlite_database, "1", DEKS[0])
    insert(sqlite_database, "NULL", DEKS[1])
    assert "primary key is NULL" in dekctl("migrate").expect(3).stderr
    sqlite_database.sql("UPDATE encrypted_files SET id = 2 WHERE id IS NULL")
    assert dekctl.json("migrate")["changed"] == 2


def test_the_rowid_is_not_read_for_it(sqlite_database: AppDatabase, dekctl: Dekctl) -> None:
    sqlite_database.sql(
        "CREATE TABLE encrypted_files (id INTEGER PRIMARY KEY, encryption_key BLOB)"
    )
    configured(dekctl, sqlite_database)
    insert(sqlite_database, "31", DEKS[0])
    assert dekctl.json("migrate")["changed"] == 1
