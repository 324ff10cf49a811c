"""What the hints about odd tables print runs as printed, and helps."""

from __future__ import annotations

import re

import pytest
import sqlalchemy as sa

from dekctl.config import TableConfig
from dekctl.db.connect import open_database
from dekctl.db.dialect import Timeouts
from dekctl.db.table import DekTable
from dekctl.schema.inspection import inspect
from support.app import AppDatabase
from support.cli import Dekctl
from support.pages import told

PG = "CREATE TABLE encrypted_files (id INT PRIMARY KEY, encryption_key BYTEA NOT NULL{})"
MARIADB = (
    "CREATE TABLE encrypted_files (id INT PRIMARY KEY, encryption_key VARBINARY(64) NOT NULL{})"
)
SQLITE = "CREATE TABLE encrypted_files (id INTEGER PRIMARY KEY, encryption_key BLOB NOT NULL{})"
MENDED = {
    "an index": (
        "postgresql",
        PG.format(""),
        'CREATE INDEX "By Key" ON encrypted_files (encryption_key)',
    ),
    "UNIQUE": (
        "postgresql",
        PG.format(', CONSTRAINT "One Key" UNIQUE (encryption_key)'),
    ),
    "EXCLUDE": (
        "postgresql",
        PG.format(", kek_id VARCHAR(255), CONSTRAINT once EXCLUDE (encryption_key WITH =)"),
    ),
    "UNIQUE on a KEK": ("postgresql", PG.format(", kek_id VARCHAR(255) UNIQUE")),
    "empty and NOT NULL": ("postgresql", PG.format(", wrapped_key BYTEA NOT NULL DEFAULT ''")),
    "a version that is NOT NULL": (
        "postgresql",
        PG.format(", wrapped_key_version VARCHAR(10) NOT NULL DEFAULT ''"),
    ),
    "a view": (
        "postgresql",
        PG.format(""),
        'CREATE VIEW "Key Prints" AS SELECT sha256(encryption_key) FROM encrypted_files',
    ),
    "UNIQUE on MariaDB": (
        "mariadb",
        MARIADB.format(", CONSTRAINT `One Key` UNIQUE (encryption_key)"),
    ),
    "NOT NULL on MariaDB": (
        "mariadb",
        MARIADB.format(", wrapped_key VARBINARY(6144) NOT NULL DEFAULT ''"),
    ),
    "MyISAM": ("mariadb", MARIADB.format("") + " ENGINE=MyISAM"),
    "a history": ("mariadb", MARIADB.format("") + " WITH SYSTEM VERSIONING"),
    "REDUNDANT": ("mariadb", MARIADB.format("") + " ROW_FORMAT=REDUNDANT"),
    "a zero date": ("mariadb", MARIADB.format(", `at` DATE NOT NULL DEFAULT '0000-00-00'")),
    "latin1": (
        "mariadb",
        MARIADB.format(""),
        "CREATE TABLE dekctl_runs (run_id VARCHAR(36) PRIMARY KEY) CHARACTER SET latin1",
    ),
    "an index on SQLite": (
        "sqlite",
        SQLITE.format(""),
        'CREATE INDEX "By Key" ON encrypted_files (encryption_key)',
    ),
    "NOT NULL on SQLite": ("sqlite", SQLITE.format(", wrapped_key BLOB NOT NULL DEFAULT x''")),
}


@pytest.mark.parametrize("name", MENDED)
def test_the_statements_in_hints_run_as_printed_and_help(
    request: pytest.FixtureRequest, name: str
) -> None:
    kind, *made_by = MENDED[name]
    fixture = "postgres_database" if kind == "postgresql" else f"{kind}_database"
    database: AppDatabase = request.getfixturevalue(fixture)
    for statement in made_by:
        database.sql(statement)
    with open_database(database.engine.url, Timeouts(lock=3, statement=30)) as opened:
        found = [
            o for f, o in inspect(DekTable(opened, TableConfig())) if f.name != "copies of keys"
        ]
        assert found
        for oddity in found:
            sql = re.search(r"(?:ALTER|DROP|UPDATE) [^()]*(?:\(\d+\)[^()]*)?", oddity.next)
            assert sql
            for statement in sql[0].split("; "):
                if statement.split()[0] in ("ALTER", "DROP", "UPDATE"):
                    database.sql(statement)
        left = [
            o for f, o in inspect(DekTable(opened, TableConfig())) if f.name != "copies of keys"
        ]
        assert left == []


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_role_without_rights_is_refused_and_the_printed_statements_help(
    request: pytest.FixtureRequest, dekctl: Dekctl, kind: str
) -> None:
    name = "postgres_database" if kind == "postgresql" else "mariadb_database"
    database: AppDatabase = request.getfixturevalue(name)
    database.sql((PG if kind == "postgresql" else MARIADB).format(""))
    url = database.engine.url.set(username="Clerk", password="clerk")
    if kind == "postgresql":
        database.sql("CREATE ROLE \"Clerk\" LOGIN PASSWORD 'clerk'")
        database.sql(f"REVOKE TEMPORARY ON DATABASE {url.database} FROM PUBLIC")
        database.sql('GRANT SELECT ON encrypted_files TO "Clerk"')
    else:
        database.sql("CREATE USER Clerk@'127.0.0.1' IDENTIFIED BY 'clerk'")
        database.sql(f"GRANT SELECT ON {url.database}.* TO Clerk@'127.0.0.1'")
    shown = url.render_as_string(hide_password=False)
    dekctl.configure(f'[env.test]\ndatabase_url = "{shown}"\nprovider = "env"\n')
    try:
        lines = [line for line in told(dekctl("doctor").expect(0).stdout) if " Clerk" in line
                 or '"Clerk"' in line]  # fmt: skip
        assert len(lines) == (4 if kind == "postgresql" else 1)
        dekctl("wrap", "--dry-run").expect(0)
        dekctl("schema", "expand").expect(3)
        inspector = sa.inspect(database.engine)
        assert inspector.get_table_names() == ["encrypted_files"]
        for line in lines:
            hint = line.partition("hint: ")[2]
            if hint.startswith("GRANT "):
                database.sql(hint)
        if kind == "postgresql":
            assert "expand as sandbox" in "".join(lines)
            database.sql('ALTER TABLE encrypted_files OWNER TO "Clerk"')
        else:
            database.sql(f"GRANT TRIGGER ON {url.database}.* TO Clerk@'127.0.0.1'")
        assert "Clerk" not in "".join(told(dekctl("doctor").expect(0).stdout))
        dekctl("migrate").expect(0)
    finally:
        if kind == "postgresql":
            database.sql('DROP OWNED BY "Clerk" CASCADE')
        database.sql('DROP ROLE "Clerk"' if kind == "postgresql" else "DROP USER Clerk@'127.0.0.1'")
