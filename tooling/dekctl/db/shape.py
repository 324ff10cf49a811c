"""The shape of the table that holds the keys: its columns, its stage, and the SQL that names them.

No database is asked here. Dialects take a shape, so they need to know nothing of
:class:`dekctl.db.table.DekTable`, which is a shape with a database behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import DOMAIN
from sqlalchemy.sql.compiler import IdentifierPreparer

from dekctl.config import TableConfig
from dekctl.db.row import KEY_COLUMNS
from dekctl.db.sql import kek_by_case, kek_by_condition
from dekctl.errors import UsageError


class Stage(Enum):
    """Where the table stands in the migration; derived from its columns alone."""

    LEGACY = "legacy"
    EXPANDED = "expanded"
    CONTRACTED = "contracted"


@dataclass(frozen=True, slots=True)
class Shard:
    """One of ``count`` disjoint parts of the table; ``index`` starts at 1."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


@dataclass(frozen=True, slots=True)
class Column:
    """A column as the database describes it."""

    name: str
    type: sa.types.TypeEngine[Any]
    nullable: bool
    default: str | None
    comment: str | None
    generated: bool = False
    """Whether the server computes it, so that nobody can write to it."""

    @property
    def base_type(self) -> sa.types.TypeEngine[Any]:
        """Its type; of a domain, the type that it is over."""
        kind = self.type
        while isinstance(kind, DOMAIN):
            kind = kind.data_type
        return kind

    @property
    def is_text(self) -> bool:
        """Whether the driver returns ``str`` for it."""
        return isinstance(self.base_type, sa.String)

    @property
    def is_binary(self) -> bool:
        """Whether the driver returns ``bytes``; an SQLite column without a type may hold either."""
        return isinstance(self.base_type, sa.types._Binary | sa.types.NullType)


class ColumnSQL(Protocol):
    """What a shape needs from a dialect; see :class:`dekctl.db.dialect.Dialect`."""

    def selected(self, column: str, *, is_text: bool) -> str: ...

    def fingerprint(self, columns: Sequence[tuple[str, bool] | None]) -> str: ...

    def has_collation(self, kind: sa.types.TypeEngine[Any]) -> bool: ...

    def stored_time(self, kind: sa.types.TypeEngine[Any], moment: datetime) -> Any: ...


class TableShape:
    """A configured table as it was inspected. Key columns go by dekctl's own names.

    These are ``plaintext``, ``wrapped``, ``version``, ``kek``, ``wrapped_at`` and ``kek_by``.
    """

    def __init__(
        self,
        config: TableConfig,
        columns: Mapping[str, Column],
        dialect: ColumnSQL,
        preparer: IdentifierPreparer,
    ) -> None:
        """Take the columns as they were inspected, and SQLAlchemy's quoting of identifiers.

        Raises:
            UsageError: the key columns are not as configured.
        """
        self.config = config
        self.columns = dict(columns)
        self._sql = dialect
        self.stage = self._stage()
        quote = preparer.quote
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
            "kek_by": config.kek_by.column if config.kek_by else None,
        }
        self.text_key = [
            quote(column)
            for column in config.primary_key
            if dialect.has_collation(self.columns[column].type)
        ]
        """The quoted columns of the primary key whose values may be equal in several spellings."""
        self.plaintext_is_text = self.has("plaintext") and self.column("plaintext").is_text
        """Whether a plaintext is written as ``str``. Once the column is gone, the ledger knows."""

    def _stage(self) -> Stage:
        config = self.config
        managed = (config.wrapped_column, config.version_column, config.kek_column)
        plaintext = config.plaintext_column in self.columns
        if all(column in self.columns for column in managed):
            return Stage.EXPANDED if plaintext else Stage.CONTRACTED
        if plaintext:
            return Stage.LEGACY
        raise UsageError(
            f"the table {config.name} has neither {config.plaintext_column} nor "
            f"{config.wrapped_column}",
            hint=f"its columns are: {', '.join(self.columns)}; correct [table]",
        )

    @property
    def key_is_integer(self) -> bool:
        """Whether the primary key is one column of integers."""
        first = self.columns[self.config.primary_key[0]].type
        return len(self.quoted_key) == 1 and isinstance(first, sa.Integer)

    def quote(self, name: str) -> str:
        """A name of the database's, quoted where it has to be."""
        return str(self._quote(name))

    def quoted(self, column: str) -> str:
        """The quoted name of a key column (``plaintext``, ``wrapped``, …)."""
        name = self._names[column]
        assert name is not None
        return str(self._quote(name))

    def has(self, column: str) -> bool:
        """Whether the table has this key column now."""
        return self._names[column] in self.columns

    def column(self, column: str) -> Column:
        """The description of a key column."""
        return self.columns[self._names[column] or ""]

    def has_value(self, column: str) -> str:
        """SQL condition for the rows with a value in a key column."""
        return f"{self.quoted(column)} IS NOT NULL"

    def is_null(self, column: str) -> str:
        """SQL condition for the rows without a value in a key column."""
        return f"{self.quoted(column)} IS NULL"

    @property
    def wrapped_columns(self) -> list[str]:
        """The quoted names of the columns that describe a wrapped key, the key itself last."""
        names = [
            "version",
            "kek",
            *(["wrapped_at"] if self._names["wrapped_at"] else []),
            "wrapped",
        ]
        return [self.quoted(name) for name in names]

    @property
    def plaintext_only(self) -> str:
        """SQL condition for the rows whose only key is the plaintext one."""
        return f"{self.has_value('plaintext')} AND {self.is_null('wrapped')}"

    @property
    def wrapped_only(self) -> str:
        """SQL condition for the rows whose only key is the wrapped one."""
        return f"{self.has_value('wrapped')} AND {self.is_null('plaintext')}"

    def stored_time(self, moment: datetime) -> Any:
        """A UTC time as the driver takes it for the ``wrapped_at`` column."""
        return self._sql.stored_time(self.column("wrapped_at").type, moment)

    def fingerprint_of(self, alias: str | None = None, columns: Sequence[str] = KEY_COLUMNS) -> str:
        """SQL of the fingerprint over these key columns of a row, taken from ``alias``."""
        prefix = f"{alias}." if alias else ""
        return self._sql.fingerprint(
            [
                (prefix + self.quoted(c), self.column(c).is_text) if self.has(c) else None
                for c in columns
            ]
        )

    def select_list(self, due: str) -> str:
        """The select list of a row. Key columns only where ``due``, to keep the rest cheap."""
        parts = list(self.quoted_key)
        for name in KEY_COLUMNS:
            if not self.has(name):
                parts.append("NULL")
                continue
            sql = self._sql.selected(self.quoted(name), is_text=self.column(name).is_text)
            parts.append(f"CASE WHEN {due} THEN {sql} END")
        parts.append(f"CASE WHEN {due} THEN NULL ELSE 0 END")  # of all values NULL is read fastest
        parts.append(self._kek_by())
        return ", ".join(parts)

    def kek_by_is(self, value: str) -> str:
        """SQL condition for the rows with this value in the ``kek_by`` column."""
        return kek_by_condition(self.quoted("kek_by"), value, number=self._kek_by_is_number)

    @property
    def _kek_by_is_number(self) -> bool:
        return isinstance(self.column("kek_by").type, sa.Integer)

    def _kek_by(self) -> str:
        """SQL of a row's value in the ``kek_by`` column, spelled as ``kek_by`` lists it."""
        if self.config.kek_by is None:
            return "NULL"
        keks = self.config.kek_by.keks
        return kek_by_case(self.quoted("kek_by"), keks, number=self._kek_by_is_number)
