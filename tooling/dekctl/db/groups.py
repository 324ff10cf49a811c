"""Counting a large table's rows by the values of some expressions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sqlalchemy import Connection

from dekctl.db.shape import TableShape

FEW_GROUPS = 8
"""So many groups are counted faster by their values than by sorting."""
SAMPLES, SAMPLE_ROWS = 16, 100

GroupCount = tuple[Any, ...]
"""A group's values, the number of rows, and the least and greatest moment (None where unasked)."""


def count_sorted(
    connection: Connection, table: TableShape, by: Mapping[str, str], moment: str | None
) -> list[GroupCount]:
    """See :meth:`dekctl.db.dialect.Dialect.count_groups`: as the server groups rows."""
    names, rows = ", ".join(by), _rows_of(table, by, moment)
    query = f"SELECT {names}, count(*), {_ends(moment)} FROM ({rows}) AS t GROUP BY {names}"
    return [tuple(found) for found in connection.exec_driver_sql(query)]


def count_sampled(
    connection: Connection,
    table: TableShape,
    by: Mapping[str, str],
    moment: str | None,
    same: Callable[[str, str, Any], str],
) -> list[GroupCount]:
    """The same for a server that sorts all rows to group them, or nearly.

    The groups of a sample are counted by their values, in one pass, and only rows of other groups
    are sorted: in a second pass, if there are any. MariaDB may show it what was committed since.

    Args:
        connection: an open transaction.
        table: the table.
        by: as above.
        moment: as above.
        same: SQL that compares a column with a parameter of this name, for this value. To the byte,
            for the groups must not overlap.
    """
    rows = _rows_of(table, by, moment)
    groups = _sample(connection, table, rows, ", ".join(by))
    if not 0 < len(groups) <= FEW_GROUPS:
        return count_sorted(connection, table, by, moment)
    values = {f"v{i}_{j}": v for i, group in enumerate(groups) for j, v in enumerate(group)}
    alike = [
        " AND ".join(same(name, f"v{i}_{j}", group[j]) for j, name in enumerate(by))
        for i, group in enumerate(groups)
    ]
    wanted = ["count(*)"]
    for condition in alike:
        wanted.append(f"count(CASE WHEN {condition} THEN 1 END)")
        of_group = f"CASE WHEN {condition} THEN moment END"
        wanted.append(f"min({of_group}), max({of_group})" if moment else "NULL, NULL")
    total, *found = connection.exec_driver_sql(
        f"SELECT {', '.join(wanted)} FROM ({rows}) AS t", values
    ).one()
    counted = [(*group, *found[3 * i : 3 * i + 3]) for i, group in enumerate(groups)]
    # Some texts are not found by their values: those in another encoding than the driver's.
    counted = [group for group in counted if group[len(by)]]
    if sum(group[len(by)] for group in counted) == total:
        return counted
    names, others = ", ".join(by), " OR ".join(f"({condition})" for condition in alike)
    rest = connection.exec_driver_sql(
        f"SELECT {names}, count(*), {_ends(moment)} FROM ({rows}) AS t WHERE NOT ({others}) "
        f"GROUP BY {names}",
        values,
    )
    return counted + [tuple(group) for group in rest]


def _rows_of(table: TableShape, by: Mapping[str, str], moment: str | None) -> str:
    columns = {**by, "moment": moment} if moment else by
    wanted = ", ".join(f"{sql} AS {name}" for name, sql in columns.items())
    return f"SELECT {wanted} FROM {table.quoted_name}"


def _ends(moment: str | None) -> str:
    return "min(moment), max(moment)" if moment else "NULL, NULL"


def _sample(
    connection: Connection, table: TableShape, rows: str, names: str
) -> list[tuple[Any, ...]]:
    """The different values among some rows from all over a table, by the index of its key."""
    found: dict[tuple[Any, ...], None] = {}
    for where in _places(connection, table):
        part = connection.exec_driver_sql(
            f"SELECT {names} FROM ({rows} {where} LIMIT {SAMPLE_ROWS}) AS t"
        )
        found.update(dict.fromkeys(map(tuple, part)))
    return list(found)


def _places(connection: Connection, table: TableShape) -> Iterator[str]:
    key = table.quoted_key
    for way in ("ASC", "DESC"):
        yield "ORDER BY " + ", ".join(f"{column} {way}" for column in key)
    if not table.key_is_integer:
        return
    least, most = (
        connection.exec_driver_sql(f"SELECT {end}({key[0]}) FROM {table.quoted_name}").scalar()
        for end in ("min", "max")
    )
    if isinstance(least, int) and isinstance(most, int):  # SQLite may hold anything
        for i in range(1, SAMPLES):
            start = least + (most - least) * i // SAMPLES
            yield f"WHERE {key[0]} >= {start} ORDER BY {key[0]}"
