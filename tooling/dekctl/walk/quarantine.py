"""The quarantine during one walk: which rows to skip, and which entries have no row any more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dekctl.db.row import PrimaryKey, Row
from dekctl.db.table import DekTable
from dekctl.ledger import Ledger
from dekctl.ledger.quarantine import pk_hash

MAX_ENTRIES_CHECKED = 100_000
"""With more entries than this, those of deleted rows stay for a later walk: memory is bounded."""


class QuarantinedRows:
    """The rows of one table that earlier runs have put in quarantine."""

    def __init__(self, table: DekTable, ledger: Ledger | None, *, visits: bool) -> None:
        """Prepare; ``visits`` says that the walk takes up such rows like all others."""
        self._table = table
        self._ledger = ledger
        self._visits = visits
        self._any = False
        self._unseen: set[str] = set()

    def load(self) -> None:
        """Find out whether there are any."""
        if self._ledger is None:
            return
        quarantine, name = self._ledger.quarantine, self._table.config.context_name
        run = self._table.database.run
        count = run(lambda connection: quarantine.count(connection, name))
        self._any = count > 0
        if self.releases and count <= MAX_ENTRIES_CHECKED:
            self._unseen = run(lambda connection: quarantine.hashes(connection, name))

    @property
    def releases(self) -> bool:
        """Whether rows that are found good leave quarantine."""
        return self._any and self._visits

    def skipped(self, rows: Sequence[Row]) -> set[PrimaryKey]:
        """Which of these rows the walk skips."""
        ledger, name = self._ledger, self._table.config.context_name
        if ledger is None or not rows or not self._any or self._visits:
            return set()
        keys = [row.pk for row in rows]
        return self._table.database.run(
            lambda connection: ledger.quarantine.among(connection, name, keys)
        )

    def mark_seen(self, rows: Iterable[Row]) -> None:
        """Note that these rows exist, due or not."""
        if self._unseen:
            self._unseen.difference_update(pk_hash(row.pk) for row in rows)

    def forget_deleted(self) -> None:
        """Remove entries whose rows a walk over the whole table has not met: they were deleted."""
        ledger, deleted = self._ledger, sorted(self._unseen)
        if ledger is None or not deleted:
            return
        name = self._table.config.context_name
        self._table.database.run(
            lambda connection: ledger.quarantine.forget(connection, name, deleted), write=True
        )
