"""Commits a batch. A row that the database refuses is found, and stops no other one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from dekctl.db.row import Change, PrimaryKey
from dekctl.errors import RowRefusedError
from dekctl.ledger import Ledger, Run
from dekctl.operations.base import Operation, Proved, Rejected
from dekctl.walk.breaker import Breaker
from dekctl.walk.quarantine import QuarantinedRows
from dekctl.walk.writing import write

MAX_REFUSED_FIRST = 100
"""So many rows that the database refuses before it takes one, and the run stops."""


@dataclass(slots=True)
class Written:
    """What became of the changes of a batch; ``refused`` is how many the database did not take."""

    moved: list[PrimaryKey] = field(default_factory=list)
    refused: int = 0
    quarantined: list[Rejected] = field(default_factory=list)


class Writer:
    """Writes to one table and its quarantine. Several threads may write at once."""

    def __init__(
        self,
        operation: Operation,
        ledger: Ledger | None,
        run: Run | None,
        quarantined: QuarantinedRows,
        refusals: Breaker,
    ) -> None:
        self._table = operation.table
        self._operation = operation
        self._ledger = ledger
        self._run = run
        self._quarantined = quarantined
        self._refusals = refusals

    def write(
        self,
        changes: Sequence[Change],
        proved: Sequence[Proved],
        rejected: Sequence[Rejected],
        *,
        keep_going: bool,
    ) -> Written:
        """Write changes, and rows into and out of quarantine.

        Raises:
            AllRowsRejectedError: the database has refused too many rows and taken none.
            DatabaseError: what it would refuse of every row.
        """
        done = Written()
        try:
            done.moved = self._commit([*changes, *proved], changes, rejected)
        except RowRefusedError:
            if not changes:
                raise
            self._write_parts(changes, done, keep_going=keep_going)
            self._commit(proved, [], rejected)
        else:
            self._taken(len(changes) > len(done.moved), done)
        self.quarantine(done.quarantined)
        done.quarantined += rejected
        return done

    def quarantine(self, rejected: Sequence[Rejected]) -> None:
        """Put rows into quarantine."""
        self._commit([], [], rejected)

    def _write_parts(self, changes: Sequence[Change], done: Written, *, keep_going: bool) -> None:
        """Write what can be written: the halves, and their halves where they are refused."""
        middle = (len(changes) + 1) // 2
        for part in (changes[:middle], changes[middle:]):
            try:
                moved = self._commit(part, part, [])
            except RowRefusedError as error:
                if len(part) > 1:
                    self._write_parts(part, done, keep_going=keep_going)
                    continue
                done.refused += 1
                one = Rejected(
                    part[0].row, f"the database refused to change it: {error.reason}", error
                )
                done.quarantined += self._refusals.pass_on([one], good=keep_going)
            else:
                done.moved += moved
                self._taken(len(part) > len(moved), done)

    def _taken(self, good: bool, done: Written) -> None:
        """Note that the database took a row: those that it refused before are bad ones."""
        if good:
            done.quarantined += self._refusals.pass_on([], good=True)

    def _commit(
        self,
        good: Sequence[Change | Proved],
        changes: Sequence[Change],
        rejected: Sequence[Rejected],
    ) -> list[PrimaryKey]:
        """Write in one transaction; return the keys of rows that another writer has changed."""
        release = self._quarantined.releases
        noted = self._run is not None and (rejected or (release and good))
        if not (changes or noted):
            return []
        ledger, run, operation = self._ledger, self._run, self._operation

        def commit(connection: Connection) -> tuple[list[PrimaryKey], set[str]]:
            moved, lost = write(connection, operation, list(changes))
            if ledger is not None and run is not None:
                if release:
                    still = set(moved)
                    ledger.quarantine.release(
                        connection,
                        run.table_name,
                        [v.row.pk for v in good if v.row.pk not in still],
                    )
                ledger.quarantine.add(connection, run, [(r.row.pk, r.reason) for r in rejected])
            return moved, lost

        moved, lost = self._table.database.run(commit, write=True)
        if lost and operation.kms.branches is not None:
            operation.kms.branches.forget_all(lost)
        return moved
