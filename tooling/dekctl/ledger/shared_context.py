"""Context names that are not a table's alone: then a key of one table can be used in another one.

A context name binds keys apart only where it differs. The default is the same in every project, and
no database can see what another server holds, so it is named wherever it was left as it is.
"""

from __future__ import annotations

import contextlib

import sqlalchemy as sa

from dekctl.config import TableConfig
from dekctl.db.database import Database
from dekctl.db.table import DekTable
from dekctl.errors import DatabaseError, RefusedError
from dekctl.ledger.bindings import quoted, rebind_command, suggested_name
from dekctl.ledger.tables import tables

TABLES = "dekctl_tables"


def refuse_shared_name(table: DekTable) -> None:
    """Refuse a context name that another schema of this server uses as well.

    Raises:
        RefusedError: a ledger that this role may read has it.
        DatabaseError: the database refused or cannot be reached.
    """
    config = table.config
    others = _schemas_with_name(table.database, config.schema, config.context_name)
    if others:
        raise RefusedError(
            f"the context name {config.context_name!r} of {config.name} is used in the schema "
            f"{others[0]}, too: under one KEK, a key of one table can be used in the other",
            hint=_hint(table),
        )


def _schemas_with_name(database: Database, schema: str | None, context_name: str) -> list[str]:
    own = schema or database.engine.dialect.default_schema_name
    with database.transaction() as connection:
        schemas = database.dialect.schemas_with(connection, TABLES)
    found = []
    for other in schemas:
        if other == own:
            continue
        ledger = tables(other)["tables"]
        query = sa.select(ledger.c.table_name).where(ledger.c.table_name == context_name)
        # Of another application; this role need not be able to read it.
        with contextlib.suppress(DatabaseError), database.transaction() as connection:
            if connection.execute(query).first() is not None:
                found.append(other)
    return found


def default_name_note(table: DekTable) -> str | None:
    """What people should know where the context name was left to its default; else None."""
    config: TableConfig = table.config
    if config.context_name_given:
        return None
    return (
        f"{config.name}: context_name is not set, so it is {config.context_name!r}, as in every "
        "project that does not set it. Under one KEK, keys can be exchanged between tables of one "
        f"context name, whatever their database. {_hint(table)}"
    )


def _hint(table: DekTable) -> str:
    name = suggested_name(table)
    setting = f"in [table] (and in Terraform): context_name = {quoted(name)}"
    if table.has("wrapped"):
        return f"write {setting}; then: {rebind_command(table.config.context_name)}"
    return f"before the first wrap, write {setting}"
