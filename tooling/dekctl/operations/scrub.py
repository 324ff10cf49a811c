"""Scrub: remove a plaintext, in the very statement that has just proved its wrapped copy.

The wrapped key is opened and compared first. The write then names the fingerprint of the row that
was proved; the database computes it again, plaintext and wrapped key included, so a row that
changed in between keeps its plaintext.
"""

from __future__ import annotations

from dekctl.db.row import Change, Row
from dekctl.operations.base import Verdict
from dekctl.operations.prove import Prove


class Scrub(Prove):
    """Sets the plaintext of proved rows to NULL."""

    name = "scrub"
    columns = ("plaintext",)
    erases = True
    refuses_other_forms = True

    def due(self) -> str:
        # Rows without a wrapped key too: one that is left in quarantine must not pass for scrubbed.
        return f"{self.table.quoted('plaintext')} IS NOT NULL"

    def proved(self, row: Row, key: bytes) -> Verdict:  # noqa: ARG002
        return Change(row, (None,))
