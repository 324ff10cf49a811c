"""Restore: the way back. Opens wrapped keys and writes them into the plaintext column again.

The only verb that sends a plaintext key to the database.
"""

from __future__ import annotations

from dekctl.db.plaintext import encode_plaintext
from dekctl.db.row import Change, Row
from dekctl.operations.base import Proved, Verdict
from dekctl.operations.prove import Prove


class Restore(Prove):
    """Fills the plaintext of rows that have only a wrapped key; the wrapped key stays."""

    name = "restore"
    columns = ("plaintext",)
    visits_quarantined = True  # the way back leaves nothing out that can be brought back

    def due(self) -> str:
        wrapped = f"{self.table.quoted('wrapped')} IS NOT NULL"
        if not self.table.has("plaintext"):  # a rehearsal after contract
            return wrapped
        return f"{wrapped} AND {self.table.quoted('plaintext')} IS NULL"

    def proved(self, row: Row, key: bytes) -> Verdict:
        encoding = self.table.config.plaintext_encoding
        stored = encode_plaintext(key, encoding, as_text=self.table.plaintext_is_text)
        return Change(row, (stored,)) if self.table.has("plaintext") else Proved(row)
