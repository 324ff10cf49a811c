"""Rows that are out of the ordinary are set aside one by one; they stop nothing."""

from __future__ import annotations

from typing import Any

import pytest

from dekctl.kms import EnvKMS
from dekctl.reader import RowKeys
from support.app import AppDatabase
from support.cli import Dekctl

DEK = b"an ASCII text in no other coding"


def configure(dekctl: Dekctl, database: AppDatabase) -> None:
    dekctl.configure(f'[env.test]\ndatabase_url = "{database.url}"\nprovider = "env"\n')


def test_a_key_that_a_text_column_cannot_hold_is_set_aside_by_restore_and_its_rehearsal(
    sqlite_database: AppDatabase, dekctl: Dekctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = sqlite_database
    dekctl.hidden.append(DEK)
    database.sql("CREATE TABLE encrypted_files (id INTEGER PRIMARY KEY, encryption_key TEXT)")
    database.sql("INSERT INTO encrypted_files VALUES (1, :key)", key=DEK.decode())
    configure(dekctl, database)
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    monkeypatch.setenv("DEKCTL_KEK", dekctl.environ["DEKCTL_KEK"])
    issued: dict[str, Any] = {"id": 2}
    dekctl.hidden.append(RowKeys(EnvKMS()).issue(issued))  # 32 random bytes are no UTF-8
    database.sql(
        "INSERT INTO encrypted_files (id, wrapped_key, wrapped_key_version, kek_id) "
        "VALUES (:id, :wrapped_key, :wrapped_key_version, :kek_id)",
        **{name: value for name, value in issued.items() if name != "encryption_key"},
    )
    dekctl("schema", "contract", "--yes").expect(0)

    rehearsed = dekctl.json("restore", "--dry-run", expect=4)
    assert [row["pk"] for row in rehearsed["set_aside"]] == ["2"]
    dekctl("schema", "rollback", "--yes").expect(0)
    restored = dekctl.json("restore", "--yes", expect=4)
    assert restored["changed"] == 1
    assert "not valid text" in restored["set_aside"][0]["reason"]
    assert database.sql("SELECT id FROM encrypted_files WHERE encryption_key IS NULL") == [(2,)]


@pytest.mark.parametrize("size", ["1", "2"])
def test_a_page_that_begins_after_itself_ends_the_run(
    postgres_database: AppDatabase, dekctl: Dekctl, size: str
) -> None:
    database = postgres_database
    for statement in (
        "CREATE DOMAIN number AS INT",
        "CREATE FUNCTION is_after(number, smallint) RETURNS boolean LANGUAGE sql IMMUTABLE "
        "AS 'SELECT true'",
        "CREATE OPERATOR > (LEFTARG = number, RIGHTARG = smallint, FUNCTION = is_after)",
        "CREATE TABLE encrypted_files (id number PRIMARY KEY, encryption_key BYTEA)",
        "INSERT INTO encrypted_files SELECT i, sha256(i::text::bytea) FROM generate_series(1, 3) i",
    ):
        database.sql(statement.replace(":", r"\:"))
    configure(dekctl, database)
    said = dekctl("wrap", "--dry-run", "--batch-size", size).expect(3).stderr
    assert "takes a primary key of encrypted_files for greater than itself" in said
    assert "hint: set primary_key in [table] to another unique key of the table" in said


def test_an_event_trigger_that_refuses_temporary_tables_is_no_row_s_fault(
    postgres_database: AppDatabase, dekctl: Dekctl
) -> None:
    database = postgres_database
    dekctl.hidden.append(DEK)
    database.sql("CREATE TABLE encrypted_files (id INT PRIMARY KEY, encryption_key BYTEA)")
    database.sql("INSERT INTO encrypted_files VALUES (1, :key)", key=DEK)
    configure(dekctl, database)
    dekctl("schema", "expand").expect(0)
    database.sql(
        "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql "
        "AS 'BEGIN RAISE EXCEPTION ''no DDL''; END'"
    )
    database.sql("CREATE EVENT TRIGGER no_ddl ON ddl_command_start EXECUTE FUNCTION refuse()")
    said = dekctl("wrap", "--keep-going").expect(6).stderr
    assert "an event trigger of the database refuses the temporary table" in said
    assert "quarantined" not in said
    database.sql("DROP EVENT TRIGGER no_ddl")
    dekctl("wrap").expect(0)


ODD = {
    "encryption_key = 12345": "plaintext",
    "encryption_key = 1.5": "plaintext",
    "encryption_key = NULL, wrapped_key = 'a text'": "wrapped key",
    "wrapped_key = 7": "wrapped key",
    "wrapped_key_version = x'32'": "version",
    "kek_id = x'00'": "KEK id",
}


@pytest.mark.parametrize("change", ODD)
def test_a_value_of_another_storage_class_is_one_row_s_fault(
    sqlite_database: AppDatabase, dekctl: Dekctl, change: str
) -> None:
    database = sqlite_database
    dekctl.hidden.append(DEK)
    database.sql("CREATE TABLE encrypted_files (id INTEGER PRIMARY KEY, encryption_key BLOB)")
    for number in (1, 2):
        database.sql("INSERT INTO encrypted_files VALUES (:id, :key)", id=number, key=DEK)
    configure(dekctl, database)
    dekctl("migrate").expect(0)
    with database.past_the_trigger() as connection:
        connection.exec_driver_sql(f"UPDATE encrypted_files SET {change} WHERE id = 2")

    for command in (
        ("verify",),
        ("wrap", "--stale", "--dry-run"),
        ("rewrap", "--same-key"),
        ("scrub", "--yes"),
        ("restore", "--yes"),
    ):
        result = dekctl.json(*command, expect=0 if passed_by(command[0], change) else 4)
        for row in result["set_aside"]:
            assert row["pk"] == "2", command
    [aside] = dekctl.json("verify", expect=4)["set_aside"]
    assert f"its {ODD[change]} has a type" in aside["reason"]


def passed_by(verb: str, change: str) -> bool:
    """Whether the row is none of the verb's."""
    without_plaintext = "encryption_key = NULL" in change
    return verb == ("wrap" if without_plaintext else "restore") or (
        without_plaintext and verb == "scrub"
    )


OTHER_STORAGE = {  # the column's type, its encoding, and what SQLite lets into it
    "VARCHAR(64)": ("raw", "CAST(:key AS BLOB)"),
    "TEXT": ("raw", "CAST(:key AS BLOB)"),
    "CLOB": ("raw", "CAST(x'ff' || substr(:key, 2) AS BLOB)"),  # no text at all
    "BLOB": ("raw", "CAST(:key AS TEXT)"),
}


@pytest.mark.parametrize("kind", OTHER_STORAGE)
def test_a_plaintext_that_a_rollback_would_store_as_another_type_is_set_aside(
    sqlite_database: AppDatabase, dekctl: Dekctl, kind: str
) -> None:
    database = sqlite_database
    dekctl.hidden.append(DEK)
    encoding, value = OTHER_STORAGE[kind]
    database.sql(f"CREATE TABLE encrypted_files (id INTEGER PRIMARY KEY, encryption_key {kind})")
    database.sql(f"INSERT INTO encrypted_files VALUES (1, {value})", key=DEK)
    dekctl.configure(
        f'[table]\nplaintext_encoding = "{encoding}"\n'
        f'[env.test]\ndatabase_url = "{database.url}"\nprovider = "env"\n'
    )
    [aside] = dekctl.json("migrate", expect=4)["set_aside"]
    assert "a rollback would write it as" in aside["reason"]
