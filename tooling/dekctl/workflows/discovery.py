"""Finds out which table and column of a database hold data keys, for ``dekctl init``.

Some values of each column are read and compared with the forms of a key. No value, and no part of
one, leaves this module: only how many were looked at, and how many have a form.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import NoSuchTableError

from dekctl.config import Encoding, TableConfig
from dekctl.db.database import Database
from dekctl.db.key_text import form_of
from dekctl.db.plaintext import decode_plaintext
from dekctl.db.shape import Column
from dekctl.errors import RowRejectedError, UsageError

SAMPLE_ROWS = 500
LONGEST_TEXT = 256
"""Longer values are no keys and are not read: bytes, or characters of a text."""
ENOUGH = 0.75
"""The part of the sampled values that must have one form. The rest may be damaged rows."""
SIZES: tuple[int, ...] = TableConfig().dek_bytes
OTHER_SIZES = range(16, 129)
"""Sizes in bytes that a key may have beside AES's, where a column is named."""

_KEY_NAME = re.compile(r"key|dek|cek|secret", re.IGNORECASE)
_HASH_NAME = re.compile(r"hash|sha\d|md5|digest|checksum|etag|token|fingerprint", re.IGNORECASE)
_SYSTEM_SCHEMAS = re.compile(r"pg_|information_schema$|sys$")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A column whose sampled values look like keys."""

    table: str
    column: str
    encoding: Encoding
    sizes: tuple[int, ...]
    """The sizes of the keys in bytes."""
    fitting: int
    """How many of the ``sampled`` values have this form."""
    sampled: int

    @property
    def is_likely(self) -> bool:
        """Whether its name speaks for a key, too. A hash has the form of one."""
        return bool(_KEY_NAME.search(self.column)) and not _HASH_NAME.search(self.column)

    @property
    def dek_bytes(self) -> tuple[int, ...]:
        """The setting: the usual sizes, unless there are others."""
        return SIZES if set(self.sizes) <= set(SIZES) else self.sizes

    def described(self) -> str:
        """What was seen, without any value."""
        form = "raw bytes" if self.encoding == "raw" else self.encoding
        sizes = " or ".join(map(str, self.sizes))
        return (
            f"{self.fitting:,} of {self.sampled:,} sampled values are {form} of {sizes}-byte keys"
        )


def table_names(database: Database) -> list[str]:
    """The application's tables: with their schema where that is not the default one."""
    with database.transaction() as connection:
        inspector = sa.inspect(connection)
        default = inspector.default_schema_name
        schemas: list[str | None] = [None]
        if database.dialect.schemas_are_its_own:
            others = [s for s in inspector.get_schema_names() if not _SYSTEM_SCHEMAS.match(s)]
            schemas += [s for s in others if s != default]
        names = [
            f"{schema}.{name}" if schema else name
            for schema in schemas
            for name in inspector.get_table_names(schema=schema)
        ]
    return [n for n in names if not re.match(r"(dekctl_|alembic_version$)", n.rpartition(".")[2])]


def primary_key(database: Database, table: str) -> tuple[str, ...]:
    """The columns of a table's primary key; none where it has no such key."""
    return _look(database, table).primary_key


def candidates(database: Database, table: str) -> list[Candidate]:
    """The columns of a table whose values look like keys, the likely ones first.

    Raises:
        UsageError: there is no such table.
    """
    look = _look(database, table)
    eligible = [
        column
        for name, column in look.columns.items()
        if (column.is_text or column.is_binary)
        and name not in look.primary_key
        and name not in look.foreign_keys
    ]
    samples = _sample(database, table, eligible)
    found = [
        guess
        for column, values in zip(eligible, samples, strict=True)
        if (guess := _guess(table, column.name, values, SIZES)) is not None
    ]
    return sorted(found, key=lambda each: not each.is_likely)


def examine(database: Database, table: str, column: str, encoding: Encoding | None) -> Candidate:
    """A column that somebody named, in whose keys other sizes than AES's are possible.

    Raises:
        UsageError: there is no such column; or its values have no form in common, and no
            ``encoding`` is given.
    """
    columns = _look(database, table).columns
    if column not in columns:
        raise UsageError(
            f"the table {table} has no column {column!r}",
            hint=f"its columns are: {', '.join(columns)}",
        )
    [values] = _sample(database, table, [columns[column]])
    found = _guess(table, column, values, SIZES) or _guess(table, column, values, OTHER_SIZES)
    if found is not None and encoding in (None, found.encoding):
        return found
    if encoding is None:
        raise UsageError(
            f"the encoding of {table}.{column} cannot be guessed: of {len(values):,} sampled "
            f"values, fewer than {ENOUGH:.0%} have one form of a key",
            hint=f"name it: dekctl init --table {table} --column {column} --encoding ENCODING",
        )
    fitting, sizes = 0, set()
    for value in values:
        with contextlib.suppress(RowRejectedError):
            sizes.add(len(decode_plaintext(value, encoding, OTHER_SIZES)))
            fitting += 1
    return Candidate(table, column, encoding, tuple(sorted(sizes)) or SIZES, fitting, len(values))


@dataclass(frozen=True, slots=True)
class _Look:
    columns: dict[str, Column]
    primary_key: tuple[str, ...]
    foreign_keys: frozenset[str]


def _look(database: Database, table: str) -> _Look:
    """A table's columns and keys.

    Raises:
        UsageError: there is no such table.
    """
    schema, _, name = table.rpartition(".")
    with database.transaction() as connection, warnings.catch_warnings():
        warnings.simplefilter("ignore", sa.exc.SAWarning)  # about types that do not matter here
        inspector = sa.inspect(connection)
        try:
            columns = inspector.get_columns(name, schema=schema or None)
            primary = inspector.get_pk_constraint(name, schema=schema or None)
            foreign = inspector.get_foreign_keys(name, schema=schema or None)
        except NoSuchTableError:
            raise UsageError(
                f"the database {database.shown_url} has no table {table}",
                hint="name one that it has: dekctl init --table NAME",
            ) from None
    return _Look(
        {c["name"]: Column(c["name"], c["type"], True, None, None) for c in columns},
        tuple(primary.get("constrained_columns") or ()),
        frozenset(column for key in foreign for column in key["constrained_columns"]),
    )


def _sample(database: Database, table: str, columns: Sequence[Column]) -> list[list[bytes | str]]:
    """The short values of columns in the first rows, one list for each column."""
    if not columns:
        return []
    preparer = database.engine.dialect.identifier_preparer
    selected = []
    for column in columns:
        name = preparer.quote(column.name)
        value = database.dialect.selected(name, is_text=column.is_text)
        selected.append(f"CASE WHEN length({name}) <= {LONGEST_TEXT} THEN {value} END")
    source = ".".join(preparer.quote(part) for part in table.rsplit(".", 1))
    query = f"SELECT {', '.join(selected)} FROM {source} LIMIT {SAMPLE_ROWS}"
    with database.transaction() as connection:
        rows: Sequence[Any] = connection.exec_driver_sql(query).all()
    return [
        [v for row in rows if isinstance(v := row[index], bytes | str)]
        for index in range(len(columns))
    ]


def _guess(
    table: str, column: str, values: Sequence[bytes | str], sizes: Sequence[int]
) -> Candidate | None:
    if len(values) > 1 and len(set(values)) < ENOUGH * len(values):
        return None  # keys are random: the same value in many rows is none
    forms = Counter(found for value in values if (found := _form(value, sizes)) is not None)
    for encoding, _ in forms.most_common(1):
        kind = encoding[0]
        fitting = sum(rows for (form, _), rows in forms.items() if form == kind)
        if fitting >= ENOUGH * len(values):
            seen = sorted(size for form, size in forms if form == kind)
            return Candidate(table, column, kind, tuple(seen), fitting, len(values))
    return None


def _form(value: bytes | str, sizes: Sequence[int]) -> tuple[Encoding, int] | None:
    """The encoding of a value and the size of its key, if it looks like one."""
    for size in sizes:
        form = form_of(value, (size,))
        if form is not None:
            return form, size
    if isinstance(value, bytes) and len(value) in sizes and not value.isascii():
        return "raw", len(value)
    return None
