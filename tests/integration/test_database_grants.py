"""docs/database-grants.md: its SQL runs, and the whole story runs with exactly those grants."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dekctl.kms import EnvKMS
from dekctl.reader import RowKeys
from support.app import AppDatabase, Application
from support.cli import Dekctl

PAGE = Path(__file__).parents[2] / "docs" / "database-grants.md"
HEADINGS = {"postgresql": "PostgreSQL", "mariadb": "MariaDB and MySQL"}
ROLES = ("owner", "operator", "app", "auditor")
ROWS = 6


def blocks(kind: str) -> tuple[str, str]:
    """The two SQL blocks of a database's section: before expand, and after it."""
    [section] = re.findall(
        rf"^## {HEADINGS[kind]}\n(.*?)^## ", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    before, after = re.findall(r"^```sql\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return before, after


def run(database: AppDatabase, block: str) -> None:
    name = str(database.engine.url.database)
    for statement in block.split(";\n"):
        if statement.strip():
            database.sql(re.sub(r"\bapp\.", f"{name}.", statement))


@pytest.fixture(params=["postgresql", "mariadb"])
def database(request: pytest.FixtureRequest) -> Iterator[AppDatabase]:
    """A database whose roles are gone afterwards."""
    fixture = {"postgresql": "postgres_database", "mariadb": "mariadb_database"}[request.param]
    database: AppDatabase = request.getfixturevalue(fixture)
    if database.kind == "postgresql":  # what an administrator may have set up long ago
        database.sql("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC")
    try:
        yield database
    finally:
        for role in ROLES:
            if database.kind == "postgresql":
                database.sql(f"REASSIGN OWNED BY files_{role} TO CURRENT_USER")
                database.sql(f"DROP OWNED BY files_{role}")
                database.sql(f"DROP ROLE files_{role}")
            else:
                database.sql(f"DROP USER files_{role}")


def engine_of(database: AppDatabase, role: str) -> sa.Engine:
    url = database.engine.url.set(username=f"files_{role}", password="example")
    return sa.create_engine(url, poolclass=sa.NullPool, hide_parameters=True)


def refused(database: AppDatabase, role: str, *statements: str) -> None:
    for statement in statements:
        with (
            engine_of(database, role).connect() as connection,
            pytest.raises(sa.exc.DBAPIError, match="denied"),
        ):
            connection.exec_driver_sql(statement)


def test_the_story_runs_with_exactly_the_grants_of_the_page(
    database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app: Application = make_app(database, rows=ROWS, rows_per_branch_key=4)
    before, after = blocks(database.kind)
    if database.kind == "postgresql":
        database.sql("REVOKE ALL ON encrypted_files FROM PUBLIC")
    run(database, before)
    if database.kind == "postgresql":
        database.sql("ALTER DEFAULT PRIVILEGES FOR ROLE files_owner GRANT ALL ON TABLES TO PUBLIC")
    dekctl.configure(
        "[table]\nrows_per_branch_key = 4\n"
        + "".join(
            f"[env.{role}]\nprovider = 'env'\ndatabase_url = "
            f"'{engine_of(database, role).url.render_as_string(hide_password=False)}'\n"
            for role in ROLES
        )
    )

    def as_(role: str, *command: str, expect: int = 0) -> dict[str, Any]:
        return dekctl.json("--env", role, *command, expect=expect)

    as_("owner", "schema", "expand")
    run(database, after)

    # The operator: every verb that walks rows, under branch keys and a new KEK, too.
    assert as_("operator", "wrap")["changed"] == ROWS
    assert as_("operator", "verify")["verified"] == ROWS
    assert as_("operator", "scrub", "--yes")["changed"] == ROWS
    old = EnvKMS(dekctl.environ).kek_id
    dekctl.use_env_kek()
    assert as_("operator", "rewrap")["changed"] == ROWS
    assert as_("operator", "rewrap", "--hierarchical")["changed"] == ROWS
    dekctl.use_env_kek()
    assert as_("operator", "rewrap", "--hierarchical")["changed"] == ROWS
    status = as_("operator", "status")
    assert (status["trigger"], status["rows_without_branch_key"]) == ("intact", 0)
    assert "ok    table encrypted_files" in dekctl("--env", "operator", "doctor").expect(0).stdout
    as_("operator", "retire", old)
    as_("operator", "runs")

    # The application reads V3 rows, and issues a key.
    reader = RowKeys(
        EnvKMS(dekctl.environ), app.config, engine=engine_of(database, "app"), plaintext="read"
    )
    rows = app.rows()
    assert [reader.read(row) for row in rows.values()] == list(app.deks.values())
    with engine_of(database, "app").begin() as connection:
        connection.execute(
            sa.text("UPDATE encrypted_files SET size = size + 1 WHERE id = :id"), {"id": 1}
        )
    assert len(as_("auditor", "runs")["runs"]) >= ROWS

    own = ("dekctl_tables", "dekctl_runs", "dekctl_quarantine", "dekctl_branch_keys")
    refused(database, "app", *(f"DELETE FROM {table}" for table in own))
    refused(database, "app", *(f"SELECT * FROM {table}" for table in own[:3]))
    refused(database, "operator", "DELETE FROM encrypted_files", "DELETE FROM dekctl_branch_keys")
    refused(database, "auditor", "SELECT * FROM encrypted_files", "DELETE FROM dekctl_runs")
    refused(database, "auditor", "SELECT * FROM dekctl_branch_keys")
    dekctl("--env", "operator", "schema", "contract", "--yes").expect(6)

    # The owner again, to the end and all the way back.
    text = (dekctl.folder / "dekctl.toml").read_text()
    dekctl.configure(text.replace("[table]\n", '[table]\nplaintext = "refuse"\n'))
    as_("owner", "schema", "contract", "--yes")
    assert as_("operator", "verify")["verified"] == ROWS
    as_("owner", "schema", "rollback", "--yes")
    assert as_("operator", "restore", "--yes")["changed"] == ROWS
    as_("owner", "rollback", "--yes")
    app.assert_files_open()
