"""What a verb is: its facts and options (:class:`Verb`), and its work on rows (:class:`Operation`).

A verb is one module of this package with one class of each kind. Nothing else in the package lists
verbs: the command that runs a verb names its class.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dekctl.config.roles import Role
from dekctl.db.row import Change, Row
from dekctl.db.shape import Stage
from dekctl.db.table import DekTable
from dekctl.errors import DekctlError, KekRefusedError, RowRejectedError
from dekctl.kms.context import context_for_version
from dekctl.kms.interface import Context
from dekctl.kms.router import RoutedKMS
from dekctl.ledger import Ledger
from dekctl.operations.cost import Cost

Notify = Callable[[str], None]
"""Takes a message for people that is not part of the result."""

Counts = Mapping[str, Counter[Any]]
"""What an operation counted, by name; see :attr:`Operation.counts`."""


@dataclass(slots=True)
class Rejected:
    """This row cannot be handled and goes to quarantine; ``reason`` never shows a key."""

    row: Row
    reason: str
    refusal: DekctlError | None = None
    """What stops the run where it meets every row alike; None for a fault of this row alone."""

    @classmethod
    def by(cls, row: Row, error: RowRejectedError) -> Rejected:
        """Reject a row for what KMS or a check of its key said."""
        return cls(row, reason_of(error), error if isinstance(error, KekRefusedError) else None)


@dataclass(slots=True)
class Proved:
    """This row was checked and is right; nothing is to be written."""

    row: Row


@dataclass(slots=True)
class Pending:
    """This row waits for another verb."""

    row: Row


Verdict = Change | Rejected | Proved | Pending


class Verb(ABC):
    """The facts of a verb, as class attributes, and the options that only it has, as fields.

    An instance is what a person asked for. It is a frozen dataclass, or has no fields at all: it is
    pickled and sent to worker processes.
    """

    name: ClassVar[str]
    """The command, and the ``operation`` of its runs in the ledger."""
    role: ClassVar[Role] = Role.VERIFIER
    """The role that makes most of the KMS calls; its quota counts for ``--quota-share``."""
    stages: ClassVar[tuple[Stage, ...]]
    """The stages at which a table is accepted."""
    dry_run_stages: ClassVar[tuple[Stage, ...]] = ()
    """Further stages that a dry run accepts."""
    done_at: ClassVar[Stage | None] = None
    """At this stage nothing is left to do: such tables are skipped if there are others."""
    writes: ClassVar[bool] = True
    """Whether it changes rows. The result of one that does not says how many it verified."""

    rebinds: ClassVar[bool] = False
    """Whether it takes a table whose rows are bound to something else than [table] says."""

    @property
    def hierarchical(self) -> bool:
        """Whether it wraps under branch keys (V3), whatever the table's configuration says."""
        return False

    @property
    def target(self) -> str | None:
        """The KEK that it wraps under instead of the active one."""
        return None

    @property
    def sample(self) -> int | None:
        """About how many rows it takes, spread over the table; None for all."""
        return None

    def with_keks(self, find: Callable[[str], str]) -> Verb:  # noqa: ARG002 - most name none
        """Replace the KEKs that a person named by the ids that rows store; ``find`` looks them up.

        Raises:
            UsageError: there is no such KEK.
        """
        return self

    @abstractmethod
    def on(self, table: DekTable, kms: RoutedKMS) -> Operation:
        """Start working on a table.

        Raises:
            UsageError: the options do not fit the table.
            KMSError: KMS refused or cannot be reached.
        """

    def check(self, table: DekTable, ledger: Ledger | None) -> None:  # noqa: B027 - most need none
        """Guard a table before anything is changed; ``ledger`` is None while there is none.

        Raises:
            RefusedError: the verb would lose a key here.
        """

    def result_fields(self, *, reencrypted_locally: int) -> dict[str, Any]:  # noqa: ARG002
        """Fields of the result that only this verb has.

        Args:
            reencrypted_locally: keys that were decrypted and wrapped again in this run's processes.
        """
        return {}


class Operation(ABC):
    """The work of one verb on one table. Several threads may call :meth:`work` at once."""

    columns: tuple[str, ...] = ()
    """The columns that every change sets; empty for a verb that only looks."""
    works_in_dry_run = True
    """Whether a dry run does the real work up to the write, or only counts the pending rows."""
    visits_quarantined = False
    """Whether rows in quarantine are read too."""
    erases = False
    """Whether a change removes a key for good: what was there is overwritten where that helps."""
    max_rejected_first = 100
    """So many rejected rows before the first good one, and the run is refused as misconfigured."""
    settings_proved = False
    """Whether the settings are known to be right before the first row: then no run is refused."""
    kek_id: str | None = None
    """The KEK that the operation wraps under, where it is known at the start and is only one."""

    def __init__(self, table: DekTable, kms: RoutedKMS) -> None:
        self.table = table
        self.kms = kms
        self.counts: defaultdict[str, Counter[Any]] = defaultdict(Counter)
        """What the operation counted besides rows, by name; summed over worker processes.

        ``keks`` counts the keys that were wrapped under each KEK, by the id that KMS returned.
        """
        self._count_lock = threading.Lock()

    def count(self, name: str, seen: Iterable[Any] | Mapping[Any, int]) -> None:
        """Add to one of :attr:`counts`."""
        with self._count_lock:
            self.counts[name].update(seen)

    def add_counts(self, counts: Counts) -> None:
        """Add what the same operation counted in another process."""
        for name, counter in counts.items():
            self.count(name, counter)

    @abstractmethod
    def due(self) -> str:
        """SQL condition for the rows that this verb has to handle."""

    def begin(self, notify: Notify) -> None:  # noqa: B027 - most verbs begin with the first row
        """Do what comes before the rows; not called in a dry run.

        Raises:
            KMSError: KMS refused.
            DatabaseError: the database refused.
        """

    def expect(self, rows: int) -> None:  # noqa: B027 - most verbs have nothing to prepare
        """Notify of the number of rows about to be passed to :meth:`work`; must not block."""

    @abstractmethod
    def work(self, rows: Sequence[Row]) -> list[Verdict]:
        """Handle the due rows of a batch; one verdict per row, in order.

        Raises:
            KMSError: what every other row would meet too.
        """

    def rehearse(self, rows: Sequence[Row]) -> list[Verdict]:
        """What a dry run can tell without calling KMS, if :attr:`works_in_dry_run` is false."""
        return [Change(row, ()) for row in rows]

    def end(self, notify: Notify) -> None:  # noqa: B027 - most verbs have nothing to add
        """Say what people should know once all rows were read."""

    def cost(self, rows: int) -> Cost | None:  # noqa: ARG002 - a verb without an estimate
        """What changing ``rows`` rows costs; None for a verb that gives no estimate."""
        return None

    def ledger_facts(self, *, complete: bool) -> dict[str, Any]:  # noqa: ARG002 - most have none
        """What the ledger keeps of the run besides the counts.

        ``complete`` says that the run read every row and quarantined none.
        """
        return {}

    def context_of(self, row: Row) -> Context | None:
        """The encryption context that this row's wrapped key is bound to.

        Raises:
            RowRejectedError: the row's version is unknown.
        """
        return context_for_version(row.version, self.table.config.context_name, row.pk)


def reason_of(error: RowRejectedError) -> str:
    """What is kept about a rejected row."""
    return error.message if error.hint is None else f"{error.message}; {error.hint}"
