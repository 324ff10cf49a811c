"""What the server says is passed on: its own sentence for DDL, names and codes where rows are."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from dekctl.db.connect import open_database
from dekctl.db.dialect import Timeouts
from dekctl.errors import DatabaseError, RowRefusedError
from support.app import AppDatabase

CANARY = "canary0123456789"
"""A value of a row; no error may show it."""
TABLE = "CREATE TABLE files (id INT PRIMARY KEY, k {} NOT NULL, n INT)"
ROWS = f"INSERT INTO files VALUES (1, '{CANARY}', NULL), (2, '{CANARY}', 7)"
POSTGRESQL = {
    "ALTER TABLE files ADD COLUMN k TEXT": 'column "k" of relation "files"',
    "ALTER TABLE filed ADD COLUMN z TEXT": 'relation "filed" does not exist',
    "ALTER TABLE files ALTER COLUMN n SET NOT NULL": '"files" contains null values',
    "ALTER TABLE files ADD CONSTRAINT odd CHECK (n > 9)": 'check constraint "odd"',
    "CREATE UNIQUE INDEX once ON files (k)": 'create unique index "once"',
    "ALTER TABLE files ALTER COLUMN k TYPE INT USING k::int": "SQLSTATE 22P02",
    "ALTER TABLE files ADD CONSTRAINT seen CHECK (loud(k))": "the function loud raised an error",
    "ALTER TABLE files DROP COLUMN n": "other objects depend on it",
}
MARIADB = {
    "ALTER TABLE files ADD COLUMN k BLOB": "Duplicate column name 'k'",
    "ALTER TABLE filed ADD COLUMN z INT": ".filed' doesn't exist",
    "ALTER TABLE files MODIFY n INT NOT NULL": "column 'n'",
    "ALTER TABLE files ADD CONSTRAINT odd CHECK (n > 9)": "`odd`",
    "CREATE UNIQUE INDEX once ON files (k)": "error 1062 on once",
    "ALTER TABLE files MODIFY k INT": "error 1",
    "CREATE TABLE longs (w VARCHAR(2000) CHARACTER SET utf8mb4 PRIMARY KEY)": "key was too long",
    "ALTER TABLE files ADD COLUMN v VARBINARY(65530)": "Row size too large. The maximum row size",
}


def refused(url: sa.URL, statement: str) -> DatabaseError:
    """How dekctl tells that the server refuses a statement."""
    with open_database(url, Timeouts(lock=1, statement=5)) as opened:
        with pytest.raises(DatabaseError) as told:
            opened.run(lambda c: c.exec_driver_sql(statement), write=True)
        assert CANARY not in f"{told.value.message} {told.value.hint}"
        return told.value


@pytest.fixture
def files(server_database: AppDatabase) -> AppDatabase:
    """A database with the canary in a table, a view and a function of it."""
    database = server_database
    database.sql(TABLE.format("VARCHAR(40)"))
    database.sql(ROWS)
    if database.kind == "mariadb":
        return database
    database.sql("CREATE VIEW numbers AS SELECT n FROM files")
    database.sql(
        "CREATE FUNCTION loud(k text) RETURNS boolean LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'bad %', k; END $$"
    )
    return database


def test_ddl_is_refused_in_the_servers_own_words(files: AppDatabase) -> None:
    statements = POSTGRESQL if files.kind == "postgresql" else MARIADB
    for statement, said in statements.items():
        error = refused(files.engine.url, statement)
        assert said in error.message, statement
        assert f"the statement was: {statement[:30]}" in error.message
        assert error.hint == "mend what the server names, then run the same command again"


def test_a_missing_right_is_named(files: AppDatabase) -> None:
    url = files.engine.url.set(username="clerk", password="clerk")
    if files.kind == "postgresql":
        files.sql("CREATE ROLE clerk LOGIN PASSWORD 'clerk'")
    else:
        files.sql("CREATE USER clerk@'127.0.0.1' IDENTIFIED BY 'clerk'")
        files.sql(f"GRANT SELECT ON {url.database}.* TO clerk@'127.0.0.1'")
    try:
        error = refused(url, "ALTER TABLE files ADD COLUMN z INT")
    finally:
        files.sql(
            "DROP ROLE clerk" if files.kind == "postgresql" else "DROP USER clerk@'127.0.0.1'"
        )
    said = "must be owner of table files" if files.kind == "postgresql" else "ALTER command denied"
    assert said in error.message


def test_a_statement_with_rows_shows_names_and_no_value(files: AppDatabase) -> None:
    files.sql("ALTER TABLE files ADD CONSTRAINT small CHECK (n < 9)")
    error = refused(files.engine.url, f"UPDATE files SET n = 12 WHERE k = '{CANARY}'")
    said = {"postgresql": "SQLSTATE 23514 on small of files", "mariadb": "error 4025 on small"}
    assert isinstance(error, RowRefusedError)
    assert f"refused to change rows: {said[files.kind]}" in error.message
    assert "UPDATE" not in error.message


def test_the_canary_is_really_in_what_the_server_says(postgres_database: AppDatabase) -> None:
    postgres_database.sql(TABLE.format("TEXT"))
    postgres_database.sql(ROWS)
    with pytest.raises(SQLAlchemyError, match=CANARY):
        postgres_database.sql("ALTER TABLE files ALTER COLUMN k TYPE INT USING k::int")
