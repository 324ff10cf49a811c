"""The ledger's lineage: ledgers of the past are used and upgraded in place, newer ones refused."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection

from dekctl.branch_keys.table import branch_keys_table
from dekctl.db.lineage import Lineage
from dekctl.ledger import tables
from dekctl.ledger.upgrade import VERSION_TABLE, LedgerPlan
from support.app import AppDatabase
from support.cli import Dekctl
from support.old_ledgers import TABLES, dek, load, revisions


def stages(dekctl: Dekctl) -> dict[str, str]:
    return {t["table"]: t["stage"] for t in dekctl.json("schema", "current")["tables"]}


def assert_deks(database: AppDatabase, *names: str) -> None:
    """Compare the plaintexts of these tables with the keys that went in."""
    for name in names:
        rows = database.sql(f"SELECT id, encryption_key FROM {name}")
        assert {row[0]: bytes(row[1]) for row in rows} == {i: dek(name, i) for i in (1, 2, 3)}, name


# -- a ledger of before the two lineages -----------------------------------------------------------


def test_a_ledger_of_the_single_lineage_is_used_as_it_is(
    app_database: AppDatabase, dekctl: Dekctl
) -> None:
    load(app_database, dekctl)
    before = revisions(app_database)
    assert stages(dekctl) == TABLES
    assert {t["table"]: t["revision"] for t in dekctl.json("schema", "current")["tables"]} == {
        "legacy": "base",
        "expanded": "table_0001",
        "contracted": "table_0002",
        "branched": "table_0001",
    }
    assert {t["table"]: t["stage"] for t in dekctl.json("status")["tables"]} == TABLES
    assert dekctl.json("verify", "--table", "contracted")["verified"] == 3
    assert dekctl.json("verify", "--table", "branched")["verified"] == 3
    assert dekctl.json("scrub", "--yes", "--table", "expanded")["changed"] == 2
    assert not dekctl.json("schema", "rollback", "--yes", "--table", "legacy")["changed"]
    assert revisions(app_database) == before, "no schema step has run"


def test_each_table_of_the_single_lineage_goes_on_to_every_other_stage(
    app_database: AppDatabase, dekctl: Dekctl
) -> None:
    load(app_database, dekctl)
    dekctl("schema", "expand", "--table", "legacy").expect(0)
    dekctl("schema", "rollback", "--yes", "--table", "contracted").expect(0)
    assert dekctl.json("restore", "--yes")["changed"] == 4
    dekctl("schema", "rollback", "--yes", "--table", "branched").expect(0)
    assert_deks(app_database, *TABLES)
    assert dekctl.json("wrap", "--table", "legacy")["changed"] == 3
    assert dekctl.json("scrub", "--yes", "--table", "expanded")["changed"] == 3
    dekctl("schema", "contract", "--yes", "--table", "expanded").expect(0)
    assert stages(dekctl) == {
        "legacy": "expanded",
        "expanded": "contracted",
        "contracted": "expanded",
        "branched": "legacy",
    }
    assert revisions(app_database) == {
        "dekctl_version_legacy": "table_0001",
        "dekctl_version_expanded": "table_0002",
        "dekctl_version_contracted": "table_0001",
        "dekctl_version_branched": None,
    }


def test_scripts_for_tables_of_the_single_lineage_run_elsewhere(
    app_database: AppDatabase, dekctl: Dekctl
) -> None:
    load(app_database, dekctl)
    for command, table in (("expand", "legacy"), ("rollback", "contracted"), ("expand", "legacy")):
        script = dekctl.json("schema", command, "--table", table, "--sql")["sql"]
        app_database.script(script)
    dekctl("restore", "--yes").expect(0)
    app_database.script(dekctl.json("schema", "rollback", "--table", "branched", "--sql")["sql"])
    app_database.script(dekctl.json("schema", "expand", "--table", "branched", "--sql")["sql"])
    assert_deks(app_database, *TABLES)
    found = revisions(app_database)
    assert {found[f"dekctl_version_{table}"] for table in TABLES} == {"table_0001"} | {"0002"}
    assert found["dekctl_version_expanded"] == "0002", "nobody has touched it"
    dekctl("wrap").expect(0)
    dekctl("verify").expect(0)


# -- the tables that the lineage makes -------------------------------------------------------------


def ledger_metadata() -> sa.MetaData:
    metadata = sa.MetaData()
    for table in (*tables(None).values(), branch_keys_table(None)):
        table.to_metadata(metadata)
    return metadata


def differences(connection: Connection) -> list[Any]:
    """What Alembic finds between the database's tables and those that the code works with."""
    metadata = ledger_metadata()

    def ours(name: str | None, kind: str, _: Any) -> bool:
        return kind != "table" or name in metadata.tables

    context = MigrationContext.configure(
        connection, opts={"compare_type": True, "include_name": ours}
    )
    return list(compare_metadata(context, metadata))


LEDGER = Lineage("ledger", VERSION_TABLE, None)


@pytest.mark.parametrize("released", [*LEDGER.revisions()])
def test_an_upgrade_from_each_revision_ends_at_the_tables_of_the_code(
    app_database: AppDatabase, released: str
) -> None:
    with app_database.engine.begin() as connection:
        LEDGER.run(connection, "upgrade", released, LedgerPlan(None, {}))
        LEDGER.run(connection, "upgrade", "head", LedgerPlan(None, {}))
        assert differences(connection) == []
        assert LEDGER.current(connection) == LEDGER.revisions()[-1]


def test_the_comparison_notices_a_column_a_type_and_nullability(
    app_database: AppDatabase,
) -> None:
    quarantine = ledger_metadata().tables["dekctl_quarantine"]
    changed = sa.Table(
        quarantine.name,
        sa.MetaData(),
        *(c._copy() for c in quarantine.c if c.name not in {"since", "reason", "run_id"}),
        sa.Column("run_id", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text, nullable=True),
    )
    with app_database.engine.begin() as connection:
        LEDGER.run(connection, "upgrade", "head", LedgerPlan(None, {}))
        connection.exec_driver_sql("DROP TABLE dekctl_quarantine")
        changed.create(connection)
        text = repr(differences(connection))
    assert all(word in text for word in ("add_column", "modify_type", "modify_nullable"))


def test_the_tables_of_the_single_lineage_are_those_of_the_first_revision(
    app_database: AppDatabase, dekctl: Dekctl
) -> None:
    load(app_database, dekctl)
    dekctl("schema", "upgrade").expect(0)
    with app_database.engine.begin() as connection:
        assert differences(connection) == []


# -- a newer ledger --------------------------------------------------------------------------------


def test_a_ledger_of_a_newer_dekctl_is_refused_with_both_versions(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(app_database, rows=2)
    dekctl("migrate").expect(0)
    newest = LEDGER.revisions()[-1]
    app_database.sql(f"UPDATE {VERSION_TABLE} SET version_num = 'ledger_9999'")
    app_database.sql("UPDATE dekctl_runs SET dekctl_version = '9.8.7'")
    for command in (
        ["status"],
        ["wrap"],
        ["verify"],
        ["scrub", "--yes"],
        ["schema", "expand"],
        ["schema", "upgrade"],
        ["schema", "upgrade", "--sql"],
    ):
        refused = dekctl(*command).expect(3).stderr
        assert "ledger_9999" in refused, command
        assert newest in refused
        assert "9.8.7" in refused
    app_database.sql(f"UPDATE {VERSION_TABLE} SET version_num = '{newest}'")
    dekctl("verify").expect(0)


def test_a_ledger_that_was_thrown_away_is_made_again_and_the_branch_keys_stay(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(app_database, rows=3, wrapping="V3")
    dekctl("migrate").expect(0)
    for table in ("dekctl_tables", "dekctl_runs", "dekctl_quarantine"):
        app_database.sql(f"DROP TABLE {table}")
    script = dekctl.json("schema", "upgrade", "--sql")["sql"]
    assert script.count("CREATE TABLE") == 5
    assert dekctl.json("schema", "upgrade")["changed"]
    assert not dekctl.json("schema", "upgrade")["changed"]
    kind = {"sqlite": "BLOB", "postgresql": "bytea", "mariadb": "varbinary(32)"}[app_database.kind]
    dekctl("schema", "expand", "--adopt", f"{kind} NOT NULL").expect(0)
    assert dekctl.json("verify")["verified"] == 3
