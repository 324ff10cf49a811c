"""The interface of a schema dialect: what differs between databases in a schema step.

The defaults are for a database that Alembic can alter like any other. The methods are called while
a step runs, so they change the table through ``alembic.op``; ``offline`` says that the step only
writes its SQL.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Connection
from sqlalchemy.types import UserDefinedType

from dekctl.db.table import DekTable
from dekctl.errors import DekctlError

CONTRACT_GUARD = "dekctl_contract_guard"
"""Refuses plaintexts while contract runs."""
ROLLBACK_GUARD = "dekctl_rollback_guard"
"""Refuses rows whose only key is the wrapped one while a rollback to legacy runs."""


@dataclass(frozen=True, slots=True)
class Guard:
    """A CHECK constraint that a step adds before it begins: no row may break it until it ends."""

    name: str
    condition: str


class GuardViolatedError(DekctlError):
    """A row does not meet a guard's condition."""


class _StoredType(UserDefinedType[Any]):
    """A column type in the database's own words, as it was before contract."""

    cache_ok = True

    def __init__(self, sql: str) -> None:
        self.sql = sql

    def get_col_spec(self, **_: Any) -> str:
        return self.sql


class SchemaDialect(ABC):
    """The schema steps of one database."""

    blob_type: sa.types.TypeEngine[Any] = sa.LargeBinary()
    """Type of the wrapped column. KMS blobs have up to 6,144 bytes (AWS KMS API reference)."""
    drop_temporary_table = "DROP TABLE"
    """The statement that drops a temporary table without ending the transaction."""
    has_guards = False
    """Whether a guard can be validated without blocking writers, so that contract needs no lock."""

    # -- the columns ---------------------------------------------------------------------------

    def text_type(self, length: int) -> sa.types.TypeEngine[str]:
        """Type of a column for short texts."""
        return sa.String(length)

    def plaintext_metadata(self, table: DekTable, *, offline: bool) -> dict[str, Any]:  # noqa: ARG002
        """What :meth:`add_plaintext` needs beyond the column's type, as JSON values."""
        return {}

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
        """Create the plaintext column again, empty, as ``metadata`` describes it."""
        config = table.config
        kind = _StoredType(metadata["plaintext_type"])
        column: sa.Column[Any] = sa.Column(config.plaintext_column, kind, nullable=True)
        op.add_column(config.bare_name, column, schema=config.schema)

    def drop_index(self, index: str, table: str) -> str:  # noqa: ARG002
        """The statement that drops an index."""
        return f"DROP INDEX {index}"

    # -- locks and scripts ---------------------------------------------------------------------

    @abstractmethod
    def lock(self, table: str, others: Sequence[str]) -> list[str]:
        """SQL that keeps writers out of a table until the step ends; names are quoted.

        Empty where a transaction that writes does so anyway. ``others`` are the other tables that
        the step uses.
        """

    def unlock(self) -> list[str]:
        """SQL that ends :meth:`lock` where the end of the transaction does not."""
        return []

    def script(self, text: str, *, locks: bool) -> str:  # noqa: ARG002
        """A step's SQL for someone else to run; ``locks`` says that it contains :meth:`lock`."""
        return text

    # -- guards --------------------------------------------------------------------------------

    def add_guard(self, table: DekTable, guard: Guard) -> None:
        """Add a guard, in transactions of its own, and prove that every row meets it.

        Raises:
            GuardViolatedError: a row does not.
            DatabaseError: the database refused.
        """
        raise NotImplementedError

    def drop_guards(self, table: DekTable) -> None:  # noqa: ARG002
        """Drop the guards of this table that are left, in a transaction of its own.

        Raises:
            DatabaseError: the database refused.
        """
        return  # a database without guards has none to drop

    def drop_guard(self, table: DekTable, name: str) -> None:  # noqa: ARG002
        """Drop a guard in the transaction of a step that no longer needs it."""
        return  # a database without guards has none to drop

    def guards(self, connection: Connection, table: DekTable) -> dict[str, bool]:  # noqa: ARG002
        """The guards on a table now, each with whether every row was proved to meet it."""
        return {}


@contextmanager
def step_connection(table: DekTable, *, offline: bool) -> Iterator[Connection]:
    """A connection to look at the table: the step's own, as no other may look under its lock."""
    if not offline:
        yield op.get_bind()
        return
    with table.database.transaction() as connection:
        yield connection
