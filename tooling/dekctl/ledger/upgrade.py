"""Makes the ledger, and upgrades one that an older dekctl made. One lineage for each database.

The first command that looks at an older ledger upgrades it, where the database role may. An older
dekctl refuses a newer ledger, so upgrade dekctl everywhere before its next run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa
from sqlalchemy import Connection

from dekctl import __version__
from dekctl.branch_keys.table import NAME as BRANCH_KEYS
from dekctl.branch_keys.table import branch_keys_table
from dekctl.db import alembic_op as op
from dekctl.db.database import Database, DeniedDatabaseError
from dekctl.db.lineage import BASE, Lineage
from dekctl.errors import RefusedError
from dekctl.ledger.tables import RUNS, tables

VERSION_TABLE = "dekctl_ledger_version"
"""Not ``dekctl_version_…``: those are the tables', named after what their context is called."""


@dataclass(frozen=True, slots=True)
class LedgerPlan:
    """What the steps in ``migrations/ledger`` are called with."""

    schema: str | None
    columns: Mapping[str, frozenset[str]]
    """The columns of each table before the first step."""

    def add_column(self, table: str, column: sa.Column[object]) -> None:
        """Add a column, unless an interrupted step has added it (MariaDB, MySQL)."""
        if column.name not in self.columns.get(table, ()):
            op.add_column(table, column, schema=self.schema)


@dataclass(frozen=True, slots=True)
class LedgerVersion:
    """Which revision a ledger has, and which one this dekctl needs; no ledger has neither."""

    revision: str | None = None
    needed: str | None = None
    changed: bool = False

    @property
    def exists(self) -> bool:
        """Whether there is a ledger."""
        return self.revision is not None

    @property
    def is_current(self) -> bool:
        """Whether this dekctl can work with it as it is."""
        return self.exists and self.revision == self.needed


def ledger_version(connection: Connection, schema: str | None) -> LedgerVersion:
    """Look at the ledger and change nothing.

    Raises:
        RefusedError: a newer dekctl made it.
    """
    if not sa.inspect(connection).has_table(RUNS, schema=schema):
        return LedgerVersion()
    known = _lineage(schema).revisions()
    found = _lineage(schema).current(connection)
    if found in (None, BASE):  # made before the ledger had a version table
        found = known[0]
    if found not in known:
        raise _newer(connection, schema, str(found), known[-1])
    return LedgerVersion(found, known[-1])


def upgrade(database: Database, schema: str | None, *, create: bool) -> LedgerVersion:
    """Bring the ledger to the revision of this dekctl; ``create`` makes one where there is none.

    Raises:
        RefusedError: a newer dekctl made it, or the database role may not change it.
        DatabaseError: the database refused or cannot be reached.
    """
    with database.transaction() as connection:
        version = ledger_version(connection, schema)
        # Who only reads the ledger need not have the right to look at that table.
        complete = not create or sa.inspect(connection).has_table(BRANCH_KEYS, schema=schema)
    if version.is_current and not complete:
        # It is no part of the ledger, and goes and comes by itself.
        table = branch_keys_table(schema)

        def make(connection: Connection) -> None:
            table.create(connection)
            _revoke(connection, database, table)

        database.run(make, write=True, patient=True)
        return replace(version, changed=True)
    if version.is_current or not (version.exists or create):
        return version

    def work(connection: Connection) -> None:
        with database.dialect.one_at_a_time(connection, VERSION_TABLE):
            now = ledger_version(connection, schema)  # another process may have been here
            if now.is_current:
                return
            lineage, plan = _lineage(schema), _plan(connection, schema)
            if not now.exists:
                lineage.run(connection, "stamp", BASE, plan)
            lineage.run(connection, "upgrade", "head", plan)
            _revoke(connection, database, *_own_tables(schema))

    try:
        database.run(work, write=True, patient=True)
    except DeniedDatabaseError as error:
        if not version.exists:
            raise
        raise RefusedError(
            f"the ledger has revision {version.revision}, dekctl {__version__} needs "
            f"{version.needed}, and the database role may not change it: {error.message}",
            hint="as the owner of the table dekctl_runs run: dekctl schema upgrade (to print the "
            "SQL instead: dekctl schema upgrade --sql)",
        ) from None
    with database.transaction() as connection:
        return replace(ledger_version(connection, schema), changed=True)


def upgrade_sql(database: Database, schema: str | None) -> str:
    """The SQL that makes or upgrades the ledger; empty where it is current and complete.

    Raises:
        RefusedError: a newer dekctl made it.
        DatabaseError: the database refused or cannot be reached.
    """
    lineage = _lineage(schema)
    with database.transaction() as connection:
        version = ledger_version(connection, schema)
        if version.is_current:
            if sa.inspect(connection).has_table(BRANCH_KEYS, schema=schema):
                return ""
            table = branch_keys_table(schema)
            made = sa.schema.CreateTable(table).compile(dialect=database.engine.dialect)
            return _script([str(made).strip().expandtabs(4), *_revoked(database, table)])
        plan, dialect = _plan(connection, schema), database.dialect.name
        found = lineage.current(connection)
    text = ""
    if found is not None and (found == BASE or not version.exists):
        # Alembic's script begins with making it.
        drop = sa.schema.DropTable(lineage.versions).compile(dialect=database.engine.dialect)
        text, found = _script([str(drop).strip()]), None
    text += lineage.sql(dialect, "upgrade", f"{found or BASE}:head", plan)
    return text + _script(_revoked(database, *_own_tables(schema)))


def _own_tables(schema: str | None) -> list[sa.Table]:
    made = tables(schema).values()
    return [*made, branch_keys_table(schema), _lineage(schema).versions]


def _revoked(database: Database, *own: sa.Table) -> list[str]:
    quoted = database.engine.dialect.identifier_preparer.format_table
    return database.dialect.revoked([quoted(table) for table in own])


def _revoke(connection: Connection, database: Database, *own: sa.Table) -> None:
    for statement in _revoked(database, *own):
        connection.exec_driver_sql(statement)


def _script(statements: Sequence[str]) -> str:
    return "".join(f"{statement};\n\n" for statement in statements)


def _lineage(schema: str | None) -> Lineage:
    return Lineage("ledger", VERSION_TABLE, schema)


def _plan(connection: Connection, schema: str | None) -> LedgerPlan:
    inspector = sa.inspect(connection)
    columns = {
        name: frozenset(column["name"] for column in inspector.get_columns(name, schema=schema))
        for name in inspector.get_table_names(schema=schema)
        if name.startswith("dekctl_")
    }
    return LedgerPlan(schema, columns)


def _newer(connection: Connection, schema: str | None, found: str, known: str) -> RefusedError:
    """The refusal; the newest run tells which dekctl it takes."""
    runs = sa.Table(RUNS, sa.MetaData(), schema=schema, autoload_with=connection).c
    maker = "a newer dekctl"
    if "dekctl_version" in runs and "started_at" in runs:
        newest = sa.select(runs.dekctl_version).order_by(runs.started_at.desc()).limit(1)
        last = connection.execute(newest).scalar_one_or_none()
        if last not in (None, __version__):
            maker += f" (the last run was of dekctl {last})"
    return RefusedError(
        f"the ledger has revision {found}, made by {maker}; this is dekctl {__version__}, which "
        f"knows revisions up to {known}",
        hint="install the newer version: python -m pip install --upgrade dekctl",
    )
