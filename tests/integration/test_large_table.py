"""Commands that ask something of all rows read the table once, whatever they ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from dekctl.config import TableConfig
from dekctl.db.connect import open_database
from dekctl.db.dialect import Timeouts
from dekctl.db.table import DekTable
from support.app import AppDatabase, Application
from support.cli import Dekctl
from support.generations import Generations
from support.passes import passes_over

ROWS = 20_000
NUMBERS = {
    "sqlite": "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < {rows}) "
    "SELECT {columns} FROM s",
    "postgresql": "SELECT {columns} FROM generate_series(1, {rows}) AS s(i)",
    "mariadb": "SELECT {columns} FROM (SELECT seq AS i FROM seq_1_to_{rows}) AS s",
}
"""A query over the numbers from 1."""
BYTES = {"sqlite": "x'0311'", "postgresql": "'\\x0311'::bytea", "mariadb": "x'0311'"}


@pytest.fixture
def fill(
    app_database: AppDatabase, make_app: Callable[..., Application], generations: Generations
) -> Callable[..., Application]:
    """Make an expanded table of :data:`ROWS` wrapped rows under the active generation."""

    def made(dekctl: Dekctl, version: str = "V2", **table: Any) -> Application:
        app = make_app(app_database, env=generations.env, **table)
        dekctl.json("schema", "expand")
        blob = BYTES[app_database.kind]
        key = "id" if table.get("key") != "composite" else "tenant, id"
        values = "i" if table.get("key") != "composite" else "'t', i"
        query = NUMBERS[app_database.kind].format(
            columns=f"{values}, 'f', {blob}, {blob}, '{version}', '{generations.active}'", rows=ROWS
        )
        app_database.sql(
            f"INSERT INTO encrypted_files ({key}, filename, ciphertext, wrapped_key, "
            f"wrapped_key_version, kek_id) {query}".replace(":", r"\:")
        )
        if app_database.kind == "postgresql":
            app_database.sql("ANALYZE encrypted_files")
        return app

    return made


COMMANDS = {"status": 0, "doctor": 0, "retire g1": 3}
"""The commands and how they end: g1 is in use."""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_table_is_read_once(
    command: str, fill: Callable[..., Application], app_database: AppDatabase, dekctl: Dekctl
) -> None:
    fill(dekctl, plaintext="refuse")
    with passes_over(app_database, ROWS) as passes:
        dekctl("--json", *command.split()).expect(COMMANDS[command])
    assert passes() == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_v3_rows_are_compared_with_the_branch_keys_in_one_more_pass(
    command: str, fill: Callable[..., Application], app_database: AppDatabase, dekctl: Dekctl
) -> None:
    fill(dekctl, version="V3")
    with passes_over(app_database, ROWS) as passes:
        done = dekctl("--json", *command.split())
    assert passes() == 2
    lost = f"{ROWS:,} rows (V3) without their branch key"
    assert lost in done.stdout or f'"rows_without_branch_key": {ROWS}' in done.stdout


def test_a_composite_key_of_texts_takes_one_more_pass_where_columns_have_no_type(
    fill: Callable[..., Application], app_database: AppDatabase, dekctl: Dekctl
) -> None:
    fill(dekctl, key="composite", primary_key=("tenant", "id"))
    with passes_over(app_database, ROWS) as passes:
        dekctl("doctor").expect(0)
    assert passes() == (2 if app_database.kind == "sqlite" else 1)


ODD_GROUPS = {
    "one value": "'arn'",
    "the sample sees all": "'arn' || (i % 3)",
    "the sample misses some": "iif(i BETWEEN 400 AND 900, 'arn' || (i % 2), 'arn')",
    "more than are compared one by one": "'arn' || (i % 40)",
    "spelled in two ways": "iif(i % 2, 'arn', 'ARN')",
    "text and bytes": "iif(i % 2, 'arn', CAST('arn' AS BLOB))",
    "not UTF-8": "iif(i % 3, 'arn', CAST(x'ff' AS TEXT))",
    "NULL, number and text": "iif(i % 4, iif(i % 3, NULL, 5), '5')",
}


@pytest.mark.parametrize("kek", ODD_GROUPS.values(), ids=ODD_GROUPS)
@pytest.mark.parametrize("key", ["INTEGER PRIMARY KEY", "TEXT PRIMARY KEY"])
def test_sqlite_counts_the_groups_that_sorting_would_find(
    sqlite_database: AppDatabase, kek: str, key: str
) -> None:
    sqlite_database.sql(
        f"CREATE TABLE encrypted_files (id {key}, encryption_key BLOB, wrapped_key BLOB, "
        "wrapped_key_version TEXT, kek_id TEXT COLLATE NOCASE, wrapped_at TEXT)"
    )
    query = NUMBERS["sqlite"].format(
        columns=f"i, iif(i % 5, x'00', NULL), x'03', 'V2', {kek}, 'time ' || (i % 100)", rows=ROWS
    )
    sqlite_database.sql(f"INSERT INTO encrypted_files {query}")
    by = {
        "kek": "kek_id",
        "version": "wrapped_key_version",
        "no_plaintext": "encryption_key IS NULL",
    }
    sort = "SELECT CAST(kek_id AS BLOB), typeof(kek_id), encryption_key IS NULL, count(*), "
    sort += "min(wrapped_at), max(wrapped_at) FROM encrypted_files GROUP BY 1, 2, 3"
    url = sa.engine.make_url(sqlite_database.url)
    with open_database(url, Timeouts(5, 30)) as database:
        table = DekTable(database, TableConfig())
        with database.transaction() as connection:
            found = database.dialect.count_groups(connection, table, by, "wrapped_at")
            expected = connection.exec_driver_sql(sort).all()
    counted = [(_bytes(kek), *numbers) for kek, _, *numbers in found]
    assert sorted(counted, key=repr) == sorted(
        ((None if kind == "null" else kek, *numbers) for kek, kind, *numbers in expected), key=repr
    )


def _bytes(value: object) -> bytes | None:
    """A value as SQLite casts it to a BLOB."""
    if value is None or isinstance(value, bytes):
        return None if value is None else bytes(value)
    return str(value).encode()
