"""What differs between the databases, and nothing else.

One subclass per dialect (:mod:`postgresql`, :mod:`mysql`, :mod:`sqlite`); the table and the engine
speak to this interface only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine
from sqlalchemy.types import TypeEngine

from dekctl.db.rows import Change

if TYPE_CHECKING:
    from dekctl.db.table import DekTable


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits in seconds: on waiting for a lock, and on a statement that is not a patient one."""

    lock: float
    statement: float


class Backend(ABC):
    """One database's dialect."""

    name: str
    writers = 1
    """How many pages are written at once, in transactions of their own."""
    clock: str
    """SQL that gives the time now in UTC, as a timestamp without zone."""
    writes_in_place = False
    """Whether an UPDATE to a value of the same length overwrites the bytes where they are."""
    is_remote = True
    """Whether a connection is a socket, behind which a server may stop to answer."""

    def __init__(self, timeouts: Timeouts) -> None:
        self.timeouts = timeouts

    @abstractmethod
    def engine_options(self) -> dict[str, Any]:
        """Options for ``create_engine`` beyond the common ones."""

    @abstractmethod
    def prepare(self, engine: Engine) -> None:
        """Attach what every connection or transaction needs: timeouts, functions, pragmas."""

    def socket_of(self, connection: Any) -> int:
        """The number of the socket behind a driver's connection, where there is one."""
        raise NotImplementedError

    @abstractmethod
    def selected(self, column: str, *, is_text: bool) -> str:
        """SQL by which a key column (already quoted) is read, the same way it is fingerprinted."""

    @abstractmethod
    def fingerprint(self, columns: Sequence[tuple[str, bool] | None]) -> str:
        """SQL of :func:`dekctl.db.rows.fingerprint` over (quoted column, is text) pairs.

        None stands for a column that the table no longer has.
        """

    @abstractmethod
    def shard_number(self, key: Sequence[str], *, is_integer: bool) -> str:
        """SQL of an integer that spreads rows evenly by primary key (quoted columns)."""

    def unfit_as_key(self, kind: TypeEngine[Any]) -> str | None:  # noqa: ARG002
        """Why a column of this type cannot be walked by or bound to; None where it can."""
        return None

    def unfit_table(self, connection: Connection, table: str, schema: str | None) -> str | None:  # noqa: ARG002
        """Why no key of a table can be unique over all that is read from it; None where one can."""
        return None

    def invalid_indexes(
        self,
        connection: Connection,  # noqa: ARG002
        table: str,  # noqa: ARG002
        schema: str | None,  # noqa: ARG002
    ) -> frozenset[str]:
        """The names of a table's indexes that the server does not hold to be complete."""
        return frozenset()

    def ambiguous_key(self, connection: Connection, table: DekTable) -> str | None:  # noqa: ARG002
        """A primary-key column whose values may differ and still have one text; None without."""
        return None

    def compare_keys(self, key: Sequence[str], operator: str, values: Sequence[str]) -> str:
        """SQL that compares the primary key with values, ``>`` or ``<=``, by way of its index."""
        if len(key) == 1:
            return f"{key[0]} {operator} {values[0]}"
        return f"({', '.join(key)}) {operator} ({', '.join(values)})"

    @abstractmethod
    def estimate_rows(self, connection: Connection, table: DekTable) -> int | None:
        """The server's own estimate of a table's rows; None where it has none."""

    @abstractmethod
    def swap(
        self, connection: Connection, table: DekTable, columns: Sequence[str], changes: list[Change]
    ) -> int:
        """Write the changes whose rows still have their fingerprint. Returns how many did.

        ``columns`` name what each change sets; ``changes`` are in primary-key order. A text key
        has to be spelled as it was read, whatever its collation calls equal: the encryption
        context takes it literally.
        """

    @abstractmethod
    def is_transient(self, error: Exception) -> bool:
        """Whether the same transaction may succeed when it is tried again."""

    @abstractmethod
    def is_timeout(self, error: Exception) -> bool:
        """Whether the statement ran into the statement time-out."""

    def advice(self, error: Exception) -> str | None:  # noqa: ARG002
        """What to do about an error that has a remedy of its own; None for all others."""
        return None

    @abstractmethod
    def describe(self, error: Exception) -> str:
        """Say what the driver's error is, without any value out of a row."""
