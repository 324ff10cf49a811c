"""Verify: every wrapped key opens, and equals its plaintext where that is still there."""

from __future__ import annotations

from dekctl.db.row import Row
from dekctl.db.table import DekTable
from dekctl.kms.interface import KMSInterface
from dekctl.operations.base import Proved, Verdict
from dekctl.operations.prove import Prove


class Verify(Prove):
    """Looks at every wrapped row, quarantined ones too; those found right leave quarantine.

    With ``both_only`` only at rows that have a plaintext as well.
    """

    name = "verify"
    visits_quarantined = True
    hopeless_after = 10_000  # it only looks, and what it finds may be what it was started for

    def __init__(self, table: DekTable, kms: KMSInterface, *, both_only: bool = False) -> None:
        super().__init__(table, kms)
        self.both_only = both_only and table.has("plaintext")

    def due(self) -> str:
        wrapped = f"{self.table.quoted('wrapped')} IS NOT NULL"
        if self.both_only:
            return f"({wrapped} AND {self.table.quoted('plaintext')} IS NOT NULL)"
        if not self.table.has("plaintext"):
            return wrapped
        return f"({wrapped} OR {self.table.quoted('plaintext')} IS NOT NULL)"

    def proved(self, row: Row, key: bytes) -> Verdict:  # noqa: ARG002
        return Proved(row)
