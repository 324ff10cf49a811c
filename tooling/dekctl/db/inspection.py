"""The table as the database describes it, and whether its primary key will serve."""

from __future__ import annotations

import warnings

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import ReflectedIndex
from sqlalchemy.exc import NoSuchTableError

from dekctl.config import TableConfig
from dekctl.db.database import Database
from dekctl.db.shape import Column
from dekctl.errors import UsageError


def inspect_table(database: Database, config: TableConfig) -> dict[str, Column]:
    """Describe a table's columns, by name.

    Raises:
        UsageError: the table, or its primary key, is not as configured.
        DatabaseError: the database cannot be reached.
    """
    if config.schema and not database.dialect.has_schemas:
        raise UsageError(
            f"this database has no schemas, but [table] names one: {config.schema!r}",
            hint="correct `name` in [table]: the table's name alone",
        )
    # Through a transaction of ours, so that an unreachable server becomes our error.
    with database.transaction() as connection, warnings.catch_warnings():
        # Of types and indexes that SQLAlchemy does not know, and that dekctl does not use.
        warnings.simplefilter("ignore", sa.exc.SAWarning)
        inspector = sa.inspect(connection)
        try:
            found = inspector.get_columns(config.bare_name, schema=config.schema)
            key = inspector.get_pk_constraint(config.bare_name, schema=config.schema)
            unique = inspector.get_unique_constraints(config.bare_name, schema=config.schema)
            indexes = inspector.get_indexes(config.bare_name, schema=config.schema)
            dialect = database.dialect
            unfit_table = dialect.unfit_table(connection, config.bare_name, config.schema)
            invalid = dialect.invalid_indexes(connection, config.bare_name, config.schema)
        except NoSuchTableError:
            raise UsageError(
                f"the table {config.name} does not exist",
                hint="correct `name` in [table], or database_url in the environment",
            ) from None
    if unfit_table:
        raise UsageError(
            f"the table {config.name} {unfit_table}",
            hint="name a table without such children in [table], or each child in a [[table]]",
        )
    columns = {
        c["name"]: Column(
            c["name"], c["type"], bool(c["nullable"]), c.get("default"), c.get("comment")
        )
        for c in found
    }
    if config.kek_by is not None and config.kek_by.column not in columns:
        raise UsageError(
            f"the table {config.name} has no column {config.kek_by.column!r}, named in kek_by",
            hint=f"its columns are: {', '.join(columns)}; correct kek_by in [table]",
        )
    missing = [column for column in config.primary_key if column not in columns]
    if missing:
        raise UsageError(
            f"the table {config.name} has no column {missing[0]!r}, named in primary_key",
            hint=f"its columns are: {', '.join(columns)}; correct primary_key in [table]",
        )
    for column in config.primary_key:
        unfit = database.dialect.unfit_as_key(columns[column].type)
        if unfit:
            raise UsageError(
                f"{config.name}.{column}, named in primary_key, is {columns[column].type!r}, "
                f"which {unfit}",
                hint="set primary_key in [table] to another unique key of the table",
            )
    keys: list[list[str | None]] = [list(key.get("constrained_columns") or [])]
    keys += [list(constraint["column_names"]) for constraint in unique]
    keys += [
        list(index["column_names"])
        for index in indexes
        if _covers_all_rows(index) and index["name"] not in invalid
    ]
    nullable = [c for c in config.primary_key if columns[c].nullable and c not in keys[0]]
    if nullable or not any(k and set(k) == set(config.primary_key) for k in keys):
        actual = ", ".join(filter(None, keys[0])) or "none"
        raise UsageError(
            f"primary_key ({', '.join(config.primary_key)}) is not a unique key of "
            f"{config.name}; its primary key is: {actual}",
            hint="set primary_key in [table] to the table's primary key",
        )
    return columns


def _covers_all_rows(index: ReflectedIndex) -> bool:
    """Whether an index makes its columns unique in the whole table, not only in part of it."""
    options = index.get("dialect_options", {})
    partial = any(name.endswith("_where") for name in options)
    return bool(index["unique"]) and not partial
