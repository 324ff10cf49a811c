"""Restore: undo scrub. Decrypts wrapped keys and writes them to the plaintext column.

The only verb that sends a plaintext key to the database.
"""

from __future__ import annotations

from dekctl.db.plaintext import encode_plaintext
from dekctl.db.row import Change, Row
from dekctl.db.shape import Stage
from dekctl.db.table import DekTable
from dekctl.kms.interface import Unwrapped
from dekctl.kms.router import RoutedKMS
from dekctl.operations.base import Proved, Verb, Verdict
from dekctl.operations.prove import Prove


class Restore(Verb):
    """Fill the plaintext of rows that have only a wrapped key; the wrapped key stays."""

    name = "restore"
    stages = (Stage.EXPANDED,)
    dry_run_stages = (Stage.CONTRACTED,)
    done_at = Stage.LEGACY

    def on(self, table: DekTable, kms: RoutedKMS) -> RestoreRows:
        return RestoreRows(table, kms)


class RestoreRows(Prove):
    """Restores the rows of one table."""

    columns = ("plaintext",)
    visits_quarantined = True  # every key that can be brought back is brought back

    def due(self) -> str:
        if not self.table.has("plaintext"):  # a dry run after contract
            return self.table.has_value("wrapped")
        return self.table.wrapped_only

    def proved(self, row: Row, key: Unwrapped) -> Verdict:
        encoding = self.table.config.plaintext_encoding
        stored = encode_plaintext(key.plaintext, encoding, as_text=self.table.plaintext_is_text)
        return Change(row, (stored,)) if self.table.has("plaintext") else Proved(row)
