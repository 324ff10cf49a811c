"""A row as an application passes it, and how its columns are read and set.

A row is an instance of a mapped class, a mapping, a ``Row`` of a query, or a plain object with the
columns as attributes. How to read it depends on its class alone, and is worked out once for each.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any, ClassVar, Protocol
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.exc import NoInspectionAvailable, SQLAlchemyError
from sqlalchemy.orm import Mapper, Session, object_session
from sqlalchemy.orm.attributes import flag_modified
from sqlalchemy.orm.exc import DetachedInstanceError
from sqlalchemy.util.concurrency import in_greenlet  # what its dialects use; no other tells

from dekctl.config import TableConfig
from dekctl.errors import DatabaseError, UsageError


class _Mapped(Protocol):
    __mapper__: ClassVar[Any]


class _DataClass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


class _NamedTuple(Protocol):
    def _asdict(self) -> dict[str, Any]: ...


Row = Mapping[str, Any] | _Mapped | _DataClass | _NamedTuple
"""What :class:`dekctl.reader.RowKeys` takes as a row. A type checker refuses texts and numbers."""

_NOT_ROWS = (str, bytes, bytearray, memoryview, int, float, type(None), list, set, frozenset)


class RowClass:
    """Reads and sets columns of rows of one class: here, of plain objects."""

    mapper: Mapper[Any] | None = None

    def __init__(self, kind: type) -> None:
        self.name = kind.__name__
        frozen = getattr(getattr(kind, "__dataclass_params__", None), "frozen", False)
        self.read_only = frozen or issubclass(kind, tuple | sa.Row)

    def get(self, row: Any, column: str) -> Any:
        """The value of a column.

        Raises:
            UsageError: the row has no such column, or it is not loaded.
            DatabaseError: the database refused to load it.
        """
        try:
            return getattr(row, column)
        except AttributeError:
            raise missing(self.name, column) from None

    def peek(self, row: Any, column: str) -> Any:
        """The value of a column in memory; None where there is none."""
        return getattr(row, column, None)

    def has(self, row: Any, column: str) -> bool:
        """Whether the row has a column, loaded or not."""
        return hasattr(row, column)

    def set(self, row: Any, column: str, value: Any) -> None:
        """Set a column.

        Raises:
            UsageError: rows of this class cannot be changed.
        """
        try:
            setattr(row, column, value)
        except (AttributeError, TypeError):
            raise read_only(self.name) from None

    def column(self, column: str) -> sa.Column[Any] | None:  # noqa: ARG002 - a model's only
        """The column of the model's table; None for rows that are not a model's."""
        return None

    def attribute(self, column: str) -> str:
        """The name of the attribute for a column."""
        return column

    def stores_as_is(self, column: str) -> bool:  # noqa: ARG002 - what is no model's is as stored
        """Whether an int, a str or bytes goes into the database unchanged."""
        return True


class MappingClass(RowClass):
    """Reads and sets items of mappings."""

    def __init__(self, kind: type) -> None:
        super().__init__(kind)
        self.read_only = not issubclass(kind, MutableMapping)

    def get(self, row: Any, column: str) -> Any:
        try:
            return row[column]
        except KeyError:
            raise missing(self.name, column) from None

    def peek(self, row: Any, column: str) -> Any:
        return row.get(column)

    def has(self, row: Any, column: str) -> bool:
        return column in row

    def set(self, row: Any, column: str, value: Any) -> None:
        row[column] = value


class ModelClass(RowClass):
    """Reads and sets attributes of a mapped class, which may have other names than the columns."""

    def __init__(self, kind: type, mapper: Mapper[Any], table: TableConfig) -> None:
        super().__init__(kind)
        self.mapper = mapper
        self._attributes: dict[str, str] = {}
        self._columns: dict[str, sa.Column[Any]] = {}
        for attribute in mapper.column_attrs:
            for column in attribute.columns:
                if not isinstance(column, sa.Column):
                    continue
                # With joined inheritance another table may have a column of the same name.
                own = getattr(column.table, "name", None) == table.bare_name
                if own or column.name not in self._columns:
                    self._attributes[column.name] = attribute.key
                    self._columns[column.name] = column
        self._converts = {
            name
            for name, column in self._columns.items()
            if not isinstance(column.type, sa.Integer | sa.String | sa.LargeBinary)
            or isinstance(column.type, sa.Enum)  # a TypeDecorator is of none of these classes
        }

    def get(self, row: Any, column: str) -> Any:
        # Past SQLAlchemy's instrumentation, which takes five times as long.
        attribute = self._attributes.get(column, column)
        try:
            return row.__dict__[attribute]
        except KeyError:
            return self._load(row, column, attribute)

    def _load(self, row: Any, column: str, attribute: str) -> Any:
        """Read what is not in memory, as the application would: an expired or deferred column."""
        not_loaded = UsageError(
            f"{self.name}.{attribute} is not loaded",
            hint="load the column with the row (it is deferred, expired or left out by "
            "load_only), or refresh the row",
        )
        session = object_session(row)
        if session is not None and column in self._attributes and not _may_ask_of(session, self):
            raise not_loaded
        try:
            return getattr(row, attribute)
        except AttributeError:
            raise missing(self.name, column) from None
        except DetachedInstanceError as error:
            raise not_loaded from error
        except SQLAlchemyError as error:
            raise DatabaseError(
                f"the database refused to load {self.name}.{attribute}: {type(error).__name__}",
                hint="see the cause",
            ) from error

    def peek(self, row: Any, column: str) -> Any:
        return row.__dict__.get(self._attributes.get(column, column))

    def has(self, row: Any, column: str) -> bool:
        return column in self._attributes or hasattr(type(row), column)

    def set(self, row: Any, column: str, value: Any) -> None:
        attribute = self._attributes.get(column, column)
        setattr(row, attribute, value)
        # SQLAlchemy writes net changes only, and another writer may have changed this column since
        # the row was read. All columns of a new key must be written together.
        flag_modified(row, attribute)

    def column(self, column: str) -> sa.Column[Any] | None:
        return self._columns.get(column)

    def attribute(self, column: str) -> str:
        return self._attributes.get(column, column)

    def stores_as_is(self, column: str) -> bool:
        return column not in self._converts


class RowClasses:
    """The classes of rows met so far."""

    def __init__(self, table: TableConfig) -> None:
        self._table = table
        self._known: WeakKeyDictionary[type, RowClass] = WeakKeyDictionary()

    def of(self, row: Any) -> RowClass:
        """How to read a row.

        Raises:
            UsageError: it is not a row.
        """
        kind = type(row)
        known = self._known.get(kind)
        if known is None:
            known = self._known[kind] = self._learn(kind)
        return known

    def _learn(self, kind: type) -> RowClass:
        if issubclass(kind, _NOT_ROWS) or issubclass(kind, type):
            raise UsageError(
                f"{kind.__name__} is not a row",
                hint="pass an instance of the model, a Row, or a mapping of column names to values",
            )
        if issubclass(kind, Mapping):
            return MappingClass(kind)
        try:
            mapper: Mapper[Any] = sa.inspect(kind)
        except NoInspectionAvailable:
            return RowClass(kind)
        return ModelClass(kind, mapper, self._table)


def session_of(row: Any, kind: RowClass) -> Session | None:
    """The session that a model's instance belongs to, if any."""
    return object_session(row) if kind.mapper is not None else None


def may_ask(dialect: sa.Dialect) -> bool:
    """Whether a database can be asked here: an asynchronous driver only within ``run_sync``."""
    return not dialect.is_async or in_greenlet()


def _may_ask_of(session: Session, kind: RowClass) -> bool:
    return may_ask(session.get_bind(kind.mapper).dialect)


def missing(class_name: str, column: str) -> UsageError:
    """Build the error for a row without a column that is needed."""
    return UsageError(
        f"the row (a {class_name}) has no {column!r}",
        hint=f"select or map the column {column}, or correct its name in [table] of dekctl.toml",
    )


def read_only(class_name: str) -> UsageError:
    """Build the error for a row that cannot be given a key."""
    return UsageError(
        f"a {class_name} cannot be changed, so no key can be stored in it",
        hint="issue for an instance of the model or a dict, or store what issue_for returns",
    )
