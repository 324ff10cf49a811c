"""The table that holds the keys: what it looks like now, keyset pages of it, and safe writes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import NoSuchTableError

from dekctl.config import TableConfig
from dekctl.db.database import Database
from dekctl.db.literal import owner_case, owner_condition
from dekctl.db.rows import KEY_COLUMNS, Change, PrimaryKey, Row, refuse_nameless
from dekctl.errors import UsageError


class Stage(Enum):
    """Where the table stands in the parallel change; derived from its columns alone."""

    LEGACY = "legacy"
    EXPANDED = "expanded"
    CONTRACTED = "contracted"


@dataclass(frozen=True, slots=True)
class Column:
    """A column as the database describes it."""

    name: str
    type: sa.types.TypeEngine[Any]
    nullable: bool
    default: str | None
    comment: str | None

    @property
    def is_text(self) -> bool:
        """Whether the driver gives ``str`` for it."""
        return isinstance(self.type, sa.String)

    @property
    def is_binary(self) -> bool:
        """Whether the driver gives ``bytes``; SQLite's column without a type may hold anything."""
        return isinstance(self.type, sa.types._Binary | sa.types.NullType)


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
        self.columns = self._inspect()
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
        self.plaintext_is_text = self.has("plaintext") and self.column("plaintext").is_text
        """Whether a plaintext is written as ``str``. Once the column is gone, the ledger knows."""

    def _inspect(self) -> dict[str, Column]:
        config = self.config
        if config.schema and self.database.backend.name == "sqlite":
            raise UsageError(
                f"SQLite has no schema {config.schema!r}",
                hint="correct `name` in [table]: a table's name alone",
            )
        # Through a transaction of ours, so that an unreachable server becomes our error.
        with self.database.transaction() as connection, warnings.catch_warnings():
            # Of types and indexes that SQLAlchemy does not know, and that dekctl does not use.
            warnings.simplefilter("ignore", sa.exc.SAWarning)
            inspector = sa.inspect(connection)
            try:
                found = inspector.get_columns(config.bare_name, schema=config.schema)
                key = inspector.get_pk_constraint(config.bare_name, schema=config.schema)
                unique = inspector.get_unique_constraints(config.bare_name, schema=config.schema)
                indexes = inspector.get_indexes(config.bare_name, schema=config.schema)
            except NoSuchTableError:
                raise UsageError(
                    f"the table {config.name} does not exist",
                    hint="correct `name` in [table], or database_url in the environment",
                ) from None
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
            if not self.database.backend.is_ordered(columns[column].type):
                raise UsageError(
                    f"{config.name}.{column}, named in primary_key, is {columns[column].type!r}, "
                    "which is sorted in one order and compared in another",
                    hint="set primary_key in [table] to another unique key of the table",
                )
        keys: list[list[str | None]] = [list(key.get("constrained_columns") or [])]
        keys += [list(constraint["column_names"]) for constraint in unique]
        keys += [list(index["column_names"]) for index in indexes if index["unique"]]
        nullable = [c for c in config.primary_key if columns[c].nullable and c not in keys[0]]
        if nullable or not any(k and set(k) == set(config.primary_key) for k in keys):
            actual = ", ".join(filter(None, keys[0])) or "none"
            raise UsageError(
                f"primary_key ({', '.join(config.primary_key)}) is not a unique key of "
                f"{config.name}; its primary key is: {actual}",
                hint="set primary_key in [table] to the table's primary key",
            )
        return columns

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

    def fingerprint_of(self, alias: str | None = None) -> str:
        """SQL of a row's fingerprint, its columns taken from ``alias``."""
        prefix = f"{alias}." if alias else ""
        return self.database.backend.fingerprint(
            [
                (prefix + self.quoted(c), self.column(c).is_text) if self.has(c) else None
                for c in KEY_COLUMNS
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
        first = self.columns[self.config.primary_key[0]].type
        number = self.database.backend.shard_number(
            self.quoted_key, is_integer=len(self.quoted_key) == 1 and isinstance(first, sa.Integer)
        )
        # abs() last: the lowest integer has no positive counterpart.
        return f"abs({number} % {shard.count}) = {shard.index - 1}"

    # -- reading -------------------------------------------------------------------------------

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
        return [
            Row(
                tuple(found[:width]),
                found[width],
                found[width + 1],
                found[width + 2],
                found[width + 3],
                bool(found[width + 4]),
                found[width + 5],
            )
            for found in rows
        ]

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
