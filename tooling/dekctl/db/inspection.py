"""The table as the database describes it, and whether its primary key can be used."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import ReflectedIndex
from sqlalchemy.exc import NoSuchTableError

from dekctl.config import TableConfig
from dekctl.db.database import Database
from dekctl.db.dialect import Dialect
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
    dialect, name, schema = database.dialect, config.bare_name, config.schema
    # In one of our transactions, which translates the errors of an unreachable server.
    with database.transaction() as connection, warnings.catch_warnings():
        # About types and indexes that SQLAlchemy does not know and dekctl does not use.
        warnings.simplefilter("ignore", sa.exc.SAWarning)
        inspector = sa.inspect(connection)
        try:
            columns = {
                c["name"]: Column(
                    c["name"],
                    c["type"],
                    bool(c["nullable"]),
                    c.get("default"),
                    c.get("comment"),
                    bool(c.get("computed")),
                )
                for c in inspector.get_columns(name, schema=schema)
            }
            unfit_table = dialect.unfit_table(connection, name, schema)
            invalid = dialect.invalid_indexes(connection, name, schema)
            primary, *others = _unique_keys(inspector, name, schema, invalid)
            other_kind = None if primary else _other_kind(inspector, name, schema)
        except NoSuchTableError:
            raise UsageError(
                f"the table {config.name} does not exist",
                hint="correct `name` in [table], or database_url in the environment",
            ) from None
    if other_kind:
        raise UsageError(
            f"{config.name} is {other_kind}, not a table",
            hint="name the table behind it in [table], and its database in database_url",
        )
    if unfit_table:
        raise UsageError(
            f"the table {config.name} {unfit_table}",
            hint="name a table without such children in [table], or each child in a [[table]]",
        )
    _refuse_missing_columns(config, columns)
    _refuse_unfit_key(dialect, config, columns, primary, others)
    return columns


def _other_kind(inspector: sa.Inspector, name: str, schema: str | None) -> str | None:
    """What something without a primary key is, if it is no table."""
    kinds = {
        "a view": "get_view_names",
        "a materialized view": "get_materialized_view_names",
        "a foreign table": "get_foreign_table_names",
    }
    for kind, method in kinds.items():
        try:
            if name in getattr(inspector, method, lambda **_: ())(schema=schema):
                return kind
        except NotImplementedError:  # this database has none of that kind
            continue
    return None


def _unique_keys(
    inspector: sa.Inspector, name: str, schema: str | None, invalid: Collection[str]
) -> list[list[str | None]]:
    """The columns of every unique key, the primary key first; empty where there is none."""
    primary = inspector.get_pk_constraint(name, schema=schema).get("constrained_columns")
    constraints = inspector.get_unique_constraints(name, schema=schema)
    indexes = [
        index
        for index in inspector.get_indexes(name, schema=schema)
        if _covers_all_rows(index) and index["name"] not in invalid
    ]
    return [
        list(primary or []),
        *(list(unique["column_names"]) for unique in constraints + indexes),
    ]


def _refuse_missing_columns(config: TableConfig, columns: Mapping[str, Column]) -> None:
    named = [(column, "primary_key") for column in config.primary_key]
    if config.kek_by is not None:
        named.insert(0, (config.kek_by.column, "kek_by"))
    for column, setting in named:
        if column not in columns:
            raise UsageError(
                f"the table {config.name} has no column {column!r}, named in {setting}",
                hint=f"its columns are: {', '.join(columns)}; correct {setting} in [table]",
            )


def _refuse_unfit_key(
    dialect: Dialect,
    config: TableConfig,
    columns: Mapping[str, Column],
    primary: list[str | None],
    others: list[list[str | None]],
) -> None:
    for column in config.primary_key:
        unfit = dialect.unfit_as_key(columns[column].type)
        if unfit:
            raise UsageError(
                f"{config.name}.{column}, named in primary_key, is {columns[column].type!r}, "
                f"which {unfit}",
                hint="set primary_key in [table] to another unique key of the table",
            )
    nullable = [c for c in config.primary_key if columns[c].nullable and c not in primary]
    if nullable or not any(set(key) == set(config.primary_key) for key in (primary, *others)):
        actual = ", ".join(filter(None, primary)) or "none"
        raise UsageError(
            f"primary_key ({', '.join(config.primary_key)}) is not a unique key of "
            f"{config.name}; its primary key is: {actual}",
            hint="set primary_key in [table] to the table's primary key",
        )


def _covers_all_rows(index: ReflectedIndex) -> bool:
    """Whether an index makes its columns unique in the whole table, not only in part of it."""
    options = index.get("dialect_options", {})
    partial = any(name.endswith("_where") for name in options)
    return bool(index["unique"]) and not partial
