"""Since when no row has used a KEK, from the ledger: the backup window of `retire`.

A backup that was taken while rows named a KEK is useless without that KEK. So the window begins
when the last row was moved: at the end of a complete `rewrap` that left none behind, or else when a
`retire` first found no row. Either counts only while no row comes back, and a run that did not
record what it moved (it was killed, for example) restarts the window.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from dekctl import __version__
from dekctl.checks import Check
from dekctl.kek_id import could_be, is_same_kek
from dekctl.ledger import Ledger, RunState, parse_result, parse_time, tables
from dekctl.operations.rewrap import Rewrap
from dekctl.project import Project

RETIRE = "retire"


@dataclass(frozen=True, slots=True)
class Window:
    """The backup window of a KEK. Times are UTC, by the database's clock.

    ``empty_since`` is None if unknown; then ``ends`` is None too.
    """

    days: int
    now: datetime
    empty_since: datetime | None

    @property
    def ends(self) -> datetime | None:
        """When the last backup with a row of this KEK has expired."""
        return self.empty_since + timedelta(days=self.days) if self.empty_since else None

    @property
    def over(self) -> bool:
        """Whether no backup needs the KEK any more."""
        return self.days == 0 or (self.ends is not None and self.ends <= self.now)


def no_window(project: Project) -> Check | None:
    """The check of backups where none is declared, or no ledger tells since when; else None.

    Raises:
        DatabaseError: the database refused or cannot be reached.
    """
    if project.env.backup_retention_days == 0:
        return Check("backups", True, "no backup window is declared (backup_retention_days)")
    if not project.ledger.exists():
        return Check(
            "backups",
            False,
            "there is no ledger, so what backups contain is unknown",
            "create the ledger with: dekctl schema expand",
        )
    return None


def backup_window(project: Project, kek: str) -> Window:
    """Compute a KEK's window. The caller has checked that no row names it now.

    Raises:
        DatabaseError: the database refused or cannot be reached.
    """
    ledger = project.ledger
    with project.database.transaction() as connection:
        now = project.database.now(connection)
    if not ledger.exists():
        return Window(project.env.backup_retention_days, now, None)
    since = [_empty_since(ledger, table.context_name, kek) for table in project.config.tables]
    known = [moment for moment in since if moment is not None]
    whole = max(known) if len(known) == len(since) else None
    return Window(project.env.backup_retention_days, now, whole)


def note_count(project: Project, kek: str, rows: int) -> None:
    """Record in the ledger how many rows named a KEK when `retire` counted."""
    ledger = project.ledger
    for table in project.config.tables:
        run = ledger.start(
            RETIRE,
            table.context_name,
            shard=None,
            writes=False,
            kek_id=kek,
            version=__version__,
        )
        run.result = {"rows": rows, "kms_calls": {}}
        ledger.end(run, RunState.FINISHED)


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run in the ledger. ``ended`` is None while it runs, and after it was killed."""

    operation: str
    kek_id: str | None
    ended: datetime | None
    whole: bool
    result: dict[str, Any]

    @property
    def tells(self) -> bool:
        """Whether the sources of all moved rows are known; after a lost worker they are not."""
        moved = sum(self.result.get("sources", {}).values())
        counted = self.whole and not self.result.get("incomplete")
        return counted and moved >= self.result.get("changed", moved + 1)

    def takes_from(self, kek: str) -> bool:
        """Whether it may have moved a row off a KEK."""
        sources = (source or None for source in self.result.get("sources", {}))
        return not self.tells or any(_may_be(source, kek) for source in sources)

    def brings_to(self, kek: str) -> bool:
        """Whether it may have moved a row to a KEK."""
        return any(_may_be(target, kek) for target in self.result.get("targets", ()))

    def left_none_of(self, kek: str) -> bool:
        """Whether no row of a KEK was left behind."""
        left = self.result.get("left_none_of")
        return left == "any" or (left is not None and is_same_kek(left, kek))


def past_runs(ledger: Ledger, context_name: str, *operations: str) -> list[PastRun]:
    """The runs of a table that wrote, and the notes of ``retire``, by the time they ended.

    Raises:
        DatabaseError: the database refused or cannot be reached.
    """
    runs = tables(ledger.schema)["runs"].c
    query = sa.select(
        runs.operation, runs.kek_id, runs.state, runs.ended_at, runs.result, runs.dry_run
    ).where(runs.table_name == context_name, runs.operation.in_(operations))
    with ledger.database.transaction() as connection:
        found = [
            PastRun(
                row.operation,
                row.kek_id,
                parse_time(row.ended_at),
                # What a run did between its last heartbeat and being killed is not in its result.
                row.state in {RunState.FINISHED, RunState.INTERRUPTED},
                parse_result(row.result) or {},
            )
            for row in connection.execute(query)
            if not row.dry_run or row.operation == RETIRE
        ]
    # A note may end at the moment at which it found a killed run and closed it.
    return sorted(
        found, key=lambda e: (e.ended is None, e.ended or datetime.min, e.operation == RETIRE)
    )


def _empty_since(ledger: Ledger, context_name: str, kek: str) -> datetime | None:
    """When a table's last row was moved off a KEK, according to the ledger."""
    since: datetime | None = None
    for event in past_runs(ledger, context_name, RETIRE, Rewrap.name):
        if event.operation == RETIRE:
            if is_same_kek(event.kek_id, kek):
                since = (since or event.ended) if event.result.get("rows") == 0 else None
        elif event.brings_to(kek):
            since = None  # rows may have come (back) to it
        elif event.takes_from(kek):
            since = event.ended if event.left_none_of(kek) else None
        elif event.left_none_of(kek):
            since = since or event.ended
    return since


def _may_be(kek_id: str | None, kek: str) -> bool:
    return is_same_kek(kek_id, kek) or could_be(kek_id, kek)
