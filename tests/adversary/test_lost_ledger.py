"""The ledger is lost, at every stage: what it held is asked for, and nothing is a dead end."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from dekctl.kms import EnvKMS
from support.app import AppDatabase, Application
from support.cli import Dekctl

ROWS = 4
LEDGER = ("dekctl_tables", "dekctl_runs", "dekctl_quarantine")
VERSIONS = ("dekctl_ledger_version", "dekctl_version_encrypted_files")
EXISTING = {
    "sqlite": "BLOB NOT NULL",
    "postgresql": "bytea NOT NULL",
    "mariadb": "varbinary(32) NOT NULL",
}


def lose(database: AppDatabase, *tables: str) -> None:
    for table in tables:
        database.sql(f"DROP TABLE {table}")


def at_stage(make_app: Any, database: AppDatabase, dekctl: Dekctl, stage: str, form: str) -> Any:
    app = make_app(database, rows=ROWS, wrapping=form)
    if stage != "legacy":
        dekctl.json("migrate")
        dekctl.json("scrub", "--yes")
    if stage == "contracted":
        dekctl.json("schema", "contract", "--yes")
    return app


def shape(app: Application) -> dict[str, tuple[str, bool]]:
    """The table's columns now: their types, and whether they may be NULL."""
    found = sa.inspect(app.database.engine).get_columns("encrypted_files")
    return {c["name"]: (repr(c["type"]), c["nullable"]) for c in found}


@pytest.mark.parametrize("lost", [LEDGER, LEDGER + VERSIONS], ids=["ledger", "and revisions"])
@pytest.mark.parametrize("form", ["V2", "V3"])
@pytest.mark.parametrize("stage", ["legacy", "expanded", "contracted"])
def test_the_table_is_taken_over_and_goes_all_the_way_back(
    sqlite_database: AppDatabase,
    dekctl: Dekctl,
    make_app: Any,
    stage: str,
    form: str,
    lost: tuple[str, ...],
) -> None:
    taken_over(sqlite_database, dekctl, make_app, stage, form, lost)


@pytest.mark.parametrize("app_database", ["postgresql", "mariadb"], indirect=True)
@pytest.mark.parametrize(("stage", "form"), [("expanded", "V3"), ("contracted", "V2")])
def test_the_same_on_servers(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any, stage: str, form: str
) -> None:
    taken_over(app_database, dekctl, make_app, stage, form, LEDGER + VERSIONS)


def taken_over(
    database: AppDatabase,
    dekctl: Dekctl,
    make_app: Any,
    stage: str,
    form: str,
    lost: tuple[str, ...],
) -> None:
    legacy = make_app(database, rows=0)
    before = shape(legacy)
    database.sql("DROP TABLE encrypted_files")
    app = at_stage(make_app, database, dekctl, stage, form)
    dekctl.json("schema", "upgrade")
    existing = sa.inspect(database.engine).get_table_names()
    lose(database, *(table for table in lost if table in existing))
    definition = EXISTING[database.kind]
    if stage != "legacy":
        for command in ("verify", "rewrap", "rollback --yes"):
            assert "dekctl schema expand" in dekctl(*command.split()).expect(3).stderr
        refused = dekctl("schema", "expand").expect(3)
        assert "--adopt '" in refused.stderr
        assert "NOT NULL'" in refused.stderr
        dekctl("schema", "expand", "--adopt", definition).expect(0)
    else:
        dekctl("schema", "expand").expect(0)
        dekctl("migrate").expect(0)
    assert dekctl.json("verify")["verified"] == ROWS
    dekctl.use_env_kek()
    assert dekctl.json("rewrap")["changed"] == ROWS
    app.assert_files_open(EnvKMS(dekctl.environ))

    assert dekctl.json("rollback", "--yes")["stage"] == "legacy"
    assert shape(app) == before
    app.assert_files_open()


def test_an_adopted_table_may_have_columns_of_the_application(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = at_stage(make_app, sqlite_database, dekctl, "expanded", "V2")
    lose(sqlite_database, *LEDGER)
    dekctl("schema", "expand", "--adopt", "BLOB", "--keep-columns").expect(0)
    done = dekctl.json("rollback", "--yes")
    assert done["stage"] == "expanded"
    assert done["kept_columns"] == {
        "encrypted_files": ["wrapped_key", "wrapped_key_version", "kek_id"]
    }
    assert app.counts()["both"] == ROWS
    said = dekctl("rollback", "--yes").expect(0)
    assert "back at the legacy schema" not in said.stdout
    assert "wrapped_key" in said.stdout


@pytest.mark.parametrize(
    "definition", ["", "NOT NULL", "int", "BLOB, DROP COLUMN x", "BLOB NOT NULL; DROP TABLE t"]
)
def test_a_definition_that_is_none_is_wrong_usage(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, definition: str
) -> None:
    at_stage(make_app, sqlite_database, dekctl, "contracted", "V2")
    lose(sqlite_database, *LEDGER)
    assert "--adopt" in dekctl("schema", "expand", "--adopt", definition).expect(2).stderr


def test_a_table_that_the_ledger_knows_is_not_adopted(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    at_stage(make_app, sqlite_database, dekctl, "expanded", "V2")
    refused = dekctl("schema", "expand", "--adopt", "BLOB NOT NULL").expect(3)
    assert "the ledger has an entry for encrypted_files" in refused.stderr


def test_a_wrong_name_of_the_plaintext_column_is_not_adopted_as_contracted(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    at_stage(make_app, sqlite_database, dekctl, "expanded", "V2")
    lose(sqlite_database, *LEDGER)
    dekctl.configure(
        f'[table]\nplaintext_column = "other"\n[env.test]\n'
        f'database_url = "{sqlite_database.url}"\nprovider = "env"\n'
    )
    refused = dekctl("schema", "expand", "--adopt", "BLOB NOT NULL").expect(3)
    assert "correct plaintext_column" in refused.stderr
