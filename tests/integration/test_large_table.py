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


def test_each_rotated_kek_takes_one_more_pass_of_doctor_where_rows_record_their_time(
    fill: Callable[..., Application],
    app_database: AppDatabase,
    dekctl: Dekctl,
    generations: Generations,
) -> None:
    fill(dekctl, wrapped_at_column="wrapped_at")
    generations.standin.kms().rotate_key_on_demand(KeyId=generations.active)
    with passes_over(app_database, ROWS) as passes:
        done = dekctl("doctor").expect(0)
    assert f"{ROWS:,} rows wrapped before that" in done.stdout
    assert passes() == 2


ODD_GROUPS = {
    "one value": "'arn'",
    "the sample sees all": "concat('arn', i % 3)",
    "the sample misses some": "CASE WHEN i BETWEEN 400 AND 900 THEN concat('arn', i % 2) END",
    "more than are compared one by one": "concat('arn', i % 40)",
    "spelled in two ways": "CASE WHEN i % 2 = 0 THEN 'arn' ELSE 'ARN' END",
    "spaces at the end": "CASE WHEN i % 2 = 0 THEN 'arn' ELSE 'arn ' END",
    "NULL and empty": "CASE WHEN i % 2 = 0 THEN '' END",
}
OF_ANY_TYPE = {
    "text and bytes": "iif(i % 2, 'arn', CAST('arn' AS BLOB))",
    "not UTF-8": "iif(i % 3, 'arn', CAST(x'ff' AS TEXT))",
    "NULL, number and text": "iif(i % 4, iif(i % 3, NULL, 5), '5')",
}
"""SQLite stores anything in any column."""


@pytest.mark.parametrize("kek", ODD_GROUPS.values(), ids=ODD_GROUPS)
@pytest.mark.parametrize("key", ["INTEGER", "VARCHAR(20)"])
@pytest.mark.parametrize("database", ["sqlite", "mariadb"])
def test_the_groups_are_those_that_sorting_would_find(
    database: str, kek: str, key: str, request: pytest.FixtureRequest
) -> None:
    if database == "sqlite":
        kek = kek.replace("concat('arn', ", "'arn' || (")
    _compare(request.getfixturevalue(f"{database}_database"), kek, key)


@pytest.mark.parametrize("kek", OF_ANY_TYPE.values(), ids=OF_ANY_TYPE)
def test_the_groups_of_values_of_any_type_are_found(sqlite_database: AppDatabase, kek: str) -> None:
    _compare(sqlite_database, kek, "INTEGER")


def _compare(database: AppDatabase, kek: str, key: str) -> None:
    binary = "BLOB" if database.kind == "sqlite" else "BINARY"
    ignoring_case = "TEXT COLLATE NOCASE" if database.kind == "sqlite" else "VARCHAR(50)"
    database.sql(
        f"CREATE TABLE encrypted_files (id {key} PRIMARY KEY, encryption_key BLOB, "
        "wrapped_key BLOB, wrapped_key_version VARCHAR(10), wrapped_at VARCHAR(50), "
        f"kek_id {ignoring_case})"
    )
    some = "CASE WHEN i % 5 = 0 THEN x'00' END"
    query = NUMBERS[database.kind].format(
        columns=f"i, {some}, x'03', 'V2', i % 100, {kek}", rows=ROWS
    )
    database.sql(f"INSERT INTO encrypted_files {query}")
    expected = database.sql(
        f"SELECT CAST(kek_id AS {binary}), kek_id IS NULL, encryption_key IS NULL, count(*), "
        "min(wrapped_at), max(wrapped_at) FROM encrypted_files GROUP BY 1, 2, 3"
        + (", typeof(kek_id)" if database.kind == "sqlite" else "")
    )
    by = {"kek": "kek_id", "none": "kek_id IS NULL", "no_plaintext": "encryption_key IS NULL"}
    url = sa.engine.make_url(database.url)
    with open_database(url, Timeouts(5, 30)) as opened:
        table = DekTable(opened, TableConfig())
        with opened.transaction(patient=True) as connection:
            found = opened.dialect.count_groups(connection, table, by, "wrapped_at")
    assert sorted(((_bytes(kek), *more) for kek, *more in found), key=repr) == sorted(
        ((_bytes(kek), *more) for kek, *more in expected), key=repr
    )


def _bytes(value: object) -> bytes | None:
    """A value as SQLite casts it to a BLOB."""
    if value is None or isinstance(value, bytes):
        return value if value is None else bytes(value)
    return str(value).encode()
