"""What differs between databases when rows are read and written: the interface of a dialect.

Each file in :mod:`dekctl.db.dialects` implements it for one database. Nothing else in the package
asks which database it is connected to.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine
from sqlalchemy.types import TypeEngine

from dekctl.db.groups import GroupCount, count_sorted
from dekctl.db.row import Change
from dekctl.db.shape import TableShape

CONNECTIONS = "dekctl opens up to 8 connections in each process"
"""One reads, two write, three look up branch keys; one each for heartbeat and hold-back query."""
NOT_UTF8_HINT = (
    "a database without an encoding (SQL_ASCII) takes any bytes as text: convert the texts of that "
    "table to UTF-8, the primary key above all"
)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits in seconds: for a lock, and for a statement of a transaction that is not patient."""

    lock: float
    statement: float


@dataclass(frozen=True, slots=True)
class ResiduePlace:
    """A place that may still hold a scrubbed key, and what helps: a statement, or what to do."""

    place: str
    help: str


@dataclass(frozen=True, slots=True)
class KeyLog:
    """A log that shows the values of statements; ``off`` switches it off, None if nothing may."""

    name: str
    off: str | None


class Dialect(ABC):
    """How rows are read, compared and written on one database."""

    name: str
    """The name of this dialect's files in ``db/dialects/`` and ``schema/dialects/``."""
    driver: str | None = None
    """The driver's name in a SQLAlchemy URL; None for SQLAlchemy's default."""
    extra: str | None = None
    """The extra of the package ``dekctl`` that installs the driver."""
    clock: str
    """SQL of the current time in UTC, as a timestamp without zone."""
    writers = 1
    """How many pages are written at once, each in a transaction of its own."""
    is_remote = True
    """Whether a connection is a socket, behind which a server may stop answering."""
    has_schemas = True
    """Whether a table's name may have a schema before it."""
    schemas_are_its_own = False
    """Whether the schemas beside the default one belong to the same database."""

    def __init__(self, timeouts: Timeouts) -> None:
        self.timeouts = timeouts

    # -- connections ---------------------------------------------------------------------------

    @abstractmethod
    def engine_options(self) -> dict[str, Any]:
        """Options for ``create_engine`` beyond the common ones."""

    @abstractmethod
    def prepare(self, engine: Engine) -> None:
        """Attach what every connection or transaction needs: time-outs, functions, pragmas.

        A transaction's execution options say ``dekctl_write`` and ``dekctl_patient``; see
        :meth:`dekctl.db.database.Database.transaction`.
        """

    def own_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a URL's query as this driver knows them.

        Those of the same database's other drivers are translated, or left out where they only tune
        that driver: an application's URL is often one for asyncio.
        """
        return dict(options)

    def unknown_option(self, arguments: Mapping[str, Any]) -> str | None:  # noqa: ARG002
        """The first of the driver's connection arguments that it does not know; None for good."""
        return None

    def socket_of(self, connection: Any) -> int:
        """The number of the socket behind a driver's connection; needed where ``is_remote``."""
        raise NotImplementedError

    # -- the table -----------------------------------------------------------------------------

    def unfit_as_key(self, kind: TypeEngine[Any]) -> str | None:
        """Why a column of this type cannot be part of the primary key; None where it can.

        Its values must come back from the driver exactly as they are stored, in an order that the
        server's comparisons share, and have one text for the encryption context.
        """
        if isinstance(kind, sa.Float):
            return "is not exact: what is read need not be what is stored"
        if isinstance(kind, sa.ARRAY | sa.JSON | sa.Interval):
            return "has several texts for one value, so no key can be bound to it"
        return None

    def unfit_table(self, connection: Connection, table: str, schema: str | None) -> str | None:  # noqa: ARG002
        """Why no key of a table can be unique over all rows read from it; None where one can."""
        return None

    def invalid_indexes(
        self,
        connection: Connection,  # noqa: ARG002
        table: str,  # noqa: ARG002
        schema: str | None,  # noqa: ARG002
    ) -> frozenset[str]:
        """The names of a table's indexes that the server does not consider complete."""
        return frozenset()

    def ambiguous_key(
        self,
        connection: Connection,  # noqa: ARG002
        table: TableShape,  # noqa: ARG002
    ) -> tuple[str, str] | None:
        """A primary-key column in which two different values may have the same text, or none.

        Returns what is wrong, from the column's name on, and a query that shows it; None where
        every key is good.
        """
        return None

    def schemas_with(self, connection: Connection, table: str) -> list[str]:  # noqa: ARG002
        """The schemas of this server that have a table of this name, as far as the role sees."""
        return []

    @abstractmethod
    def estimate_rows(self, connection: Connection, table: TableShape) -> int | None:
        """The server's own estimate of a table's rows; None where it has none."""

    @abstractmethod
    def residue_places(self, quoted_table: str) -> list[ResiduePlace]:
        """Where this database may still hold keys of a table after a scrub."""

    def not_transactional(
        self,
        connection: Connection,  # noqa: ARG002
        table: TableShape,  # noqa: ARG002
    ) -> list[tuple[str, str]]:
        """The tables that ignore COMMIT, each with its engine: this one, or dekctl's own."""
        return []

    def copiers(self, connection: Connection, table: TableShape) -> list[str]:  # noqa: ARG002
        """What runs on each UPDATE and may copy the old row: "the trigger NAME", and the like."""
        return []

    def may_be_rewritten(self, connection: Connection, table: TableShape) -> bool:
        """Whether a trigger or rule may make something else of what an UPDATE writes."""
        return bool(self.copiers(connection, table))

    def run_deferred_triggers(self, connection: Connection) -> None:  # noqa: B027 - most have none
        """Let triggers run now that wait for the end of the transaction."""

    def history_rows(self, connection: Connection, table: TableShape) -> int | None:  # noqa: ARG002
        """How many rows of a table's history hold a plaintext; None where it keeps no history."""
        return None

    def key_logs(self, connection: Connection) -> list[KeyLog]:  # noqa: ARG002
        """The server's logs that would show a plaintext which a statement writes."""
        return []

    # -- SQL -----------------------------------------------------------------------------------

    @abstractmethod
    def selected(self, column: str, *, is_text: bool) -> str:
        """SQL that reads a key column (already quoted), in the way it is fingerprinted."""

    def hex_of(self, column: str, start: int, length: int) -> str:
        """SQL of bytes of a (quoted) binary column as lower-case hex; the first is byte 1."""
        return f"lower(hex(substr({column}, {start}, {length})))"

    def fingerprint(self, columns: Sequence[tuple[str, bool] | None]) -> str:
        """SQL of :func:`dekctl.db.row.fingerprint` over (quoted column, is text) pairs.

        Needed where :meth:`swap` compares by it. None stands for a column that the table no longer
        has.
        """
        raise NotImplementedError

    @abstractmethod
    def shard_number(self, key: Sequence[str], *, is_integer: bool) -> str:
        """SQL of an integer that spreads rows evenly by primary key (quoted columns)."""

    def count_groups(
        self,
        connection: Connection,
        table: TableShape,
        by: Mapping[str, str],
        moment: str | None = None,
    ) -> list[GroupCount]:
        """Count all rows of a large table by the values of some expressions, in one pass.

        Args:
            connection: an open transaction.
            table: the table.
            by: SQL over its columns whose values make the groups, under a name for each. Something
                like ``x IS NULL`` must be a condition, of which a planner expects two values.
            moment: SQL whose least and greatest value in each group is wanted.

        Returns:
            For each group its values, the number of rows, and the least and greatest ``moment``.
        """
        return count_sorted(connection, table, by, moment)

    def revoked(self, tables: Sequence[str]) -> list[str]:  # noqa: ARG002
        """SQL that takes from everybody what new (quoted) tables may have been granted them."""
        return []

    def parameter(self, name: str, value: Any) -> str:  # noqa: ARG002
        """SQL of a parameter (its name with the colon) that is equal to the value as it was read.

        The driver may not be able to send it back as what it is.
        """
        return name

    def compare_keys(self, key: Sequence[str], operator: str, values: Sequence[str]) -> str:
        """SQL that compares the primary key with values, ``>`` or ``<=``, using its index."""
        if len(key) == 1:
            return f"{key[0]} {operator} {values[0]}"
        return f"({', '.join(key)}) {operator} ({', '.join(values)})"

    def has_collation(self, kind: TypeEngine[Any]) -> bool:
        """Whether two values of a key column may be equal and still spelled differently.

        True for texts, and for types that SQLAlchemy does not know.
        """
        return isinstance(kind, sa.String | sa.types.NullType)

    def stored_time(self, kind: TypeEngine[Any], moment: datetime) -> Any:
        """A UTC time as the driver takes it for a column of this type."""
        return moment if getattr(kind, "timezone", False) else moment.replace(tzinfo=None)

    @abstractmethod
    def upsert(self, table: sa.Table, replaced: Sequence[str]) -> sa.Insert:
        """An INSERT that replaces these columns where the primary key exists already."""

    # -- writing -------------------------------------------------------------------------------

    @abstractmethod
    def swap(
        self,
        connection: Connection,
        table: TableShape,
        columns: Sequence[str],
        changes: list[Change],
    ) -> int:
        """Write the changes whose rows still have their fingerprint. Returns how many did.

        ``columns`` name what each change sets; ``changes`` are in primary-key order. A text key
        must match as it was read, byte for byte, whatever its collation considers equal: the
        encryption context takes it literally.
        """

    def erase(
        self,
        connection: Connection,
        table: TableShape,
        columns: Sequence[str],
        changes: list[Change],
    ) -> int:
        """The same for changes that remove a plaintext.

        Where an UPDATE to a value of the same length overwrites the old bytes, that is done first;
        the rows that it changes count.
        """
        return self.swap(connection, table, columns, changes)

    # -- errors --------------------------------------------------------------------------------

    @abstractmethod
    def is_transient(self, error: Exception) -> bool:
        """Whether the same transaction may succeed when it is retried."""

    @abstractmethod
    def is_denied(self, error: Exception) -> bool:
        """Whether the role may not do this here: it lacks a right."""

    def is_read_only(self, error: Exception) -> bool:  # noqa: ARG002
        """Whether nobody may write here: a replica, or for seconds the old primary."""
        return False

    def is_about_rows(self, error: Exception) -> bool:  # noqa: ARG002
        """Whether a change was refused for what is in its rows, so that other rows may pass."""
        return False

    @contextmanager
    def one_at_a_time(self, connection: Connection, task: str) -> Iterator[None]:  # noqa: ARG002
        """Keep every other process from the same ``task``, at least while the block lasts.

        SQLite has one writer at a time anyway.
        """
        yield

    @abstractmethod
    def is_timeout(self, error: Exception) -> bool:
        """Whether the statement exceeded the statement time-out."""

    def advice(self, error: Exception) -> str | None:  # noqa: ARG002
        """A hint for an error that has a remedy of its own; None for all others."""
        return None

    @abstractmethod
    def describe(self, error: Exception) -> str:
        """Describe a driver's error without any value from a row."""

    def describe_ddl(self, error: Exception) -> str:
        """The same for a statement that defines something, or sets up a session.

        It carries no row, so this is the server's own sentence, unless that may quote a value.
        """
        return self.describe(error)
