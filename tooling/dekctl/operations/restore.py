"""Restore: undo scrub. Decrypts wrapped keys and writes them to the plaintext column.

The only verb that sends a plaintext key to the database.
"""

from __future__ import annotations

from dataclasses import dataclass

from dekctl.db.database import Database
from dekctl.db.plaintext import encode_plaintext
from dekctl.db.row import Change, Row
from dekctl.db.shape import Stage
from dekctl.db.table import DekTable
from dekctl.errors import RefusedError
from dekctl.kms.interface import Unwrapped
from dekctl.kms.router import RoutedKMS
from dekctl.ledger import Ledger
from dekctl.operations.base import Notify, Proved, Verb, Verdict
from dekctl.operations.prove import Prove


@dataclass(frozen=True)
class Restore(Verb):
    """Fill the plaintext of rows that have only a wrapped key; the wrapped key stays."""

    accept_logging: bool = False
    """Whether the server's logs may show every key."""

    name = "restore"
    stages = (Stage.EXPANDED,)
    dry_run_stages = (Stage.CONTRACTED,)
    done_at = Stage.LEGACY

    def check(self, table: DekTable, ledger: Ledger | None) -> None:  # noqa: ARG002
        refuse_logged(table.database, accepted=self.accept_logging)

    def on(self, table: DekTable, kms: RoutedKMS) -> RestoreRows:
        return RestoreRows(table, kms)


class RestoreRows(Prove):
    """Restores the rows of one table."""

    columns = ("plaintext",)
    visits_quarantined = True  # every key that can be brought back is brought back

    def begin(self, notify: Notify) -> None:
        with self.table.database.transaction() as connection:
            logs = self.table.database.dialect.key_logs(connection)
        if logs:
            names = "; ".join(log.name for log in logs)
            notify(f"every key that is written shows in: {names}")

    def due(self) -> str:
        if not self.table.has("plaintext"):  # a dry run after contract
            return self.table.has_value("wrapped")
        return self.table.wrapped_only

    def proved(self, row: Row, key: Unwrapped) -> Verdict:
        encoding = self.table.config.plaintext_encoding
        stored = encode_plaintext(key.plaintext, encoding, as_text=self.table.plaintext_is_text)
        return Change(row, (stored,)) if self.table.has("plaintext") else Proved(row)


def refuse_logged(database: Database, *, accepted: bool) -> None:
    """Refuse to write plaintexts while the server logs statements with their values.

    Raises:
        RefusedError: it does, and that was not ``accepted``.
    """
    with database.transaction() as connection:
        logs = [log for log in database.dialect.key_logs(connection) if log.off is not None]
    if logs and not accepted:
        raise RefusedError(
            f"{' and '.join(log.name for log in logs)} would show every key that is written",
            hint=f"switch it off meanwhile: {'; '.join(str(log.off) for log in logs)}; or accept "
            "it with --accept-logging",
        )
