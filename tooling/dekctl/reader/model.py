"""A row as an application hands it over: a model's instance, a mapping, or a plain object.

What a wrapped key is bound to is the primary key *as the database stores it*, which is what
dekctl's own walk reads. A model's value may be another: SQLAlchemy's Uuid is 32 digits in SQLite,
PostgreSQL pads a char(n), MariaDB cuts fractions of a second.
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
from dekctl.db.sql import owner_case
from dekctl.errors import DatabaseError, DekctlError, UsageError

PrimaryKey = tuple[Any, ...]

_UUID_DIGITS = 32
_FLUSH = "session.add(row) and session.flush() first, then issue(row)"


@dataclass(frozen=True, slots=True)
class Stored:
    """What the database says of a row: its primary key, and the owner that ``kek_by`` lists."""

    primary_key: PrimaryKey
    owner: Any


class ModelRows:
    """Reads and sets the columns of one table's rows, whatever the application calls them."""

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
        """Set a column, and have a session write it whether it looks changed or not."""
        if isinstance(row, MutableMapping):
            row[column] = value
            return
        attribute = self._attribute(row, column)
        setattr(row, attribute, value)
        if mapper_of(row) is not None:
            # SQLAlchemy writes net changes only. Another writer may have changed this column since
            # the row was read: what belongs to the new key is written together or not at all.
            flag_modified(row, attribute)

    def now(self, row: Any, column: str) -> datetime:
        """The time now in UTC, with a zone where the column has one."""
        known = self._column(row, column)
        moment = datetime.now(UTC)
        if known is not None and getattr(known.type, "timezone", False):
            return moment
        return moment.replace(tzinfo=None)

    def drop_plaintext(self, row: Any) -> None:
        """Remove the old key: beside the new one it would look like the truth to ``wrap --stale``.

        A model may have dropped the attribute while the database still has the column; a session
        is then asked to clear it in the same transaction.

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
                self._plaintext_is_gone = True  # only this: one that is there may be gone later
                return
            columns: list[sa.ColumnClause[Any]] = [
                sa.column(name) for name in (column, *table.primary_key)
            ]
            target = sa.table(table.bare_name, *columns, schema=table.schema)
            where = self._where(row, target)
            connection.execute(target.update().where(*where), {column: None})
        except SQLAlchemyError as error:
            raise _refused("clear the old key of", error) from error

    def _attribute(self, row: Any, column: str) -> str:
        """The model attribute of a column: it may be called otherwise."""
        known = self._known(row).get(column)
        return known[0] if known else column

    def _column(self, row: Any, column: str) -> sa.Column[Any] | None:
        known = self._known(row).get(column)
        return known[1] if known else None

    def _known(self, row: Any) -> dict[str, tuple[str, sa.Column[Any]]]:
        """The attribute and the column of a model for each column's name; nothing for others."""
        mapper = mapper_of(row)
        if mapper is None:
            return {}
        if mapper not in self._mapped:
            found: dict[str, tuple[str, sa.Column[Any]]] = {}
            for attribute in mapper.column_attrs:
                for column in attribute.columns:
                    if not isinstance(column, sa.Column):
                        continue
                    # With joined tables another one may have a column of the same name.
                    own = getattr(column.table, "name", None) == self.table.bare_name
                    if own or column.name not in found:
                        found[column.name] = (attribute.key, column)
            self._mapped[mapper] = found
        return self._mapped[mapper]

    # -- the primary key -----------------------------------------------------------------------

    def primary_key(self, row: Any) -> PrimaryKey:
        """The primary key as the database stores it, as far as that is known without asking it."""
        return tuple(self._converted(row, column) for column in self.table.primary_key)

    def other_key(self, row: Any) -> PrimaryKey:
        """The primary key with its UUIDs spelled the other way: a text column may hold either."""
        parts = []
        for column in self.table.primary_key:
            value, part = self.get(row, column), self._converted(row, column)
            if isinstance(value, UUID):
                part = value.hex if str(part) == str(value) else str(value)
            parts.append(part)
        return tuple(parts)

    def written_key(self, row: Any) -> PrimaryKey:
        """The primary key of a row that is no model's, for a key that is bound to it for good.

        Raises:
            UsageError: how the database will store it is not certain.
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
                return value.hex  # as SQLAlchemy's Uuid where the database has no such type
        raise UsageError(
            f"{name} is a {type(value).__name__}; how the database stores it, and so what the data "
            "key is bound to, is not known here",
            hint="give it as it is stored (an int, a str or bytes), or flush a model's instance "
            "and issue for that; of a UUID or a date RowKeys(…, engine=engine) may know it",
        )

    def _type_of(self, name: str) -> sa.types.TypeEngine[Any] | None:
        """The type of a column in the database; None where no database is known."""
        if self._types is None and self._seen is not None:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", sa.exc.SAWarning)  # types it does not know
                    found = sa.inspect(self._seen).get_columns(
                        self.table.bare_name, schema=self.table.schema
                    )
            except SQLAlchemyError as error:
                raise _refused("look at the columns of", error) from error
            self._types = {column["name"]: column["type"] for column in found}
        return (self._types or {}).get(name)

    def ask(self, row: Any) -> Stored:
        """Read from the database what a new key will be bound to, on the session's connection.

        Raises:
            DekctlError: the row is not in the database as it is in memory: flush first.
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
                "the row is not in the database as it is in memory, and its data key is bound to "
                "what is stored there",
                hint=_FLUSH,
            )
        try:
            connection = self.connection(row)
            found = connection.execute(self._query(row, connection.dialect)).first()
        except SQLAlchemyError as error:
            raise _refused("read the primary key of", error) from error
        if found is None:
            raise DekctlError(
                "the database has no row of the primary key that is in memory: it was deleted, or "
                "its column cuts, rounds or pads what it is given",
                hint="give the key as its column stores it (without fractions of a second, say), "
                "then session.flush() and issue(row)",
            )
        return Stored(tuple(found[:-1]), found[-1])

    def _query(self, row: Any, dialect: sa.Dialect) -> sa.Select[*tuple[Any, ...]]:
        """Of one row: the key columns as the driver gives them, and its owner."""
        kek_by, owner = self.table.kek_by, "NULL"
        columns = [self._column(row, name) for name in self.table.primary_key]
        keys = [sa.type_coerce(c, sa.types.NullType()) for c in columns if c is not None]
        if kek_by is not None:
            known = self._column(row, kek_by.column)
            number = known is not None and isinstance(known.type, sa.Integer)
            quoted = dialect.identifier_preparer.quote(kek_by.column)
            owner = owner_case(quoted, kek_by.keks, number=number)
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
                    hint="correct primary_key in [table], or the model",
                )
            value: Any = sa.literal(self.get(row, name), column.type)
            if isinstance(column.type, sa.CHAR):
                # PostgreSQL's driver says it is a varchar, whose trailing spaces count.
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
        if isinstance(value, bytes):  # drivers have wrappers of their own for it
            return value
        kind = sa.literal(value).type if column is None else column.type
        process = kind.dialect_impl(dialect).bind_processor(dialect)
        return process(value) if process else value

    # -- the database --------------------------------------------------------------------------

    def connection(self, row: Any) -> sa.Connection:
        """The connection of a row's session, within its transaction."""
        session = object_session(row)
        assert session is not None
        self._bind(row)  # remembers it
        return session.connection(bind_arguments={"mapper": mapper_of(row)})

    def shares_database(self, row: Any) -> bool:
        """Whether a row's session can be asked for what is in the database of this table."""
        bind = self._bind(row)
        if bind is None or session_of(row) is None:
            return False
        return self._given is None or bind.engine.pool is self._given.pool

    def _bind(self, row: Any) -> sa.Engine | sa.Connection | None:
        """What a row's session is bound to; for a row without one, the database known so far."""
        session = session_of(row)
        if session is None:
            return self._seen
        bind = session.get_bind(mapper_of(row))
        self._seen = self._seen or bind.engine
        return bind

    @property
    def engine(self) -> sa.Engine | None:
        """The database that was given, or that of the first row with a session."""
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
        f"the database did not let {what} the row: {type(error).__name__}",
        hint="look at the cause; with an AsyncSession: "
        "await session.run_sync(lambda _: keys.issue(row))",
    )
