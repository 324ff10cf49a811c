"""Is this the right place for the ledger? It is in the schema of the first table of the file."""

from __future__ import annotations

import sqlalchemy as sa

from dekctl.config import Config
from dekctl.db.database import Database
from dekctl.errors import RefusedError
from dekctl.ledger.tables import RUNS


def refuse_ledger_elsewhere(database: Database, config: Config) -> None:
    """Refuse where the ledger is not in its schema, but in the schema of another table.

    Raises:
        RefusedError: the tables in the configuration file have changed places.
        DatabaseError: the database refused or cannot be reached.
    """
    here = config.table.schema
    others = dict.fromkeys(t.schema for t in config.tables if t.schema != here)
    with database.transaction() as connection:
        inspector = sa.inspect(connection)
        found = [schema for schema in others if inspector.has_table(RUNS, schema=schema)]
    if found:
        owner = next(t for t in config.tables if t.schema == found[0])
        raise RefusedError(
            f"dekctl's tables are in the schema {found[0] or 'of the connection'}, but "
            f"{config.path.name} now lists {config.table.name} first",
            hint=f"dekctl's tables are in the schema of the first table: list {owner.name} first",
        )
