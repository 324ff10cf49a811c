"""A table's lineage: which revision belongs to which stage, and which one a table has."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from dekctl.db.database import Database
from dekctl.db.lineage import BASE, Lineage
from dekctl.db.shape import Stage
from dekctl.errors import RefusedError

REVISIONS = {Stage.LEGACY: BASE, Stage.EXPANDED: "table_0001", Stage.CONTRACTED: "table_0002"}

SINGLE_LINEAGE = {
    "0001": REVISIONS[Stage.LEGACY],
    "0002": REVISIONS[Stage.EXPANDED],
    "0003": REVISIONS[Stage.CONTRACTED],
}
"""Revisions from before 0.1.0, when each table's lineage began with making the ledger."""


def current(database: Database, lineage: Lineage) -> str | None:
    """The revision of a table; ``base`` once it is back at legacy, None if it never left it.

    Raises:
        RefusedError: it is none that this dekctl has.
    """
    with database.transaction() as connection:
        found = lineage.current(connection)
    revision = SINGLE_LINEAGE.get(found or "", found)
    if revision is not None and revision not in REVISIONS.values():
        raise RefusedError(
            f"{lineage.version_table} has the revision {revision}, which this dekctl does not know",
            hint="did a newer dekctl make it? Then install that; if somebody changed it, drop "
            f"{lineage.version_table} and run: dekctl schema expand",
        )
    return revision


def rename(connection: Connection, lineage: Lineage) -> None:
    """Give a version table that holds a revision of the single lineage its revision of today."""
    found = lineage.current(connection)
    if found in SINGLE_LINEAGE:
        connection.execute(_renaming(lineage, found))


def take_over(database: Database, old: Lineage, new: Lineage) -> None:
    """Move a table's revision to another version table, whose name follows the context name."""
    if old.version_table == new.version_table:
        return

    def move(connection: Connection) -> None:
        revision = old.current(connection)
        if revision is None:
            return  # an interrupted try has moved it
        new.versions.create(connection, checkfirst=True)
        for statement in revoked(database, new):
            connection.exec_driver_sql(statement)
        connection.execute(new.versions.delete())
        if revision != BASE:
            connection.execute(new.versions.insert().values(version_num=revision))
        old.versions.drop(connection)

    database.run(move, write=True)


def revoked(database: Database, lineage: Lineage) -> list[str]:
    """SQL that takes a new version table from everybody, where they may have got rights on it."""
    quoted = database.engine.dialect.identifier_preparer.format_table
    return database.dialect.revoked([quoted(lineage.versions)])


def renaming_sql(database: Database, lineage: Lineage) -> str:
    """The SQL of :func:`rename`; empty where there is nothing to rename."""
    with database.transaction() as connection:
        found = lineage.current(connection)
    return _sql(_renaming(lineage, found), database.engine) if found in SINGLE_LINEAGE else ""


def drop_sql(database: Database, lineage: Lineage) -> str:
    """SQL that drops an empty version table: a script that starts at the base makes it again."""
    return _sql(sa.schema.DropTable(lineage.versions), database.engine)


def _renaming(lineage: Lineage, found: str) -> sa.Update | sa.Delete:
    versions, new = lineage.versions, SINGLE_LINEAGE[found]
    if new == BASE:
        return versions.delete().where(versions.c.version_num == found)
    return versions.update().where(versions.c.version_num == found).values(version_num=new)


def _sql(statement: sa.ClauseElement, engine: Engine) -> str:
    text = statement.compile(dialect=engine.dialect, compile_kwargs={"literal_binds": True})
    return f"{str(text).strip()};\n\n"
