"""The kinds of oddity of a table: one function for each, which yields what it finds.

:data:`dekctl.schema.inspection.FINDINGS` says of each why it matters and what it refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import sqlalchemy as sa
from sqlalchemy import Connection

from dekctl.db.shape import Column, Stage
from dekctl.db.table import DekTable
from dekctl.errors import RefusedError
from dekctl.schema import constraints
from dekctl.schema.dialects import schema_dialect
from dekctl.schema.dialects.base import Oddity, SchemaDialect
from dekctl.schema.exposure import exposures
from dekctl.schema.trigger_state import TriggerState, advice, trigger_state

WRAPPED_BYTES = 200
"""Minimum size of a wrapped column: KMS's blob of a 32-byte key has about 184 bytes."""


@dataclass(frozen=True)
class Look:
    """What a finding looks at."""

    table: DekTable
    connection: Connection
    without_trigger: bool = False
    """Whether the row trigger was left out on purpose."""

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


def plaintext_column(look: Look) -> Iterator[Oddity]:
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


def generated_columns(look: Look) -> Iterator[Oddity]:
    """A column of keys that the server computes."""
    config = look.table.config
    plaintext = look.columns.get(config.plaintext_column)
    for column in (*([plaintext] if plaintext else []), *look.managed().values()):
        if column.generated:
            yield Oddity(
                f"{config.name}.{column.name} is a generated column, which nobody can write to: "
                "its keys can neither be scrubbed nor restored",
                "name another column in [table], or make it an ordinary one",
            )


def unfit_columns(look: Look) -> Iterator[Oddity]:
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


def never_null(look: Look) -> Iterator[Oddity]:
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


def plaintext_default(look: Look) -> Iterator[Oddity]:
    table = look.table
    column = look.columns.get(table.config.plaintext_column)
    if column is not None and not column.generated and _has_default(column):
        yield Oddity(
            f"{table.config.name}.{column.name} has the default {column.default}: a row that is "
            "inserted with a wrapped key alone gets it as plaintext, which no key equals",
            "before an application writes wrapped keys alone: "
            + look.dialect.drop_default(table, column),
        )


def _has_default(column: Column) -> bool:
    return column.default is not None and not column.default.upper().startswith("NULL")


def forbidden_null(look: Look) -> Iterator[Oddity]:
    table = look.table
    names = [*look.managed(), table.config.plaintext_column]
    for name in (n for n in names if n in look.columns):
        for found in constraints.forbidding_null(look.connection, table, name):
            yield Oddity(
                f"{found} does not let {name} of {table.config.name} be NULL, as it is in rows "
                "without such a key",
                "change it so that NULL passes",
            )


def unique_columns(look: Look) -> Iterator[Oddity]:
    config = look.table.config
    names = (config.version_column, config.kek_column)
    for column in (n for n in names if n in look.columns):
        found = constraints.unique_on(look.connection, config, column)
        for index, of_constraint in found.items():
            yield Oddity(
                f"the unique index {index} of {config.name} allows each {column} once, but many "
                "rows have the same",
                "drop it: "
                + look.dialect.drop_index(look.table, index, of_constraint=of_constraint),
            )


def no_room(look: Look) -> Iterator[Oddity]:
    if look.table.stage is Stage.LEGACY and (
        why := look.dialect.no_room(look.connection, look.table)
    ):
        yield Oddity(why, "make a wide VARCHAR or VARBINARY column a TEXT or BLOB")


def dependents(look: Look) -> Iterator[Oddity]:
    config = look.table.config
    for found in look.dialect.dependents(look.connection, look.table):
        yield Oddity(
            f"the {found.kind} {found.name} uses {config.plaintext_column} of {config.name}: "
            "contract would be refused, or break it",
            f"before contract, make it again without that column, or: {found.drop}",
        )


def indexes(look: Look) -> Iterator[Oddity]:
    config = look.table.config
    for name, of_constraint in constraints.indexes_on(look.connection, config).items():
        yield Oddity(
            f"the index {name} of {config.name} uses {config.plaintext_column}: contract "
            "would drop both, and a rollback would not restore the index",
            "before contract, once no row has a plaintext any more, drop it: "
            + look.dialect.drop_index(look.table, name, of_constraint=of_constraint),
        )


def publications(look: Look) -> Iterator[Oddity]:
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


def subscriptions(look: Look) -> Iterator[Oddity]:
    config = look.table.config
    for name in look.dialect.subscriptions(look.connection, look.table):
        yield Oddity(
            f"{config.name} is filled by the subscription {name}: its rows come without the row "
            "trigger, and go on coming with plaintext keys",
            "migrate the table of the publisher; to migrate this copy alone, end it first: "
            f"DROP SUBSCRIPTION {name}",
        )


def copies(look: Look) -> Iterator[Oddity]:
    for warning in exposures(look.table):
        text, _, what_to_do = warning.partition("; ")
        yield Oddity(text, what_to_do)


def refusal_of(check: Callable[[DekTable], None]) -> Callable[[Look], Iterator[Oddity]]:
    """What a check says that every command makes which writes, as a finding."""

    def look(look: Look) -> Iterator[Oddity]:
        try:
            check(look.table)
        except RefusedError as refusal:
            yield Oddity(refusal.message, refusal.hint or "")

    return look


def of_database(name: str) -> Callable[[Look], Iterator[Oddity]]:
    """What one database alone may have."""

    def look(look: Look) -> Iterator[Oddity]:
        if find := look.dialect.oddities.get(name):
            yield from find(look.connection, look.table)

    return look


def row_trigger(look: Look) -> Iterator[Oddity]:
    state = trigger_state(look.table, left_out=look.without_trigger)
    if state in (TriggerState.MISSING, TriggerState.CHANGED) and (problem := advice(state)):
        what, _, what_to_do = problem.partition("; ")
        yield Oddity(f"{look.table.config.name}: {what}", what_to_do)
