"""What a verb is to the engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dekctl.db.row import Change, Row
from dekctl.db.table import DekTable
from dekctl.errors import RowRejectedError
from dekctl.kms.context import context_for_version
from dekctl.kms.interface import Context, KMSInterface


@dataclass(slots=True)
class Fault:
    """This row cannot be handled; ``reason`` never shows a key."""

    row: Row
    reason: str


@dataclass(slots=True)
class Proved:
    """This row was checked and found right; nothing is to be written."""

    row: Row


@dataclass(slots=True)
class Pending:
    """This row waits for another verb."""

    row: Row


Verdict = Change | Fault | Proved | Pending


class Operation(ABC):
    """One verb. :meth:`work` may be called from several threads at once."""

    name: str
    columns: tuple[str, ...] = ()
    """The columns that every change of this verb sets; empty for a verb that only looks."""
    works_in_dry_run = True
    """Whether a dry run does the real work up to the write, or only counts what is due."""
    visits_quarantined = False
    """Whether rows in quarantine are looked at too."""
    erases = False
    """Whether a change removes a key for good: what was there is overwritten where that helps."""
    hopeless_after = 100
    """So many rejected rows before the first good one, and the run is refused as misconfigured."""

    def __init__(self, table: DekTable, kms: KMSInterface) -> None:
        self.table = table
        self.kms = kms
        self.written_under: Counter[str] = Counter()
        """How many keys a verb that wraps has wrapped under each KEK, by the id KMS returned."""

    @abstractmethod
    def due(self) -> str:
        """SQL condition for the rows that this verb has something to do with."""

    def begin(self) -> None:  # noqa: B027 - most verbs begin with the first row
        """Do what comes before the rows; not called in a dry run.

        Raises:
            KMSError: KMS refused.
            DatabaseError: the database refused.
        """

    def expect(self, rows: int) -> None:  # noqa: B027 - most verbs have nothing to prepare
        """Hear that :meth:`work` will get so many more rows soon; return at once."""

    @abstractmethod
    def work(self, rows: Sequence[Row]) -> list[Verdict]:
        """Handle the due rows of a page; one verdict per row, in order.

        Raises:
            KMSError: what every other row would meet too.
        """

    def rehearse(self, rows: Sequence[Row]) -> list[Verdict]:
        """What a dry run can tell without calling KMS, for a verb that is not done in one."""
        return [Change(row, ()) for row in rows]

    def context_of(self, row: Row) -> Context | None:
        """The encryption context that this row's wrapped key is bound to.

        Raises:
            RowRejectedError: the row's version is unknown.
        """
        return context_for_version(row.version, self.table.config.context_name, row.pk)


def reason_of(error: RowRejectedError) -> str:
    """What is kept about a rejected row."""
    return error.message if error.hint is None else f"{error.message}; {error.hint}"
