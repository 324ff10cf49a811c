"""The recipe of ARCHITECTURE.md for a column of the ledger, followed on ledgers that are older."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from support.app import AppDatabase
from support.checkout import copy_code
from support.cli import Dekctl
from support.old_ledgers import load, revisions

PROJECT = Path(__file__).parents[2]
REVISION = '''"""Ticket: why somebody ran a command."""

from __future__ import annotations

import sqlalchemy as sa

from dekctl.ledger.upgrade import LedgerPlan

revision = "ledger_toy"
down_revision = "ledger_0001"


def upgrade(plan: LedgerPlan) -> None:
    plan.add_column("dekctl_runs", sa.Column("ticket", sa.String(64)))


def downgrade(plan: LedgerPlan) -> None:
    """Never run: an older dekctl refuses a newer ledger."""
'''
BEFORE = '            sa.Column("error", StoredText()),\n'
COLUMN = '            sa.Column("ticket", StoredText(64)),\n'


@pytest.fixture
def next_version(tmp_path: Path, dekctl: Dekctl) -> Dekctl:
    """The next dekctl: this one, and a column more. Run its commands by :meth:`Dekctl.process`."""
    copied = tmp_path / "next"
    path = copy_code(copied)
    (copied / "migrations" / "ledger" / "0002_ticket.py").write_text(REVISION)
    tables = path / "dekctl" / "ledger" / "tables.py"
    text = tables.read_text()
    assert text.count(BEFORE) == 1
    tables.write_text(text.replace(BEFORE, BEFORE + COLUMN))
    environ = {**dekctl.environ, "PYTHONPATH": str(path)}
    return Dekctl(dekctl.folder, environ)


def has_column(database: AppDatabase) -> bool:
    return "ticket" in {c["name"] for c in sa.inspect(database.engine).get_columns("dekctl_runs")}


def set_up(database: AppDatabase, dekctl: Dekctl, newer: Dekctl) -> None:
    load(database, dekctl)
    newer.environ |= {"DEKCTL_KEK": dekctl.environ["DEKCTL_KEK"]}
    newer.hidden += dekctl.hidden


def test_an_older_ledger_gets_the_column_and_every_command_works(
    app_database: AppDatabase, dekctl: Dekctl, next_version: Dekctl
) -> None:
    set_up(app_database, dekctl, next_version)
    next_version.process("status").expect(0)
    assert has_column(app_database)
    assert revisions(app_database)["dekctl_ledger_version"] == "ledger_toy"
    next_version.process("migrate", "--table", "legacy").expect(0)
    next_version.process("verify", "--table", "branched").expect(0)
    next_version.process("schema", "expand", "--table", "legacy").expect(0)

    refused = dekctl("status").expect(3).stderr
    assert "ledger_toy" in refused
    assert "ledger_0001" in refused


def test_processes_that_upgrade_at_the_same_time_all_work(
    app_database: AppDatabase, dekctl: Dekctl, next_version: Dekctl
) -> None:
    set_up(app_database, dekctl, next_version)
    children = [next_version.start("verify", "--table", "contracted") for _ in range(3)]
    for child in children:
        next_version.finish(child).expect(0)
    assert has_column(app_database)


def test_an_upgrade_that_died_after_its_column_is_completed(
    app_database: AppDatabase, dekctl: Dekctl, next_version: Dekctl
) -> None:
    """MariaDB commits the ALTER TABLE, and not the revision."""
    set_up(app_database, dekctl, next_version)
    app_database.sql("ALTER TABLE dekctl_runs ADD COLUMN ticket VARCHAR(64)")
    next_version.process("status").expect(0)
    assert revisions(app_database)["dekctl_ledger_version"] == "ledger_toy"


def test_a_role_that_may_not_is_told_the_command_for_one_that_may(
    app_database: AppDatabase, dekctl: Dekctl, next_version: Dekctl
) -> None:
    set_up(app_database, dekctl, next_version)
    with unprivileged(app_database) as url:
        owner = (dekctl.folder / "dekctl.toml").read_text()
        dekctl.configure(owner.replace(app_database.url, url))
        before = revisions(app_database)
        for command in (["status"], ["wrap", "--table", "expanded"]):
            refused = next_version.process(*command).expect(3)
            assert "ledger_0001" in refused.stderr
            assert "ledger_toy" in refused.stderr
            assert "dekctl schema upgrade" in refused.stderr
        assert revisions(app_database) == before

        script = next_version.process("schema", "upgrade", "--sql").expect(0).stdout
        app_database.script(script)
        assert has_column(app_database)
        grant_version_table(app_database, url)
        assert "up to date" in next_version.process("schema", "upgrade", "--sql").stdout
        next_version.process("status").expect(0)


@contextmanager
def unprivileged(database: AppDatabase) -> Iterator[str]:
    """The URL of a role that may read and write rows, and change no table."""
    url = make_url(database.url)
    if database.kind == "sqlite":
        yield f"sqlite:///file:{url.database}?mode=ro&uri=true"
        return
    role = f"modest_{url.database}"
    own = url.set(username=role, password="x").render_as_string(hide_password=False)
    if database.kind == "postgresql":
        database.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
        database.sql(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    else:
        database.sql(f"CREATE USER {role} IDENTIFIED BY 'x'")
        database.sql(
            f"GRANT SELECT, INSERT, UPDATE, DELETE, CREATE TEMPORARY TABLES "
            f"ON {url.database}.* TO {role}"
        )
    try:
        yield own
    finally:
        if database.kind == "postgresql":
            database.sql(f"DROP OWNED BY {role}")
            database.sql(f"DROP ROLE {role}")
        else:
            database.sql(f"DROP USER {role}")


def grant_version_table(database: AppDatabase, url: str) -> None:
    """What the owner has to grant besides, where rights are given table by table."""
    if database.kind == "postgresql":
        database.sql(f"GRANT SELECT ON dekctl_ledger_version TO {make_url(url).username}")
