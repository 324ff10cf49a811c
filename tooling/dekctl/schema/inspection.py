"""What will not work on a table, or will surprise, said before anything is changed.

``doctor``, every dry run and the schema steps ask here. What is looked at is :data:`FINDINGS`, one
entry for each kind; the SQL that only one database understands is in ``schema/dialects/``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import sqlalchemy as sa
from sqlalchemy import Connection

from dekctl.db.shape import Column, Stage
from dekctl.db.table import DekTable
from dekctl.errors import RefusedError
from dekctl.schema import constraints
from dekctl.schema.dialects import schema_dialect
from dekctl.schema.dialects.base import SchemaDialect
from dekctl.schema.exposure import exposures

Step = Literal["expand", "contract", "rollback"]
WRAPPED_BYTES = 200
"""Minimum size of a wrapped column: KMS's blob of a 32-byte key has about 184 bytes."""


@dataclass(frozen=True, slots=True)
class Oddity:
    """One thing found on a table: what it is and does, and the next command."""

    text: str
    next: str


@dataclass(frozen=True)
class Look:
    """What a finding looks at."""

    table: DekTable
    connection: Connection

    @cached_property
    def dialect(self) -> SchemaDialect:
        """What differs between databases."""
        return schema_dialect(self.table.database)

    @property
    def columns(self) -> dict[str, Column]:
        """The table's columns by their names."""
        return self.table.columns

    def managed(self) -> dict[str, Column]:
        """Those of the columns for the wrapped key that are there already."""
        config = self.table.config
        names = (config.wrapped_column, config.version_column, config.kek_column)
        return {name: self.columns[name] for name in names if name in self.columns}


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of oddity."""

    name: str
    reason: str
    """Why it matters, for docs/odd-tables.md."""
    look: Callable[[Look], Iterator[Oddity]] = field(repr=False)
    refuses: Step | None = None
    """The step that is refused because of it; None: it is a warning only."""
    stages: tuple[Stage, ...] = (Stage.LEGACY, Stage.EXPANDED)


def inspect(table: DekTable) -> list[tuple[Finding, Oddity]]:
    """Everything odd about a table, in the order of :data:`FINDINGS`.

    Raises:
        DatabaseError: the database refused or cannot be reached.
    """
    with table.database.transaction() as connection:
        look = Look(table, connection)
        return [
            (finding, oddity)
            for finding in FINDINGS
            if table.stage in finding.stages
            for oddity in finding.look(look)
        ]


def refuse(table: DekTable, step: Step) -> None:
    """Refuse a step on a table on which it would not work.

    Raises:
        RefusedError: it would not; nothing was changed.
        DatabaseError: the database refused or cannot be reached.
    """
    for finding, oddity in inspect(table):
        if finding.refuses == step:
            raise RefusedError(oddity.text, hint=oddity.next)


def warnings(table: DekTable) -> list[str]:
    """What refuses nothing now, each in one line with its next command.

    Raises:
        DatabaseError: the database refused or cannot be reached.
    """
    found = inspect(table)
    return [f"{o.text}; {o.next}" for finding, o in found if finding.refuses != "expand"]


# -- the kinds -----------------------------------------------------------------------------------


def _plaintext_column(look: Look) -> Iterator[Oddity]:
    config = look.table.config
    plaintext = look.columns.get(config.plaintext_column)
    if plaintext is None:
        yield Oddity(
            f"{config.name} has no column {config.plaintext_column}",
            "correct plaintext_column in [table]",
        )
    elif not (plaintext.is_text or plaintext.is_binary):
        yield Oddity(
            f"{config.name}.{plaintext.name} is neither text nor binary but {plaintext.type!r}",
            "correct plaintext_column in [table]",
        )


def _unfit_columns(look: Look) -> Iterator[Oddity]:
    config = look.table.config
    wrapped = look.columns.get(config.wrapped_column)
    if wrapped is not None and not _holds_wrapped_keys(wrapped):
        yield Oddity(
            f"{config.name}.{wrapped.name} already exists and cannot hold a wrapped key, which "
            f"is binary, up to {WRAPPED_BYTES} bytes long, and stored without padding",
            "change or rename that column, or set wrapped_column in [table] to another name",
        )
    for name, minimum in ((config.version_column, 2), (config.kek_column, 100)):
        column = look.columns.get(name)
        length = getattr(column.base_type, "length", None) if column else None
        if column and (not column.is_text or (length is not None and length < minimum)):
            yield Oddity(
                f"{config.name}.{name} already exists and cannot hold {minimum} characters",
                "widen that column, or name another one in [table]",
            )


def _holds_wrapped_keys(column: Column) -> bool:
    kind = column.base_type
    length = getattr(kind, "length", None)
    padded = isinstance(kind, sa.BINARY)
    return column.is_binary and not padded and (length is None or length >= WRAPPED_BYTES)


def _never_null(look: Look) -> Iterator[Oddity]:
    table = look.table
    for column in look.managed().values():
        if not column.nullable:
            yield Oddity(
                f"{table.config.name}.{column.name} already exists and is NOT NULL, so no row can "
                "be without a wrapped key",
                look.dialect.let_be_null(table, column),
            )
        elif column.name == table.config.wrapped_column and _has_default(column):
            yield Oddity(
                f"{table.config.name}.{column.name} already exists and has a default, which "
                "would pass for a wrapped key",
                look.dialect.let_be_null(table, column),
            )


def _has_default(column: Column) -> bool:
    return column.default is not None and not column.default.upper().startswith("NULL")


def _forbidden_null(look: Look) -> Iterator[Oddity]:
    table = look.table
    names = [*look.managed(), table.config.plaintext_column]
    for name in (n for n in names if n in look.columns):
        for found in constraints.forbidding_null(look.connection, table, name):
            yield Oddity(
                f"{found} does not let {name} of {table.config.name} be NULL, as it is in rows "
                "without such a key",
                "change it so that NULL passes",
            )


def _unique_columns(look: Look) -> Iterator[Oddity]:
    config = look.table.config
    names = (config.version_column, config.kek_column)
    for column in (n for n in names if n in look.columns):
        for index in constraints.unique_on(look.connection, config, column):
            yield Oddity(
                f"the unique index {index} of {config.name} allows each {column} once, but many "
                "rows have the same",
                f"drop it: {look.dialect.drop_index(index, config.name)}",
            )


def _no_room(look: Look) -> Iterator[Oddity]:
    if look.table.stage is Stage.LEGACY and (
        why := look.dialect.no_room(look.connection, look.table)
    ):
        yield Oddity(why, "make a wide VARCHAR or VARBINARY column a TEXT or BLOB")


def _dependents(look: Look) -> Iterator[Oddity]:
    config = look.table.config
    for found in look.dialect.dependents(look.connection, look.table):
        yield Oddity(
            f"the {found.kind} {found.name} uses {config.plaintext_column} of {config.name}: "
            "contract would be refused, or break it",
            f"before contract, make it again without that column, or: {found.drop}",
        )


def _indexes(look: Look) -> Iterator[Oddity]:
    config = look.table.config
    for name in constraints.indexes_on(look.connection, config):
        yield Oddity(
            f"the index {name} of {config.name} uses {config.plaintext_column}: contract "
            "would drop both, and a rollback would not restore the index",
            "before contract, once no row has a plaintext any more, drop it: "
            + look.dialect.drop_index(name, config.name),
        )


def _publications(look: Look) -> Iterator[Oddity]:
    config = look.table.config
    if look.table.stage is not Stage.LEGACY and not look.table.has("plaintext"):
        return
    for name in look.dialect.publications(look.connection, look.table):
        yield Oddity(
            f"{config.name} is published by {name}: a subscriber without dekctl's columns stops at "
            "the first row that is wrapped, and the WAL piles up; it also gets the plaintext keys",
            "before expand, add the columns on every subscriber; print them with: dekctl schema "
            "expand --sql",
        )


def _subscriptions(look: Look) -> Iterator[Oddity]:
    config = look.table.config
    for name in look.dialect.subscriptions(look.connection, look.table):
        yield Oddity(
            f"{config.name} is filled by the subscription {name}: its rows come without the row "
            "trigger, and go on coming with plaintext keys",
            "migrate the table of the publisher; to migrate this copy alone, end it first: "
            f"DROP SUBSCRIPTION {name}",
        )


def _copies(look: Look) -> Iterator[Oddity]:
    for warning in exposures(look.table):
        text, _, what_to_do = warning.partition("; ")
        yield Oddity(text, what_to_do)


FINDINGS: tuple[Finding, ...] = (
    Finding(
        "plaintext column",
        "dekctl wraps bytes or text.",
        _plaintext_column,
        refuses="expand",
    ),
    Finding(
        "columns of dekctl's names with other types",
        "They are used as they are, so they must hold what dekctl writes.",
        _unfit_columns,
        refuses="expand",
    ),
    Finding(
        "columns of dekctl's names that are never NULL",
        "NULL is how a row says that it has no wrapped key. An empty `wrapped_key` is none, and "
        "`wrap` would pass it over.",
        _never_null,
        refuses="expand",
    ),
    Finding(
        "CHECKs and domains that forbid NULL",
        "Scrub sets the plaintext to NULL, and the row trigger the wrapped columns. A domain over "
        "bytea or text is otherwise like its base type.",
        _forbidden_null,
        refuses="expand",
    ),
    Finding(
        "unique indexes on a version or KEK",
        "All rows may share one KEK.",
        _unique_columns,
        refuses="expand",
    ),
    Finding(
        "no room in the row",
        "MariaDB and MySQL count at most 65,535 bytes of declared width in a row, TEXT and BLOB "
        "aside. The wrapped key becomes a BLOB where a VARBINARY does not fit.",
        _no_room,
        refuses="expand",
    ),
    Finding(
        "objects that use the plaintext column",
        "The server refuses to drop a column that is in use, or breaks the object silently.",
        _dependents,
        refuses="contract",
    ),
    Finding(
        "indexes on the plaintext column",
        "They are dropped with it, and not restored.",
        _indexes,
        refuses="contract",
    ),
    Finding(
        "publications",
        "Logical replication sends no DDL: columns go to the subscribers first.",
        _publications,
        stages=(Stage.LEGACY, Stage.EXPANDED),
    ),
    Finding(
        "copies of keys",
        "Triggers and histories keep what dekctl removes; a broken constraint shows a row.",
        _copies,
        stages=tuple(Stage),
    ),
    Finding("subscriptions", "Rows are written by the publisher, too.", _subscriptions),
)
"""What is looked at, in the order in which it is said."""
