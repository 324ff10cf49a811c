"""The indexes and constraints on a column of keys, as every database describes them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError

from dekctl.config import TableConfig
from dekctl.db.table import DekTable


@contextmanager
def _inspector(connection: Connection) -> Iterator[sa.Inspector]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sa.exc.SAWarning)  # about indexes it does not know
        yield sa.inspect(connection)


def indexes_on(connection: Connection, config: TableConfig) -> dict[str, bool]:
    """The indexes that use the plaintext column, also in an expression or a condition.

    Each with whether a constraint owns it.
    """
    column, found = config.plaintext_column, {}
    with _inspector(connection) as inspector:
        indexes = inspector.get_indexes(config.bare_name, schema=config.schema)
        unique = inspector.get_unique_constraints(config.bare_name, schema=config.schema)
    for index in indexes:
        conditions = [v for k, v in index.get("dialect_options", {}).items() if "where" in k]
        texts = [*index.get("expressions", []), *map(str, conditions)]
        if column in index["column_names"] or any(column in text for text in texts):
            found[str(index["name"])] = "duplicates_constraint" in index
    found |= {str(u["name"]): True for u in unique if column in u["column_names"]}
    return dict(sorted(found.items()))


def unique_on(connection: Connection, config: TableConfig, column: str) -> dict[str, bool]:
    """The unique indexes over this column alone, each with whether a constraint owns it."""
    with _inspector(connection) as inspector:
        indexes = inspector.get_indexes(config.bare_name, schema=config.schema)
        unique = inspector.get_unique_constraints(config.bare_name, schema=config.schema)
    found = {
        str(i["name"]): "duplicates_constraint" in i
        for i in indexes
        if i["unique"] and i["column_names"] == [column]
    }
    found |= {str(u["name"]): True for u in unique if u["column_names"] == [column]}
    return dict(sorted(found.items()))


def forbidding_null(connection: Connection, table: DekTable, column: str) -> list[str]:
    """What NULL in a column does not pass, in words: CHECKs, its domain, other columns, indexes.

    What looks at other columns as well is left to the row that it concerns.
    """
    config, found = table.config, []
    with _inspector(connection) as inspector:
        checks = inspector.get_check_constraints(config.bare_name, schema=config.schema)
        columns = inspector.get_columns(config.bare_name, schema=config.schema)
        indexes = inspector.get_indexes(config.bare_name, schema=config.schema)
    for other in columns:
        text = other.get("computed", {}).get("sqltext", "")
        nothing = _of_null(connection, table, column, f"({text}) IS NOT NULL")
        if not other["nullable"] and _names(text, column) and _fails(connection, nothing):
            found.append(f"the generated column {other['name']}, which is NOT NULL,")
    found += [
        f"the unique index {index['name']} (NULLS NOT DISTINCT)"
        for index in indexes
        if index.get("dialect_options", {}).get("postgresql_nulls_not_distinct")
        and column in index["column_names"]
    ]
    for check in checks:
        if str(check["name"]).startswith("dekctl_"):
            continue  # a step's own, which goes when the step ends
        text = str(check["sqltext"])
        if _names(text, column) and _fails(connection, _of_null(connection, table, column, text)):
            found.append(f"the CHECK {check['name'] or text}")
    kind = table.columns[column].type
    if isinstance(kind, postgresql.DOMAIN):
        name = kind.compile(dialect=connection.dialect)
        try:
            _read(connection, f"SELECT CAST(NULL AS {name})")
        except DBAPIError:
            found.append(f"the domain {name}")
    return found


def _names(text: str, column: str) -> bool:
    return re.search(rf"\b{re.escape(column)}\b", text) is not None


def _of_null(connection: Connection, table: DekTable, column: str, check: str) -> str:
    """SQL that gives 0 where NULL in this column, of its type, fails a CHECK."""
    quoted = connection.dialect.identifier_preparer.quote(column)
    none = f"(SELECT {quoted} FROM {table.quoted_name} LIMIT 0) AS k"
    row = f"(SELECT k.{quoted} FROM (SELECT 1 AS one) AS o LEFT JOIN {none} ON 1 = 1) AS r"
    return f"SELECT CASE WHEN NOT ({check}) THEN 0 ELSE 1 END FROM {row}"


def _fails(connection: Connection, query: str) -> bool:
    try:
        return _read(connection, query) == 0
    except DBAPIError:
        return False  # it names other columns, too


def _read(connection: Connection, query: str) -> object:
    with connection.begin_nested():
        return connection.execute(sa.text(query.replace(":", r"\:"))).scalar_one()
