"""What a schema step leaves as it was: the column's definition, its place, open to writers."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from support.app import AppDatabase
from support.cli import Dekctl

DEK = bytes(range(32))
DEFINITIONS = (
    "VARBINARY(64) NOT NULL COMMENT 'dek: 100%, NOT NULL' CHECK (octet_length(dek) >= 16)",
    "VARBINARY(64) NOT NULL DEFAULT 0x3030 CHECK (dek <> '(NOT NULL)')",
    "BLOB COMPRESSED NOT NULL",
    "VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT (uuid())",
    "VARBINARY(64) INVISIBLE NOT NULL DEFAULT 0x00",
    "VARBINARY(64) DEFAULT NULL",
)


@pytest.mark.parametrize(
    ("definition", "place"), [(DEFINITIONS[0], "first"), *((d, "middle") for d in DEFINITIONS)]
)
def test_the_way_back_brings_the_whole_definition_of_the_column_back(
    mariadb_database: AppDatabase, dekctl: Dekctl, definition: str, place: str
) -> None:
    columns = ["id INT PRIMARY KEY", f"dek {definition}", "note INT NOT NULL DEFAULT 0"]
    if place == "first":
        columns[:2] = columns[1::-1]
    with mariadb_database.engine.begin() as connection:
        statement = f"CREATE TABLE encrypted_files ({', '.join(columns)})".replace("%", "%%")
        connection.exec_driver_sql(statement)
    dekctl.configure(
        '[table]\nplaintext_column = "dek"\n'
        f'[env.test]\ndatabase_url = "{mariadb_database.url}"\nprovider = "env"\n'
    )
    before = described(mariadb_database)
    dekctl("schema", "expand").expect(0)
    mariadb_database.sql("INSERT INTO encrypted_files (id, dek) VALUES (1, NULL)")
    mariadb_database.sql("DELETE FROM encrypted_files")
    dekctl("rollback", "--yes").expect(0)
    assert described(mariadb_database) == before
    key = b"an ASCII text, in any column set"
    mariadb_database.sql("INSERT INTO encrypted_files (id, dek) VALUES (1, :key)", key=key)
    scrubbed(dekctl)
    dekctl("schema", "contract", "--yes").expect(0)
    dekctl("rollback", "--yes").expect(0)
    assert described(mariadb_database) == before
    assert mariadb_database.sql("SELECT CAST(dek AS BINARY) FROM encrypted_files") == [(key,)]


def test_contract_locks_the_sequences_that_defaults_use(
    mariadb_database: AppDatabase, dekctl: Dekctl
) -> None:
    database = mariadb_database
    for statement in (
        "CREATE SEQUENCE numbers",
        "CREATE SEQUENCE `other numbers`",
        "CREATE TABLE encrypted_files (id BIGINT DEFAULT NEXTVAL(numbers) PRIMARY KEY, "
        "note BIGINT DEFAULT (NEXTVAL(`other numbers`) + 1), encryption_key VARBINARY(64))",
    ):
        database.sql(statement)
    dekctl.configure(f'[env.test]\ndatabase_url = "{database.url}"\nprovider = "env"\n')
    dekctl("schema", "expand").expect(0)
    dekctl("schema", "contract", "--yes").expect(0)
    dekctl("rollback", "--yes").expect(0)


def described(database: AppDatabase) -> str:
    return str(database.sql("SHOW CREATE TABLE encrypted_files")[0][1])


def scrubbed(dekctl: Dekctl) -> None:
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)


@pytest.mark.parametrize("columns", ["encryption_key", "size, encryption_key"])
def test_contract_is_refused_while_an_index_uses_the_column(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any, columns: str
) -> None:
    app = make_app(app_database, rows=2)
    app_database.sql(f"CREATE INDEX by_key ON encrypted_files ({columns})")
    scrubbed(dekctl)
    refused = dekctl("schema", "contract", "--yes").expect(3).stderr
    hint = refused.rpartition("DROP INDEX")[2].strip()
    app_database.sql(f"DROP INDEX {hint}")
    dekctl("schema", "contract", "--yes").expect(0)
    assert app.counts()["wrapped_only"] == 2


# -- the guards of PostgreSQL ----------------------------------------------------------------------


def insert_the_old_way(database: AppDatabase, number: int) -> None:
    database.sql(
        "INSERT INTO encrypted_files (id, filename, encryption_key, ciphertext) "
        "VALUES (:id, 'f', :dek, :dek)",
        id=number,
        dek=DEK,
    )


def test_a_contract_that_fails_lets_the_application_write_again(
    postgres_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(postgres_database, rows=2)
    scrubbed(dekctl)
    postgres_database.sql(
        "CREATE FUNCTION keep_columns() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF EXISTS (SELECT FROM pg_event_trigger_dropped_objects() "
        "WHERE object_type = 'table column') THEN RAISE EXCEPTION 'no'; END IF; END $$"
    )
    postgres_database.sql(
        "CREATE EVENT TRIGGER keep_columns ON sql_drop EXECUTE FUNCTION keep_columns()"
    )
    dekctl("schema", "contract", "--yes").expect(6)
    insert_the_old_way(postgres_database, 10)
    assert dekctl.json("status")["constraints"] == []


def test_doctor_and_status_report_a_guard_that_is_left(
    postgres_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(postgres_database, rows=2)
    scrubbed(dekctl)
    postgres_database.sql(
        "ALTER TABLE encrypted_files ADD CONSTRAINT dekctl_contract_guard "
        "CHECK (encryption_key IS NULL)"
    )
    assert dekctl.json("status")["constraints"] == ["dekctl_contract_guard"]
    assert "dekctl_contract_guard" in dekctl("status").expect(0).stdout
    checked = dekctl("doctor")
    assert checked.exit_code != 0
    assert "dekctl_contract_guard" in checked.stdout + checked.stderr
    dekctl("schema", "contract", "--yes").expect(0)
    dekctl("doctor").expect(0)


def test_a_rollback_looks_at_the_rows_before_it_locks_the_table(
    postgres_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(postgres_database, rows=3)
    dekctl("migrate").expect(0)
    seen: list[str] = []

    def look(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", look)
    try:
        dekctl("schema", "rollback", "--yes").expect(0)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", look)
    [locked] = [i for i, s in enumerate(seen) if "IN ACCESS EXCLUSIVE MODE" in s]
    assert any("VALIDATE CONSTRAINT" in s for s in seen[:locked])
    assert not [s for s in seen[locked:] if s.startswith("SELECT 1 FROM encrypted_files")]
    left = "SELECT conname FROM pg_constraint WHERE conname LIKE 'dekctl_%_guard'"
    assert postgres_database.sql(left) == []
    assert {r["encryption_key"] for r in app.rows().values()} == set(app.deks.values())
