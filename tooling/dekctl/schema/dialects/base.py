"""The interface of a schema dialect: what differs between databases in a schema step.

The defaults are for a database that Alembic can alter like any other. The methods are called while
a step runs, so they change the table through ``alembic.op``; ``offline`` says that the step only
writes its SQL.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.types import UserDefinedType

from dekctl.db import alembic_op as op
from dekctl.db.shape import Column
from dekctl.db.table import DekTable
from dekctl.errors import UsageError
from dekctl.ledger.metadata import is_type


class Guard(Enum):
    """What the row trigger refuses while a step runs, so that what was checked stays true."""

    NO_PLAINTEXT = "contract"
    """Refuses plaintexts while contract runs."""
    NOT_WRAPPED_ONLY = "rollback"
    """Refuses rows whose only key is the wrapped one while a rollback to legacy runs."""
    PLAINTEXT = "rollback to NOT NULL"
    """The same where every row needs a plaintext afterwards."""

    def refuses(self, table: DekTable, row: str = "") -> str:
        """SQL condition for the rows that it refuses; ``row`` is a prefix for the columns."""
        plaintext, wrapped = row + table.quoted("plaintext"), row + table.quoted("wrapped")
        return {
            Guard.NO_PLAINTEXT: f"{plaintext} IS NOT NULL",
            Guard.NOT_WRAPPED_ONLY: f"{wrapped} IS NOT NULL AND {plaintext} IS NULL",
            Guard.PLAINTEXT: f"{plaintext} IS NULL",
        }[self]


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger on a table, or what works like one. Only the table's own name is in ``name``."""

    name: str
    intact: bool = False
    """Whether it is the row trigger exactly as dekctl makes it, and enabled."""
    closed: bool = False
    """Whether it is the row trigger as a step closes it."""


@dataclass(frozen=True, slots=True)
class Oddity:
    """One thing found on a table: what it is and does, and the next command."""

    text: str
    next: str


def reference(table: DekTable, other: str, name: str) -> Oddity:
    """A foreign key of another table to the plaintext column."""
    config = table.config
    return Oddity(
        f"the foreign key {name} of {other} refers to {config.plaintext_column} of {config.name}: "
        f"where it is used scrub would be refused, or change {other}, which holds copies of keys",
        f"let {other} refer to another column, and remove the keys from it",
    )


FindOddities = Callable[[Connection, DekTable], Iterator[Oddity]]


@dataclass(frozen=True, slots=True)
class Dependent:
    """An object that uses a column: what it is, its name, and the statement that drops it."""

    kind: str
    name: str
    drop: str


class _StoredType(UserDefinedType[Any]):
    """A column type in the database's own words, as it was before contract."""

    cache_ok = True

    def __init__(self, sql: str) -> None:
        self.sql = sql

    def get_col_spec(self, **_: Any) -> str:
        return self.sql


class SchemaDialect(ABC):
    """The schema steps of one database."""

    drop_temporary_table = "DROP TABLE"
    """The statement that drops a temporary table without ending the transaction."""
    has_domains = False
    """Whether a column's type may be one that somebody has made, such as a domain."""
    has_guards = False
    """Whether the row trigger can refuse rows while a step runs, so that it needs no long lock."""

    # -- what is odd about a table; see dekctl.schema.inspection --------------------------------

    oddities: ClassVar[Mapping[str, FindOddities]] = {}
    """What only this database has, by the finding's name."""

    def dependents(self, connection: Connection, table: DekTable) -> list[Dependent]:  # noqa: ARG002
        """What uses the plaintext column, beside indexes and dekctl's own trigger."""
        return []

    def publications(self, connection: Connection, table: DekTable) -> list[str]:  # noqa: ARG002
        """The publications of logical replication that send the table with every column."""
        return []

    def subscriptions(self, connection: Connection, table: DekTable) -> list[str]:  # noqa: ARG002
        """The subscriptions of logical replication that write to the table."""
        return []

    def no_room(self, connection: Connection, table: DekTable) -> str | None:  # noqa: ARG002
        """Why a row has no room for dekctl's columns, of the smallest types; None where it has."""
        return None

    def let_be_null(self, table: DekTable, column: Column) -> str:
        """What to do so that a column may be NULL, has no default, and NULL where it is empty."""
        name, quoted = table.quoted_name, table.quote(column.name)
        alter = f"ALTER COLUMN {quoted}"
        return (
            f"change it: ALTER TABLE {name} {alter} DROP NOT NULL, {alter} DROP DEFAULT; "
            f"UPDATE {name} SET {quoted} = NULL WHERE {quoted} = ''"
        )

    def drop_default(self, table: DekTable, column: Column) -> str:
        """The statement that takes a column's default away."""
        quoted = table.quote(column.name)
        return f"ALTER TABLE {table.quoted_name} ALTER COLUMN {quoted} SET DEFAULT NULL"

    # -- the columns ---------------------------------------------------------------------------

    def wrapped_type(self, connection: Connection, table: DekTable) -> sa.types.TypeEngine[Any]:  # noqa: ARG002
        """Type of the wrapped column. KMS blobs have up to 6,144 bytes (AWS KMS API reference)."""
        return sa.LargeBinary()

    def text_type(self, length: int) -> sa.types.TypeEngine[str]:
        """Type of a column for short texts."""
        return sa.String(length)

    def plaintext_metadata(self, table: DekTable, *, offline: bool) -> dict[str, Any]:  # noqa: ARG002
        """What :meth:`add_plaintext` needs beyond the column's type, as JSON values."""
        return {}

    def refuse_unrestorable(self, table: DekTable) -> None:  # noqa: ARG002
        """Refuse a plaintext column that :meth:`add_plaintext` could not create again.

        Raises:
            RefusedError: it could not.
        """
        return

    def described_plaintext(self, definition: str) -> dict[str, Any]:
        """The metadata of a plaintext column from its definition in CREATE TABLE, for adoption.

        Raises:
            UsageError: it is none.
        """
        found = re.fullmatch(r"\s*(.+?)(?:\s+(NOT\s+)?NULL)?\s*", definition, re.IGNORECASE)
        if found is None or not is_type(found[1], named=self.has_domains):
            raise not_a_column(definition)
        return {"plaintext_type": found[1], "plaintext_nullable": found[2] is None}

    def plaintext_allows_null(self, table: DekTable, *, offline: bool) -> bool:  # noqa: ARG002
        """Whether the plaintext column may be NULL now."""
        return table.column("plaintext").nullable

    def set_plaintext_nullable(
        self,
        table: DekTable,
        metadata: Mapping[str, Any],  # noqa: ARG002
        *,
        nullable: bool,
        offline: bool,  # noqa: ARG002
    ) -> None:
        """Let the plaintext column be NULL, or forbid it again. ``metadata`` is what expand saved.

        Raises:
            RefusedError: the table would lose something.
        """
        column = table.column("plaintext")
        op.alter_column(
            table.config.bare_name,
            column.name,
            schema=table.config.schema,
            nullable=nullable,
            existing_type=column.type,
            existing_server_default=sa.text(column.default) if column.default else None,
            existing_comment=column.comment,
        )

    def add_plaintext(self, table: DekTable, metadata: Mapping[str, Any]) -> None:
        """Create the plaintext column again, empty, as ``metadata`` describes it.

        Raises:
            RefusedError: its type is none of keys.
        """
        config = table.config
        kind = _StoredType(metadata["plaintext_type"])
        # A domain may have a default, which the rows that are there would get.
        default = sa.text("NULL") if self.has_domains else None
        column: sa.Column[Any] = sa.Column(
            config.plaintext_column, kind, nullable=True, server_default=default
        )
        op.add_column(config.bare_name, column, schema=config.schema)

    def drop_index(self, table: DekTable, index: str, *, of_constraint: bool) -> str:
        """The statement that drops an index, or the constraint that owns it."""
        if of_constraint:
            return f"ALTER TABLE {table.quoted_name} DROP CONSTRAINT {table.quote(index)}"
        schema, _, _ = table.quoted_name.rpartition(".")
        return f"DROP INDEX {schema}{'.' if schema else ''}{table.quote(index)}"

    # -- locks and scripts ---------------------------------------------------------------------

    @abstractmethod
    def lock(self, table: str, others: Sequence[str]) -> list[str]:
        """SQL that keeps writers out of a table until the step ends; names are quoted.

        Empty where a transaction that writes does so anyway. ``others`` are the other tables that
        the step uses.
        """

    def sequences(self, connection: Connection, table: DekTable) -> list[str]:  # noqa: ARG002
        """The quoted names of sequences in a table's defaults, where :meth:`lock` needs them."""
        return []

    def unlock(self) -> list[str]:
        """SQL that ends :meth:`lock` where the end of the transaction does not."""
        return []

    def script(self, text: str, *, locks: bool) -> str:  # noqa: ARG002
        """A step's SQL for someone else to run; ``locks`` says that it contains :meth:`lock`."""
        return text

    # -- the row trigger -----------------------------------------------------------------------

    def open_trigger(self, table: DekTable) -> list[str]:  # noqa: ARG002
        """SQL that makes the row trigger, or makes it again; empty where there are no triggers.

        When a writer changes the plaintext and not the wrapped key, the trigger empties the wrapped
        columns in the same statement. Never when the plaintext becomes NULL or empty: then the
        wrapped key may be the only one.
        """
        return []

    def drop_trigger(self, table: DekTable) -> list[str]:  # noqa: ARG002
        """SQL that drops the row trigger, open or closed, if it is there."""
        return []

    def try_trigger(self, table: DekTable) -> list[str]:  # noqa: ARG002
        """SQL that fails where :meth:`open_trigger` would, run before anything else is changed.

        Empty where the step's transaction undoes everything.
        """
        return []

    def missing_right(self, error: Exception, table: DekTable) -> str | None:  # noqa: ARG002
        """What to grant, for an error of :meth:`open_trigger`; None for any other error."""
        return None

    def triggers(self, connection: Connection, table: DekTable) -> list[Trigger]:  # noqa: ARG002
        """The triggers on a table, and rules that act like them."""
        return []

    # -- guards --------------------------------------------------------------------------------

    def add_guard(self, table: DekTable, guard: Guard) -> None:
        """Close the row trigger, in a transaction of its own: it refuses such rows from then on.

        Raises:
            DatabaseError: the database refused.
        """
        raise NotImplementedError

    def drop_guards(self, table: DekTable) -> None:  # noqa: ARG002
        """Drop what a step left behind: a closed trigger, or an older dekctl's constraints.

        Raises:
            DatabaseError: the database refused.
        """
        return  # a database without guards has none to drop

    def spare_scan(self, table: DekTable) -> None:  # noqa: ARG002
        """Let a rollback forbid NULL in the plaintext without reading the rows under its lock."""
        return

    def end_guard(self, table: DekTable) -> None:  # noqa: ARG002
        """Drop what :meth:`add_guard` added beside the trigger, in the step's transaction."""
        return

    def guard_state(self, connection: Connection, table: DekTable) -> list[tuple[str, ...]] | None:  # noqa: ARG002
        """What differs once the closed trigger was off, for a moment or for some rows.

        None where it is off now.
        """
        return None

    def guards(self, connection: Connection, table: DekTable) -> list[str]:  # noqa: ARG002
        """The names of the triggers and constraints of a step that are on a table now."""
        return []


@contextmanager
def step_connection(table: DekTable, *, offline: bool) -> Iterator[Connection]:
    """A connection to look at the table: the step's own, as no other may look under its lock."""
    if not offline:
        yield op.get_bind()
        return
    with table.database.transaction() as connection:
        yield connection


def not_a_column(plaintext: str) -> UsageError:
    """The error for a text that describes no column of keys."""
    return UsageError(
        f"--adopt {plaintext!r} is no type of a column that holds keys",
        hint="give the column's type before dekctl, with NOT NULL if it was, as in: dekctl schema "
        "expand --adopt 'VARCHAR(64) NOT NULL'",
    )
