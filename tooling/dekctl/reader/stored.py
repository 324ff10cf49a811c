"""What the database says of a row: its primary key as it is stored, its owner, and its keys.

A wrapped key is bound to the primary key *as the database stores it*, since that is what dekctl's
commands read. A model's value may differ: SQLAlchemy's Uuid is 32 digits in SQLite, PostgreSQL pads
a char(n), MariaDB truncates fractions of a second.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from dekctl.config import TableConfig
from dekctl.db.sql import kek_by_case
from dekctl.errors import DatabaseError, DekctlError, UsageError
from dekctl.reader.rows import RowClass, session_of

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    _Query = sa.Select[*tuple[Any, ...]]

PrimaryKey = tuple[Any, ...]

_UUID_DIGITS = 32
_ROWS_A_QUERY = 500
_FLUSH = "session.add(row) and session.flush() first, then issue(row)"


@dataclass(frozen=True, slots=True)
class Stored:
    """A row in the database: its primary key, its ``kek_by`` value, and whether it has a key."""

    primary_key: PrimaryKey
    owner: Any
    has_key: bool


class StoredRows:
    """Primary keys as they are stored, and questions to the database about rows."""

    def __init__(self, table: TableConfig, engine: sa.Engine | AsyncEngine | None) -> None:
        """``engine`` is the database; by default that of the first row with a session."""
        self.table = table
        given: Any = engine
        self._given: sa.Engine | None = getattr(given, "sync_engine", given)
        self.engine: sa.Engine | None = self._given
        self._types: dict[str, sa.types.TypeEngine[Any]] | None = None
        self._no_plaintext_column = False

    # -- the primary key -----------------------------------------------------------------------

    def primary_key(self, row: Any, kind: RowClass) -> PrimaryKey:
        """The primary key as the database stores it, as far as known without a query."""
        return tuple([self._converted(row, kind, name) for name in self.table.primary_key])

    def _converted(self, row: Any, kind: RowClass, name: str) -> Any:
        value = kind.get(row, name)
        if type(value) in (int, str, bytes) and kind.stores_as_is(name):
            return value
        if value is None:
            return None
        column = kind.column(name)
        bind = self.bind(row, kind)
        if bind is None or (column is None and not isinstance(value, UUID | date | time)):
            return value
        if isinstance(value, bytes):  # a bind processor would put it into the driver's wrapper
            return value
        sql_type = sa.literal(value).type if column is None else column.type
        process = sql_type.dialect_impl(bind.dialect).bind_processor(bind.dialect)
        return process(value) if process else value

    def other_key(self, row: Any, kind: RowClass) -> PrimaryKey:
        """The primary key with its UUIDs in the other spelling: text columns hold either one."""
        parts = []
        for name in self.table.primary_key:
            value, part = kind.get(row, name), self._converted(row, kind, name)
            if isinstance(value, UUID):
                part = value.hex if str(part) == str(value) else str(value)
            parts.append(part)
        return tuple(parts)

    def written_key(self, values: Sequence[Any]) -> PrimaryKey:
        """The primary key of a row that is not a model's instance, to bind a new key to.

        Raises:
            UsageError: it is not certain how the database will store it.
        """
        return tuple(map(self._written, self.table.primary_key, values))

    def _written(self, name: str, value: Any) -> Any:
        if not isinstance(value, UUID | date | time | Decimal):
            return value
        if type(value) is date and isinstance(self.known_type(name), sa.Date):
            return value
        if isinstance(value, UUID):
            kind = self.known_type(name)
            if isinstance(kind, sa.Uuid):
                return value
            if isinstance(kind, sa.String) and kind.length == _UUID_DIGITS:
                return value.hex  # as SQLAlchemy's Uuid does where the database has no UUID type
        raise UsageError(
            f"{name} is a {type(value).__name__}, and it is not known how the database stores it; "
            "the data key is bound to the stored value",
            hint="pass the value as it is stored (an int, a str or bytes), or flush a model's "
            "instance and issue for that; for a UUID or a date, RowKeys(…, engine=engine) may do",
        )

    def known_type(self, name: str) -> sa.types.TypeEngine[Any] | None:
        """A column's type in the database, if that was learned."""
        return (self._types or {}).get(name)

    def needs_types(self, values: Sequence[Any]) -> bool:
        """Whether :meth:`learn_types` would say how one of these values is stored."""
        unclear = any(isinstance(value, UUID) or type(value) is date for value in values)
        return unclear and self._types is None and self.engine is not None

    def learn_types(self, connection: sa.Connection) -> None:
        """Look up the types of the table's columns, once.

        Raises:
            DatabaseError: the database refused.
        """
        try:
            self._types = self._columns(connection)
        except SQLAlchemyError as error:
            raise refused("inspect the columns", error) from error

    def _columns(self, connection: sa.Connection) -> dict[str, sa.types.TypeEngine[Any]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", sa.exc.SAWarning)  # about unknown types
            found = sa.inspect(connection).get_columns(
                self.table.bare_name, schema=self.table.schema
            )
        return {column["name"]: column["type"] for column in found}

    # -- questions to the database --------------------------------------------------------------

    def has_plaintext_column(self, connection: sa.Connection, kind: RowClass) -> bool:
        """Whether the plaintext column is there; that it is gone is remembered."""
        if kind.column(self.table.plaintext_column) is not None:
            return True
        if not self._no_plaintext_column:
            self._no_plaintext_column = self.table.plaintext_column not in self._columns(connection)
        return not self._no_plaintext_column

    def ask(
        self, connection: sa.Connection, rows: Sequence[Any], kind: RowClass, *, lock: bool = False
    ) -> list[Stored]:
        """Look up rows of one model on their session's connection, and lock them if told to.

        Raises:
            DekctlError: a row has changes that are not flushed, or is not there.
            DatabaseError: the database refused.
        """
        for row in rows:
            self.refuse_unflushed(row, kind)
        try:
            if lock and not _locks(connection):
                self._lock_database(connection, rows[0], kind)
            with_plaintext = self.has_plaintext_column(connection, kind)
            query = self._query(kind, connection.dialect, with_plaintext=with_plaintext)
            query = query.with_for_update() if lock else query
            found = self._many(connection, rows, kind, query) if len(rows) > 1 else {}
            return [
                found.get(self._in_memory(row, kind)) or self._one(connection, row, kind, query)
                for row in rows
            ]
        except SQLAlchemyError as error:
            raise refused("read the primary key", error) from error

    def _one(self, connection: sa.Connection, row: Any, kind: RowClass, query: _Query) -> Stored:
        stored = connection.execute(query.where(*self._where(row, kind))).first()
        if stored is None:
            raise DekctlError(
                "the database has no row with this primary key: it was deleted, or its column "
                "truncates, rounds or pads the value",
                hint="set the key as its column stores it (without fractions of a second, for "
                "example), then session.flush() and issue(row)",
            )
        return _stored(stored)

    def _many(
        self, connection: sa.Connection, rows: Sequence[Any], kind: RowClass, query: _Query
    ) -> dict[PrimaryKey, Stored]:
        """Those rows whose key the database returns as it is in memory, by that key."""
        columns = [self._need(kind, name) for name in self.table.primary_key]
        query = query.add_columns(*columns).order_by(*columns)  # two workers lock in one order
        target: Any = columns[0] if len(columns) == 1 else sa.tuple_(*columns)
        found: dict[PrimaryKey, Stored] = {}
        keys = [self._in_memory(row, kind) for row in rows]
        for start in range(0, len(keys), _ROWS_A_QUERY):
            part = keys[start : start + _ROWS_A_QUERY]
            values = [key[0] for key in part] if len(columns) == 1 else part
            for row in connection.execute(query.where(target.in_(values))):
                found[tuple(row[-len(columns) :])] = _stored(row[: -len(columns)])
        return found

    def _in_memory(self, row: Any, kind: RowClass) -> PrimaryKey:
        return tuple(kind.get(row, name) for name in self.table.primary_key)

    def _lock_database(self, connection: sa.Connection, row: Any, kind: RowClass) -> None:
        """Take SQLite's lock, which an UPDATE takes before it reads, even one of no change."""
        column = self._need(kind, self.table.kek_column)
        target = column.table
        assert isinstance(target, sa.Table)
        where = self._where(row, kind)
        connection.execute(target.update().where(*where).values({column.name: column}))

    def refuse_unflushed(self, row: Any, kind: RowClass) -> None:
        """Check that a row is in the database, with the primary key that it has in memory.

        Raises:
            DekctlError: it is not.
        """
        state, table = sa.inspect(row), self.table
        bound = [*table.primary_key, *([table.kek_by.column] if table.kek_by else [])]
        pending = any(
            state.attrs[kind.attribute(name)].history.has_changes()
            for name in bound
            if kind.column(name) is not None
        )
        if not state.persistent or pending:
            raise DekctlError(
                "the row has changes that are not flushed; its data key is bound to what the "
                "database stores",
                hint=_FLUSH,
            )

    def clear_plaintexts(
        self, connection: sa.Connection, rows: Sequence[Any], kind: RowClass
    ) -> None:
        """Remove the plaintexts of rows whose model does not map the column, if it is there.

        All of them or none, since the application may commit what it can after an error.
        """
        table, column = self.table, self.table.plaintext_column
        columns: list[sa.ColumnClause[Any]] = [
            sa.column(name) for name in (column, *table.primary_key)
        ]
        target = sa.table(table.bare_name, *columns, schema=table.schema)
        try:
            if not self.has_plaintext_column(connection, kind):
                return
            with connection.begin_nested():
                for row in rows:
                    where = self._where(row, kind, target)
                    connection.execute(target.update().where(*where), {column: None})
        except SQLAlchemyError as error:
            raise refused("clear the old key", error) from error

    def _query(self, kind: RowClass, dialect: sa.Dialect, *, with_plaintext: bool) -> _Query:
        """Selects a row's key columns as the driver returns them, its owner and if it has a key."""
        table, kek_by, owner = self.table, self.table.kek_by, "NULL"
        columns = [kind.column(name) for name in table.primary_key]
        keys = [sa.type_coerce(c, sa.types.NullType()) for c in columns if c is not None]
        if kek_by is not None:
            known = kind.column(kek_by.column)
            number = known is not None and isinstance(known.type, sa.Integer)
            quoted = dialect.identifier_preparer.quote(kek_by.column)
            owner = kek_by_case(quoted, kek_by.keks, number=number)
        wrapped = self._need(kind, table.wrapped_column)
        has_key: sa.ColumnElement[bool] = wrapped.is_not(None)
        if with_plaintext:
            plaintext: sa.ColumnElement[Any] | None = kind.column(table.plaintext_column)
            if plaintext is None:  # in the same table, though the model does not map it
                plaintext = sa.column(table.plaintext_column, _selectable=wrapped.table)
            has_key = sa.or_(has_key, plaintext.is_not(None))
        return sa.select(*keys, sa.text(owner), sa.case((has_key, 1), else_=0))

    def _need(self, kind: RowClass, name: str) -> sa.Column[Any]:
        column = kind.column(name)
        if column is None:
            raise UsageError(
                f"the model {kind.name} has no column {name!r}",
                hint="map it, or correct its name in [table] of dekctl.toml",
            )
        return column

    def _where(
        self, row: Any, kind: RowClass, target: sa.TableClause | None = None
    ) -> list[sa.ColumnElement[bool]]:
        """The condition for one row of the model's table, or of ``target``."""
        conditions = []
        for name in self.table.primary_key:
            column = self._need(kind, name)
            value: Any = sa.literal(kind.get(row, name), column.type)
            if isinstance(column.type, sa.CHAR):
                # The driver for PostgreSQL sends a varchar, whose trailing spaces count.
                value = sa.cast(value, column.type)
            conditions.append((column if target is None else target.c[name]) == value)
        return conditions

    # -- the database --------------------------------------------------------------------------

    def connection(self, row: Any, kind: RowClass, *, to_write: bool) -> sa.Connection:
        """The connection of a row's session, within its transaction.

        A session may have one for reading and another one ``to_write``, by its ``get_bind``.
        """
        session = session_of(row, kind)
        assert session is not None
        assert kind.mapper is not None
        self.bind(row, kind)  # remembers the engine
        arguments: dict[str, Any] = {"mapper": kind.mapper}
        table = kind.mapper.local_table
        if to_write and isinstance(table, sa.Table):
            arguments["clause"] = table.update()
        return session.connection(bind_arguments=arguments)

    def shares_database(self, row: Any, kind: RowClass) -> bool:
        """Whether the row's session is connected to this table's database."""
        if session_of(row, kind) is None:
            return False
        bind = self.bind(row, kind)
        assert bind is not None
        return self._given is None or bind.engine.pool is self._given.pool

    def bind(self, row: Any, kind: RowClass) -> sa.Engine | sa.Connection | None:
        """What the row's session is bound to; without a session, the database known so far."""
        session = session_of(row, kind)
        if session is None:
            return self.engine
        bind: sa.Engine | sa.Connection = session.get_bind(kind.mapper)
        self.engine = self.engine or bind.engine
        return bind


def refused(what: str, error: SQLAlchemyError) -> DatabaseError:
    """Build the error for a statement about a row that the database did not run."""
    return DatabaseError(
        f"the database refused to {what} of the row: {type(error).__name__}", hint="see the cause"
    )


def _stored(row: Any) -> Stored:
    return Stored(tuple(row[:-2]), row[-2], bool(row[-1]))


def _locks(connection: sa.Connection) -> bool:
    """Whether the database has locks of rows: SQLite locks itself at the first write."""
    query = sa.select(sa.literal(1)).with_for_update()
    return "FOR UPDATE" in str(query.compile(dialect=connection.dialect))
