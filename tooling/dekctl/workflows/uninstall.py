"""Uninstall: drops dekctl's own tables once no row needs them."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import Connection

from dekctl.branch_keys.table import NAME as BRANCH_KEYS
from dekctl.branch_keys.table import branch_keys_table
from dekctl.db.shape import Stage
from dekctl.db.table import DekTable
from dekctl.errors import RefusedError
from dekctl.kms.branch.keys import ID_BYTES
from dekctl.kms.branch.supply import V3_FORMAT
from dekctl.kms.context import V3
from dekctl.ledger.tables import RUNS
from dekctl.ledger.tables import tables as ledger_tables
from dekctl.ledger.upgrade import VERSION_TABLE
from dekctl.lifecycle.counting import Census
from dekctl.lifecycle.usage import count_uses, missing_tables
from dekctl.project import Project
from dekctl.schema import steps
from dekctl.schema.dialects import schema_dialect
from dekctl.wording import counted
from dekctl.workflows.callbacks import Confirm

VERSIONS = "dekctl_version_"
"""How the names of the tables' own Alembic version tables begin."""


def own_tables(project: Project) -> list[str]:
    """dekctl's own tables in the database, in the order in which they are dropped.

    The table of runs goes first: without it there is no ledger, however a drop ends (MariaDB and
    MySQL commit each). The branch keys go last.
    """
    schema = project.config.table.schema
    with project.database.transaction() as connection:
        there = set(sa.inspect(connection).get_table_names(schema=schema))
    names = [RUNS, *(table.name for table in ledger_tables(schema).values() if table.name != RUNS)]
    names += sorted(name for name in there if name.startswith(VERSIONS))
    return [name for name in (*names, VERSION_TABLE, BRANCH_KEYS) if name in there]


def uninstall(
    project: Project, confirm: Confirm | None = None, *, dry_run: bool = False
) -> list[str]:
    """Drop the ledger, the version tables and the branch keys. Returns the names of the tables.

    Raises:
        RefusedError: a row, a table or a run still needs them, or ``confirm`` refused.
        DatabaseError: the database refused or cannot be reached.
    """
    names = own_tables(project)
    if not names:
        return names
    refuse_needed(project)
    if dry_run:
        return names
    if confirm is not None:
        confirm()
        refuse_needed(project)  # a person may take an hour to answer
    tables = [sa.Table(name, sa.MetaData(), schema=project.config.table.schema) for name in names]
    of_rows = [project.table(config) for config in project.config.tables]
    dialect = schema_dialect(project.database)
    quote = project.database.engine.dialect.identifier_preparer.format_table
    others = [*map(quote, tables[:-1]), *(table.quoted_name for table in of_rows)]

    def drop(connection: Connection) -> None:
        # An application may issue V3 keys at any time; not under the lock of their branch keys.
        for statement in dialect.lock(quote(tables[-1]), others):
            connection.exec_driver_sql(statement)
        try:
            if tables[-1].name == BRANCH_KEYS:
                _refuse_bound(connection, of_rows, quote(tables[-1]))
            for table in tables:
                table.drop(connection, checkfirst=True)
        finally:
            for statement in dialect.unlock():
                connection.exec_driver_sql(statement)

    project.database.run(drop, write=True, patient=True)
    return names


def _refuse_bound(connection: Connection, of_rows: Sequence[DekTable], branch_keys: str) -> None:
    """Refuse while a row needs a branch key, whatever its version says, or if that column is gone.

    Raises:
        RefusedError: there is such a row.
    """
    found = 0
    for table in of_rows:
        if not (table.has("wrapped") and table.column("wrapped").is_binary):
            continue
        wrapped = table.quoted("wrapped")
        branch_id = table.database.dialect.hex_of(wrapped, len(V3_FORMAT) + 1, ID_BYTES)
        needs = f"{branch_id} IN (SELECT branch_id FROM {branch_keys})"
        if table.has("version"):
            needs += f" OR {table.quoted('version')} = '{V3}'"
        rows = f"FROM {table.quoted_name} WHERE {wrapped} IS NOT NULL AND ({needs})"
        found += int(connection.exec_driver_sql(f"SELECT count(*) {rows}").scalar_one())
    if found:
        raise RefusedError(
            f"{counted(found, 'row')} (V3) cannot be decrypted without {BRANCH_KEYS}",
            hint="bring them back to plaintexts first: dekctl rollback",
        )


def refuse_needed(project: Project) -> None:
    """Refuse while anything needs dekctl's own tables.

    Raises:
        RefusedError: a table is not back at the legacy schema; one is missing, or managed but not
            configured; a row needs its branch key; or a run is writing.
        DatabaseError: the database refused or cannot be reached.
    """
    if missing := missing_tables(project):
        raise RefusedError(
            f"the table {missing[0]} is not in this database, so what its rows need is not known",
            hint=f"correct `name` in [table], or database_url in [env.{project.env.name}]",
        )
    for config in project.config.tables:
        if project.ledger.exists():
            project.ledger.refuse_while_writing(config.context_name)
        plan = steps.plan_for(project.database, project.config, config)
        if plan.table.stage is not Stage.LEGACY and not plan.is_rolled_back:
            raise RefusedError(
                f"{config.name} is at stage {plan.table.stage.value}: a rollback needs what the "
                "ledger knows about it",
                hint="bring its keys back to plaintexts first: dekctl rollback "
                f"--table {config.name}",
            )
    count_uses(Census(project))  # it refuses where a table's rows cannot be counted
    if project.branch_table.exists():
        branch_keys = branch_keys_table(project.config.table.schema)
        quote = project.database.engine.dialect.identifier_preparer.format_table
        of_rows = [project.table(config) for config in project.config.tables]
        with project.database.transaction(patient=True) as connection:
            _refuse_bound(connection, of_rows, quote(branch_keys))
