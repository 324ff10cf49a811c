"""The columns of a managed table are those that expand noted, whatever ``[table]`` says later."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dekctl.kms import EnvKMS
from support.app import AppDatabase, Application
from support.cli import Dekctl

COMMANDS = (
    ["status"],
    ["wrap"],
    ["verify"],
    ["scrub", "--yes"],
    ["restore", "--yes"],
    ["rewrap"],
    ["migrate"],
    ["rollback", "--yes"],
    ["schema", "expand"],
    ["schema", "contract", "--yes"],
    ["schema", "rollback", "--yes"],
    ["schema", "rollback", "--sql"],
)


def nullable_app(database: AppDatabase, dekctl: Dekctl, rows: int) -> Application:
    """A table whose plaintext column takes NULL already: a rollback has nothing to forbid there."""
    app = Application(database)
    app.table.c.encryption_key.nullable = True
    app.create(rows)
    dekctl.applications.append(app)
    name(dekctl, database)
    return app


def name(dekctl: Dekctl, database: AppDatabase, **columns: str) -> None:
    """Write ``dekctl.toml`` with these columns in ``[table]``."""
    lines = "".join(f'{role} = "{column}"\n' for role, column in columns.items())
    dekctl.configure(
        f'[table]\n{lines}[env.test]\ndatabase_url = "{database.url}"\nprovider = "env"\n'
    )


def forget_names(database: AppDatabase) -> None:
    """Leave in the ledger what a dekctl noted that did not note the columns' names."""
    [(text,)] = database.sql("SELECT facts FROM dekctl_tables")
    facts = json.loads(text)
    del facts["columns"]
    database.sql("UPDATE dekctl_tables SET facts = :facts", facts=json.dumps(facts))


@pytest.mark.parametrize("noted", [True, False], ids=["names noted", "an older ledger"])
@pytest.mark.parametrize(
    ("role", "real"),
    [
        ("wrapped_column", "wrapped_key"),
        ("version_column", "wrapped_key_version"),
        ("kek_column", "kek_id"),
    ],
)
def test_another_column_name_than_the_one_expanded_is_refused_before_a_key_is_lost(
    sqlite_database: AppDatabase, dekctl: Dekctl, role: str, real: str, noted: bool
) -> None:
    app = nullable_app(sqlite_database, dekctl, 3)
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    if not noted:
        forget_names(sqlite_database)
    before = app.rows()
    name(dekctl, sqlite_database, **{role: "wrapped_kye"})

    for command in (*COMMANDS, ["retire", EnvKMS(dekctl.environ).kek_id]):
        refused = dekctl(*command).expect(3)
        assert "wrapped_kye" in refused.stderr or not noted
        assert real in refused.stderr
        assert f'hint: restore it in [table]: {role} = "{real}"' in refused.stderr or not noted
    doctor = dekctl("--json", "doctor").expect(3).json
    assert [c["ok"] for c in doctor["checks"] if c["check"].startswith("table")] == [False]
    assert app.rows() == before

    name(dekctl, sqlite_database)
    app.assert_files_open(EnvKMS(dekctl.environ))
    dekctl("rollback", "--yes").expect(0)


@pytest.mark.parametrize("noted", [True, False], ids=["names noted", "an older ledger"])
def test_another_plaintext_column_does_not_count_as_contracted(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any, noted: bool
) -> None:
    app = make_app(app_database, rows=3)
    dekctl("migrate").expect(0)
    if not noted:
        forget_names(app_database)
    before = app.rows()
    name(dekctl, app_database, plaintext_column="encryption_kye")

    for command in (["contract", "--yes"], ["rollback", "--yes"], ["contract", "--sql"]):
        refused = dekctl("schema", *command).expect(3)
        assert "plaintext_column" in refused.stderr
        assert "encryption_kye" in refused.stderr
    dekctl("rollback", "--yes").expect(3)
    dekctl("doctor").expect(3)
    assert app.rows() == before


def test_a_table_without_notes_does_not_count_as_contracted(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=2)
    dekctl("migrate").expect(0)
    sqlite_database.sql("DELETE FROM dekctl_tables")
    name(dekctl, sqlite_database, plaintext_column="encryption_kye")
    refused = dekctl("schema", "contract", "--yes").expect(3)
    assert "the ledger has no entry for it" in refused.stderr


def test_a_contracted_table_refuses_another_column_name_too(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(sqlite_database, rows=2)
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    dekctl("schema", "contract", "--yes").expect(0)
    before = app.rows()
    name(dekctl, sqlite_database, plaintext_column="raw_key")
    assert 'plaintext_column = "encryption_key"' in dekctl("rollback", "--yes").expect(3).stderr
    name(dekctl, sqlite_database, wrapped_column="raw_key")
    assert 'wrapped_column = "wrapped_key"' in dekctl("status").expect(3).stderr
    assert app.rows() == before


def test_a_column_that_the_table_no_longer_names_is_not_dropped(
    sqlite_database: AppDatabase, dekctl: Dekctl
) -> None:
    app = nullable_app(sqlite_database, dekctl, 2)
    name(dekctl, sqlite_database, wrapped_at_column="since")
    dekctl("migrate").expect(0)
    name(dekctl, sqlite_database)

    refused = dekctl("schema", "rollback", "--yes").expect(3)

    assert "encrypted_files.since" in refused.stderr
    assert 'wrapped_at_column = "since"' in refused.stderr
    assert app.counts()["both"] == 2
    name(dekctl, sqlite_database, wrapped_at_column="since")
    dekctl("schema", "rollback", "--yes").expect(0)
    assert "since" not in app.now().c


def test_what_the_ledger_notes_are_the_columns_by_their_part(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=1, wrapped_column="blob", wrapped_at_column="since")
    dekctl("migrate").expect(0)
    [(text,)] = sqlite_database.sql("SELECT facts FROM dekctl_tables")
    assert json.loads(text)["columns"] == {
        "plaintext_column": "encryption_key",
        "wrapped_column": "blob",
        "version_column": "wrapped_key_version",
        "kek_column": "kek_id",
        "wrapped_at_column": "since",
    }


def test_doctor_ends_as_the_other_commands_do_where_the_ledger_is_missing(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=1)
    for column in ("wrapped_key", "wrapped_key_version", "kek_id"):
        sqlite_database.sql(f"ALTER TABLE encrypted_files ADD COLUMN {column} BLOB")
    dekctl("wrap").expect(3)
    assert "dekctl schema expand" in dekctl("doctor").expect(3).stdout
