"""The table that holds the keys: what it looks like now, keyset pages of it, and safe writes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import DOMAIN

from dekctl.config import TableConfig
from dekctl.db.database import Database
from dekctl.db.inspection import Column, inspect_table
from dekctl.db.rows import KEY_COLUMNS, Change, PrimaryKey, Row, refuse_nameless
from dekctl.db.sql import owner_case, owner_condition
from dekctl.errors import RefusedError, UsageError

MOST_ROWS_READ = 20_000
"""No statement that looks for a shard's rows reads more than this, or a page if that is larger."""


class Stage(Enum):
    """Where the table stands in the parallel change; derived from its columns alone."""

    LEGACY = "legacy"
    EXPANDED = "expanded"
    CONTRACTED = "contracted"


@dataclass(frozen=True, slots=True)
class Shard:
    """One of ``count`` disjoint parts of the table; ``index`` counts from 1."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


class DekTable:
    """A configured table in a database, inspected once, when the object is made."""

    def __init__(self, database: Database, config: TableConfig) -> None:
        """Inspect the table.

        Raises:
            UsageError: the table, its primary key or its key columns are not as configured.
            DatabaseError: the database cannot be reached.
        """
        self.database = database
        self.config = config
        self.columns = inspect_table(database, config)
        self.stage = self._stage()
        quote = database.engine.dialect.identifier_preparer.quote
        self._quote = quote
        self.quoted_name = (f"{quote(config.schema)}." if config.schema else "") + quote(
            config.bare_name
        )
        self.quoted_key = [quote(column) for column in config.primary_key]
        self._names = {
            "plaintext": config.plaintext_column,
            "wrapped": config.wrapped_column,
            "version": config.version_column,
            "kek": config.kek_column,
            "wrapped_at": config.wrapped_at_column,
            "owner": config.kek_by.column if config.kek_by else None,
        }
        # What may be equal in more than one spelling: texts, and types that nobody knows.
        self.text_key = [
            quote(column)
            for column in config.primary_key
            if isinstance(self.columns[column].type, sa.String | sa.types.NullType | DOMAIN)
        ]
        """The quoted columns of the primary key that a collation compares."""
        self.plaintext_is_text = self.has("plaintext") and self.column("plaintext").is_text
        """Whether a plaintext is written as ``str``. Once the column is gone, the ledger knows."""

    def _stage(self) -> Stage:
        config = self.config
        owned = (config.wrapped_column, config.version_column, config.kek_column)
        there = [column in self.columns for column in owned]
        plaintext = config.plaintext_column in self.columns
        if all(there):
            return Stage.EXPANDED if plaintext else Stage.CONTRACTED
        if plaintext:
            return Stage.LEGACY
        raise UsageError(
            f"the table {config.name} has neither {config.plaintext_column} nor "
            f"{config.wrapped_column}",
            hint=f"its columns are: {', '.join(self.columns)}; correct [table]",
        )

    def refuse_ambiguous_key(self) -> None:
        """Refuse a primary key whose values differ to the database, and not in the context.

        Raises:
            RefusedError: its values are of more than one kind (SQLite).
        """
        with self.database.transaction(patient=True) as connection:
            column = self.database.backend.ambiguous_key(connection, self)
        if column is not None:
            raise RefusedError(
                f"{self.config.name}.{column} holds values of different kinds, which may read the "
                "same: keys that are bound to such rows could be exchanged",
                hint=f"see them with: SELECT typeof({column}), count(*) FROM {self.quoted_name} "
                "GROUP BY 1; bring them to one type, then run the same command again",
            )

    @property
    def key_is_integer(self) -> bool:
        """Whether the primary key is one column of integers."""
        first = self.columns[self.config.primary_key[0]].type
        return len(self.quoted_key) == 1 and isinstance(first, sa.Integer)

    # -- names and SQL -------------------------------------------------------------------------

    def quoted(self, column: str) -> str:
        """The quoted name of one of dekctl's columns (``plaintext``, ``wrapped``, …)."""
        name = self._names[column]
        assert name is not None
        return str(self._quote(name))

    def has(self, column: str) -> bool:
        """Whether the table has this one of dekctl's columns now."""
        return self._names[column] in self.columns

    def column(self, column: str) -> Column:
        """The description of one of dekctl's columns."""
        return self.columns[self._names[column] or ""]

    def fingerprint_of(self, alias: str | None = None, columns: Sequence[str] = KEY_COLUMNS) -> str:
        """SQL of the fingerprint over these columns of a row, taken from ``alias``."""
        prefix = f"{alias}." if alias else ""
        return self.database.backend.fingerprint(
            [
                (prefix + self.quoted(c), self.column(c).is_text) if self.has(c) else None
                for c in columns
            ]
        )

    @property
    def fingerprint_sql(self) -> str:
        """SQL of a row's fingerprint."""
        return self.fingerprint_of()

    def _selected(self, due: str) -> str:
        """The select list of a row: key columns only where ``due``, to keep the rest cheap."""
        parts = list(self.quoted_key)
        for name in KEY_COLUMNS:
            if not self.has(name):
                parts.append("NULL")
                continue
            sql = self.database.backend.selected(
                self.quoted(name), is_text=self.column(name).is_text
            )
            parts.append(f"CASE WHEN {due} THEN {sql} END")
        parts.append(f"CASE WHEN {due} THEN 1 ELSE 0 END")
        parts.append(self._owner())
        return ", ".join(parts)

    def is_owned_by(self, value: str) -> str:
        """SQL condition for the rows of one value of the ``kek_by`` column."""
        return owner_condition(self.quoted("owner"), value, number=self._owner_is_number)

    @property
    def _owner_is_number(self) -> bool:
        return isinstance(self.column("owner").type, sa.Integer)

    def _owner(self) -> str:
        """SQL of a row's owner as ``kek_by`` lists it."""
        if self.config.kek_by is None:
            return "NULL"
        keks = self.config.kek_by.keks
        return owner_case(self.quoted("owner"), keks, number=self._owner_is_number)

    def _shard_filter(self, shard: Shard | None) -> str | None:
        if shard is None:
            return None
        number = self.database.backend.shard_number(self.quoted_key, is_integer=self.key_is_integer)
        # abs() last: the lowest integer has no positive counterpart.
        return f"abs({number} % {shard.count}) = {shard.index - 1}"

    # -- reading -------------------------------------------------------------------------------

    def read(
        self,
        *,
        after: PrimaryKey | None,
        size: int,
        due: str,
        until: PrimaryKey | None = None,
        shard: Shard | None = None,
        cancel: threading.Event | None = None,
    ) -> list[Row]:
        """Read the next page in transactions of its own; empty at the end, or when cancelled.

        A shard may be sparse: the table is then looked through in steps of bounded length.
        """
        run = self.database.run
        bounded = shard is None or until is not None
        while cancel is None or not cancel.is_set():
            end = until
            if not bounded:
                assert shard is not None
                step = max(size, min(size * shard.count, MOST_ROWS_READ))
                end = run(lambda c, after=after, step=step: self.boundary(c, after, step))  # type: ignore[misc]
            rows = run(
                lambda c, after=after, end=end: self.page(  # type: ignore[misc]
                    c, after=after, size=size, due=due, until=end, shard=shard
                )
            )
            if rows or bounded or end is None:
                return rows
            after = end
        return []

    def page(
        self,
        connection: Connection,
        *,
        after: PrimaryKey | None,
        size: int,
        due: str,
        until: PrimaryKey | None = None,
        shard: Shard | None = None,
    ) -> list[Row]:
        """Read the next ``size`` rows in primary-key order, due or not.

        Because the page is bounded by rows read, not by rows found, no statement runs long on a
        table where little is left to do. A row that is not due carries its primary key only.

        Args:
            connection: an open transaction.
            after: the last primary key of the page before; None at the start.
            size: most rows to read.
            due: SQL condition for the rows that the operation has something to do with.
            until: the last primary key to read; None for the end of the table.
            shard: read only this part of the table.
        """
        where: list[str] = []
        parameters: dict[str, Any] = {}
        if after is not None:
            where.append(self._beyond(after, ">", "after", parameters))
        if until is not None:
            where.append(self._beyond(until, "<=", "until", parameters))
        part = self._shard_filter(shard)
        if part:
            where.append(part)
        statement = f"SELECT {self._selected(due)} FROM {self.quoted_name}"
        if where:
            statement += " WHERE " + " AND ".join(where)
        statement += f" ORDER BY {', '.join(self.quoted_key)} LIMIT {int(size)}"
        return self._rows(connection, statement, parameters)

    def boundary(
        self, connection: Connection, after: PrimaryKey | None, rows: int
    ) -> PrimaryKey | None:
        """The primary key ``rows`` rows further on in the index; None where the table ends before.

        Args:
            connection: an open transaction.
            after: where to begin; None at the start.
            rows: how many rows to step over.
        """
        parameters: dict[str, Any] = {}
        statement = f"SELECT {', '.join(self.quoted_key)} FROM {self.quoted_name}"
        if after is not None:
            statement += f" WHERE {self._beyond(after, '>', 'after', parameters)}"
        statement += f" ORDER BY {', '.join(self.quoted_key)} LIMIT 1 OFFSET {int(rows) - 1}"
        found = connection.execute(sa.text(statement), parameters).first()
        return tuple(found) if found is not None else None

    def fetch(self, connection: Connection, keys: Sequence[PrimaryKey], due: str) -> list[Row]:
        """Read these rows again, in primary-key order; those that are gone are left out."""
        rows: list[Row] = []
        for start in range(0, len(keys), 500):  # SQLite bounds the number of parameters
            parameters: dict[str, Any] = {}
            alternatives = []
            for i, key in enumerate(keys[start : start + 500]):
                names = [f"k{i}_{j}" for j in range(len(key))]
                parameters.update(zip(names, key, strict=True))
                equal = zip(self.quoted_key, names, strict=True)
                alternatives.append(" AND ".join(f"{column} = :{name}" for column, name in equal))
            statement = (
                f"SELECT {self._selected(due)} FROM {self.quoted_name} "
                f"WHERE {' OR '.join(f'({a})' for a in alternatives)} "
                f"ORDER BY {', '.join(self.quoted_key)}"
            )
            rows += self._rows(connection, statement, parameters)
        return rows

    def _rows(
        self, connection: Connection, statement: str, parameters: dict[str, Any]
    ) -> list[Row]:
        width = len(self.quoted_key)
        result = connection.execute(sa.text(statement), parameters)
        assert result.cursor is not None
        rows = result.cursor.fetchall()  # the driver's own tuples: half the time of SQLAlchemy's
        result.close()
        if width == 1:  # as nearly everywhere, and a third faster
            return [Row((pk,), p, w, v, k, due == 1, owner) for pk, p, w, v, k, due, owner in rows]
        parts = ((found[:width], found[width:]) for found in rows)
        return [Row(tuple(pk), p, w, v, k, due == 1, o) for pk, (p, w, v, k, due, o) in parts]

    def _beyond(
        self, key: PrimaryKey, operator: str, prefix: str, parameters: dict[str, Any]
    ) -> str:
        """SQL for ``primary key > key`` (or ``<=``) that an index on the key can serve."""
        refuse_nameless(key)
        names = [f"{prefix}{i}" for i in range(len(key))]
        parameters.update(zip(names, key, strict=True))
        return self.database.backend.compare_keys(
            self.quoted_key, operator, [f":{name}" for name in names]
        )

    def estimate_rows(self) -> int:
        """About how many rows the table has, without counting a large one."""
        with self.database.transaction() as connection:
            known = self.database.backend.estimate_rows(connection, self)
            if known is not None and known > 10_000:
                return known
            counted = connection.exec_driver_sql(
                f"SELECT count(*) FROM (SELECT 1 FROM {self.quoted_name} LIMIT 100000) AS t"
            )
            return int(counted.scalar_one())

    # -- writing -------------------------------------------------------------------------------

    def swap(
        self,
        connection: Connection,
        columns: Sequence[str],
        changes: list[Change],
        *,
        erase: bool = False,
    ) -> list[PrimaryKey]:
        """Write each change whose row is still as it was read (compare-and-swap).

        Args:
            connection: an open transaction, for writing.
            columns: what the values of every change set (``wrapped``, ``version``, …).
            changes: in primary-key order.
            erase: overwrite the plaintext in its place first, where the database writes in place.

        Returns:
            The primary keys of rows that had moved: another writer changed or removed them.
        """
        if not changes:
            return []
        backend = self.database.backend
        if erase and backend.writes_in_place:
            overwritten = [c.overwritten() for c in changes]
            backend.swap(connection, self, ("plaintext",), [first for first, _ in overwritten])
            written = backend.swap(connection, self, columns, [then for _, then in overwritten])
        else:
            written = backend.swap(connection, self, columns, changes)
        if written == len(changes):
            return []
        # Which ones? A row that is now as we wanted it was written, here or by a commit whose
        # answer we lost; every other one belongs to somebody else now.
        now = {
            row.pk: row.fingerprint()
            for row in self.fetch(connection, [c.row.pk for c in changes], due="1 = 1")
        }
        return [c.row.pk for c in changes if now.get(c.row.pk) != c.after(columns)]
