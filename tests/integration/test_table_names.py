"""Names of tables, schemas and columns work whatever they are, or are refused when configured."""

from __future__ import annotations

from typing import Any

import pytest

from support.app import AppDatabase
from support.cli import Dekctl
from support.key_shapes import configure


def test_a_schema_qualified_table_works(
    postgres_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(postgres_database, rows=4, name="Vault Files.encrypted_files")
    for command in (["migrate"], ["scrub", "--yes"], ["schema", "contract", "--yes"], ["verify"]):
        dekctl(*command).expect(0)
    assert app.counts()["wrapped_only"] == 4
    [(schema,)] = postgres_database.sql(
        "SELECT table_schema FROM information_schema.tables WHERE table_name = 'dekctl_runs'"
    )
    assert schema == "Vault Files"
    dekctl("rollback", "--yes").expect(0)


def test_a_table_in_another_database_of_mariadb_works(
    mariadb_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(mariadb_database, rows=4, name="other_place.encrypted_files")
    try:
        for command in (["migrate"], ["scrub", "--yes"], ["schema", "contract", "--yes"]):
            dekctl(*command).expect(0)
        assert app.counts()["wrapped_only"] == 4
        dekctl("rollback", "--yes").expect(0)
    finally:
        mariadb_database.sql("DROP DATABASE other_place")


def test_an_unknown_schema_is_named(sqlite_database: AppDatabase, dekctl: Dekctl) -> None:
    configure(dekctl, sqlite_database, name="nowhere.encrypted_files")
    sqlite_database.sql("CREATE TABLE t (id INTEGER)")
    assert "nowhere" in dekctl("status").expect(2).stderr


ODD_NAMES = {
    "name": "Order-Files ü",
    "primary_key": ("Select",),
    "plaintext_column": "enc key'\"",
    "wrapped_column": "WrappedKey",
    "version_column": "from",
    "kek_column": "kek-id (ü)",
}


def test_names_with_spaces_quotes_upper_case_and_reserved_words_work(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=4, **ODD_NAMES)
    for command in (
        ["migrate", "--batch-size", "1"],
        ["scrub", "--yes"],
        ["schema", "contract", "--yes"],
        ["verify", "--shard", "1/2"],
        ["rewrap"],
    ):
        dekctl(*command).expect(0)
    assert app.counts()["wrapped_only"] == 4
    dekctl("rollback", "--yes").expect(0)
    assert {r["enc key'\""] for r in app.rows().values()} == set(app.deks.values())


@pytest.mark.parametrize("name", ["enc:key", "100%", "a\\b", "a`b", "a\x01b"])
@pytest.mark.parametrize("key", ["plaintext_column", "primary_key", "name"])
def test_names_that_no_driver_takes_safely_are_refused_when_configured(
    sqlite_database: AppDatabase, dekctl: Dekctl, key: str, name: str
) -> None:
    configure(dekctl, sqlite_database, **{key: [name] if key == "primary_key" else name})
    result = dekctl("status").expect(2)
    assert key in result.stderr
    assert "hint: " in result.stderr
