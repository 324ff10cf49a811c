"""The quarantine as one walk meets it: which rows to leave out, which entries are of no row now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dekctl.db.row import PrimaryKey, Row
from dekctl.db.table import DekTable
from dekctl.ledger import Ledger
from dekctl.ledger.quarantine import pk_hash

MOST_LOOKED_FOR = 100_000
"""With more entries than this, those of deleted rows stay for a later walk: memory is bounded."""


class Aside:
    """The rows of one table that were set aside by earlier runs."""

    def __init__(self, table: DekTable, ledger: Ledger | None, *, visits: bool) -> None:
        """Prepare; ``visits`` says that the walk takes such rows up like all others."""
        self._table = table
        self._ledger = ledger
        self._visits = visits
        self._any = False
        self._unseen: set[str] = set()

    def begin(self) -> None:
        """Look whether there are any."""
        if self._ledger is None:
            return
        quarantine, name = self._ledger.quarantine, self._table.config.context_name
        run = self._table.database.run
        count = run(lambda connection: quarantine.count(connection, name))
        self._any = count > 0
        if self.releases and count <= MOST_LOOKED_FOR:
            self._unseen = run(lambda connection: quarantine.hashes(connection, name))

    @property
    def releases(self) -> bool:
        """Whether rows found right are to be taken out of quarantine."""
        return self._any and self._visits

    def left_out(self, rows: Sequence[Row]) -> set[PrimaryKey]:
        """Which of these rows the walk leaves where they are."""
        ledger, name = self._ledger, self._table.config.context_name
        if ledger is None or not rows or not self._any or self._visits:
            return set()
        keys = [row.pk for row in rows]
        return self._table.database.run(
            lambda connection: ledger.quarantine.among(connection, name, keys)
        )

    def saw(self, rows: Iterable[Row]) -> None:
        """Take note of rows that are there, due or not."""
        if self._unseen:
            self._unseen.difference_update(pk_hash(row.pk) for row in rows)

    def drop_gone(self) -> None:
        """Forget the rows that a walk over the whole table has not met: they were deleted."""
        ledger, gone = self._ledger, sorted(self._unseen)
        if ledger is None or not gone:
            return
        name = self._table.config.context_name
        self._table.database.run(
            lambda connection: ledger.quarantine.forget(connection, name, gone), write=True
        )
