"""A row as an application passes it: a model's instance, a mapping, or a plain object.

A wrapped key is bound to the primary key *as the database stores it*, since that is what dekctl's
commands read. A model's value may differ: SQLAlchemy's Uuid is 32 digits in SQLite,
PostgreSQL pads a char(n), MariaDB truncates fractions of a second.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.exc import NoInspectionAvailable, SQLAlchemyError
from sqlalchemy.orm import Mapper, Session, object_session
from sqlalchemy.orm.attributes import flag_modified

from dekctl.config import TableConfig
from dekctl.db.sql import kek_by_case
from dekctl.errors import DatabaseError, DekctlError, UsageError

PrimaryKey = tuple[Any, ...]

_UUID_DIGITS = 32
_FLUSH = "session.add(row) and session.flush() first, then issue(row)"


@dataclass(frozen=True, slots=True)
class Stored:
    """A row's primary key as stored, and its owner in terms of ``kek_by``."""

    primary_key: PrimaryKey
    owner: Any


class ModelRows:
    """Reads and sets the columns of one table's rows, whatever their attributes are called."""

    def __init__(self, table: TableConfig, engine: sa.Engine | None = None) -> None:
        """``engine`` is the database; by default that of the first row with a session."""
        self.table = table
        self._given = engine
        self._seen = engine
        self._mapped: WeakKeyDictionary[Mapper[Any], dict[str, tuple[str, sa.Column[Any]]]]
        self._mapped = WeakKeyDictionary()
        self._types: dict[str, sa.types.TypeEngine[Any]] | None = None
        self._plaintext_is_gone = False

    # -- columns -------------------------------------------------------------------------------

    def get(self, row: Any, column: str) -> Any:
        """The value of a column; None where the row has no such column."""
        if isinstance(row, Mapping):
            return row.get(column)
        return getattr(row, self._attribute(row, column), None)

    def set(self, row: Any, column: str, value: Any) -> None:
        """Set a column, and have the session write it even if it looks unchanged."""
        if isinstance(row, MutableMapping):
            row[column] = value
            return
        attribute = self._attribute(row, column)
        setattr(row, attribute, value)
        if mapper_of(row) is not None:
            # SQLAlchemy writes net changes only, and another writer may have changed this column
            # since the row was read. All columns of a new key must be written together.
            flag_modified(row, attribute)

    def now(self, row: Any, column: str) -> datetime:
        """The time now in UTC, with a zone where the column has one."""
        known = self._column(row, column)
        moment = datetime.now(UTC)
        if known is not None and getattr(known.type, "timezone", False):
            return moment
        return moment.replace(tzinfo=None)

    def drop_plaintext(self, row: Any) -> None:
        """Remove the old key, which ``wrap --stale`` would take for the current one.

        The model may have lost the attribute while the database still has the column; the column
        is then cleared on the session's connection, in the same transaction.

        Raises:
            DatabaseError: the database refused.
        """
        table, column = self.table, self.table.plaintext_column
        attribute = self._attribute(row, column)
        if column in row if isinstance(row, Mapping) else hasattr(row, attribute):
            self.set(row, column, None)
            return
        if self._plaintext_is_gone or session_of(row) is None:
            return
        try:
            connection = self.connection(row)
            found = sa.inspect(connection).get_columns(table.bare_name, schema=table.schema)
            if not any(known["name"] == column for known in found):
                self._plaintext_is_gone = (
                    True  # remembered; a column that exists may be dropped later
                )
                return
            columns: list[sa.ColumnClause[Any]] = [
                sa.column(name) for name in (column, *table.primary_key)
            ]
            target = sa.table(table.bare_name, *columns, schema=table.schema)
            where = self._where(row, target)
            connection.execute(target.update().where(*where), {column: None})
        except SQLAlchemyError as error:
            raise _refused("clear the old key", error) from error

    def _attribute(self, row: Any, column: str) -> str:
        """The model's attribute for a column, which may have another name."""
        known = self._known(row).get(column)
        return known[0] if known else column

    def _column(self, row: Any, column: str) -> sa.Column[Any] | None:
        known = self._known(row).get(column)
        return known[1] if known else None

    def _known(self, row: Any) -> dict[str, tuple[str, sa.Column[Any]]]:
        """A model's attribute and column by column name; empty for anything else."""
        mapper = mapper_of(row)
        if mapper is None:
            return {}
        if mapper not in self._mapped:
            found: dict[str, tuple[str, sa.Column[Any]]] = {}
            for attribute in mapper.column_attrs:
                for column in attribute.columns:
                    if not isinstance(column, sa.Column):
                        continue
                    # With joined inheritance another table may have a column of the same name.
                    own = getattr(column.table, "name", None) == self.table.bare_name
                    if own or column.name not in found:
                        found[column.name] = (attribute.key, column)
            self._mapped[mapper] = found
        return self._mapped[mapper]

    # -- the primary key -----------------------------------------------------------------------

    def primary_key(self, row: Any) -> PrimaryKey:
        """The primary key as the database stores it, as far as known without a query."""
        return tuple(self._converted(row, column) for column in self.table.primary_key)

    def other_key(self, row: Any) -> PrimaryKey:
        """The primary key with its UUIDs in the other spelling: text columns hold either one."""
        parts = []
        for column in self.table.primary_key:
            value, part = self.get(row, column), self._converted(row, column)
            if isinstance(value, UUID):
                part = value.hex if str(part) == str(value) else str(value)
            parts.append(part)
        return tuple(parts)

    def written_key(self, row: Any) -> PrimaryKey:
        """The primary key of a row that is not a model's instance, to bind a new key to.

        Raises:
            UsageError: it is not certain how the database will store it.
        """
        return tuple(self._written(row, column) for column in self.table.primary_key)

    def _written(self, row: Any, name: str) -> Any:
        value = self.get(row, name)
        if not isinstance(value, UUID | date | time | Decimal):
            return value
        if type(value) is date and isinstance(self._type_of(name), sa.Date):
            return value
        if isinstance(value, UUID):
            kind = self._type_of(name)
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

    def _type_of(self, name: str) -> sa.types.TypeEngine[Any] | None:
        """A column's type in the database; None where no database is known."""
        if self._types is None and self._seen is not None:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", sa.exc.SAWarning)  # about unknown types
                    found = sa.inspect(self._seen).get_columns(
                        self.table.bare_name, schema=self.table.schema
                    )
            except SQLAlchemyError as error:
                raise _refused("inspect the columns", error) from error
            self._types = {column["name"]: column["type"] for column in found}
        return (self._types or {}).get(name)

    def ask(self, row: Any) -> Stored:
        """Read what a new key will be bound to, on the session's connection.

        Raises:
            DekctlError: the row has changes that are not flushed.
            DatabaseError: the database refused.
        """
        state = sa.inspect(row)
        table = self.table
        bound = [*table.primary_key, *([table.kek_by.column] if table.kek_by else [])]
        pending = any(
            state.attrs[self._attribute(row, name)].history.has_changes()
            for name in bound
            if name in self._known(row)
        )
        if not state.persistent or pending:
            raise DekctlError(
                "the row has changes that are not flushed; its data key is bound to what "
                "the database stores",
                hint=_FLUSH,
            )
        try:
            connection = self.connection(row)
            found = connection.execute(self._query(row, connection.dialect)).first()
        except SQLAlchemyError as error:
            raise _refused("read the primary key", error) from error
        if found is None:
            raise DekctlError(
                "the database has no row with this primary key: it was deleted, or its column "
                "truncates, rounds or pads the value",
                hint="set the key as its column stores it (without fractions of a second, for "
                "example), then session.flush() and issue(row)",
            )
        return Stored(tuple(found[:-1]), found[-1])

    def _query(self, row: Any, dialect: sa.Dialect) -> sa.Select[*tuple[Any, ...]]:
        """Selects one row's key columns as the driver returns them, and its owner."""
        kek_by, owner = self.table.kek_by, "NULL"
        columns = [self._column(row, name) for name in self.table.primary_key]
        keys = [sa.type_coerce(c, sa.types.NullType()) for c in columns if c is not None]
        if kek_by is not None:
            known = self._column(row, kek_by.column)
            number = known is not None and isinstance(known.type, sa.Integer)
            quoted = dialect.identifier_preparer.quote(kek_by.column)
            owner = kek_by_case(quoted, kek_by.keks, number=number)
        return sa.select(*keys, sa.text(owner)).where(*self._where(row))

    def _where(
        self, row: Any, target: sa.TableClause | None = None
    ) -> list[sa.ColumnElement[bool]]:
        """The condition for one row of the model's table, or of ``target``."""
        conditions = []
        for name in self.table.primary_key:
            column = self._column(row, name)
            if column is None:
                raise UsageError(
                    f"the model {type(row).__name__} has no column {name!r}, named in primary_key",
                    hint="correct primary_key in [table], or add the column to the model",
                )
            value: Any = sa.literal(self.get(row, name), column.type)
            if isinstance(column.type, sa.CHAR):
                # The driver for PostgreSQL sends a varchar, whose trailing spaces count.
                value = sa.cast(value, column.type)
            conditions.append((column if target is None else target.c[name]) == value)
        return conditions

    def _converted(self, row: Any, name: str) -> Any:
        value = self.get(row, name)
        bind = self._bind(row)
        if value is None or bind is None:
            return value
        dialect = bind.dialect
        column = self._column(row, name)
        if column is None and not isinstance(value, UUID | date | time):
            return value
        if isinstance(value, bytes):  # a bind processor would put it into the driver's wrapper
            return value
        kind = sa.literal(value).type if column is None else column.type
        process = kind.dialect_impl(dialect).bind_processor(dialect)
        return process(value) if process else value

    # -- the database --------------------------------------------------------------------------

    def connection(self, row: Any) -> sa.Connection:
        """The connection of a row's session, within its transaction."""
        session = object_session(row)
        assert session is not None
        self._bind(row)  # remembers the engine
        return session.connection(bind_arguments={"mapper": mapper_of(row)})

    def shares_database(self, row: Any) -> bool:
        """Whether the row's session is connected to this table's database."""
        bind = self._bind(row)
        if bind is None or session_of(row) is None:
            return False
        return self._given is None or bind.engine.pool is self._given.pool

    def _bind(self, row: Any) -> sa.Engine | sa.Connection | None:
        """What the row's session is bound to; without a session, the database known so far."""
        session = session_of(row)
        if session is None:
            return self._seen
        bind = session.get_bind(mapper_of(row))
        self._seen = self._seen or bind.engine
        return bind

    @property
    def engine(self) -> sa.Engine | None:
        """The engine that was passed, or that of the first row with a session."""
        return self._seen


def mapper_of(row: Any) -> Mapper[Any] | None:
    """The mapper of a model's instance; None for anything else."""
    try:
        return sa.inspect(type(row)) if not isinstance(row, Mapping) else None
    except NoInspectionAvailable:
        return None


def session_of(row: Any) -> Session | None:
    """The session that a model's instance belongs to, if any."""
    return object_session(row) if mapper_of(row) is not None else None


def _refused(what: str, error: SQLAlchemyError) -> DatabaseError:
    return DatabaseError(
        f"the database refused to {what} of the row: {type(error).__name__}",
        hint="the cause has the details; with an AsyncSession: "
        "await session.run_sync(lambda _: keys.issue(row))",
    )
