"""Verify: decrypt every wrapped key, and compare it with the plaintext where there is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dekctl.db.row import Row
from dekctl.db.shape import Stage
from dekctl.db.table import DekTable
from dekctl.kms.interface import Unwrapped
from dekctl.kms.router import RoutedKMS
from dekctl.ledger import Ledger
from dekctl.operations.base import Proved, Verb, Verdict
from dekctl.operations.prove import Prove


@dataclass(frozen=True)
class Verify(Verb):
    """Verify all rows, or ``sample`` of them, or (``both_only``) those that have both keys."""

    name = "verify"
    stages = (Stage.EXPANDED, Stage.CONTRACTED)
    writes = False

    sample: int | None = None
    both_only: bool = False

    def on(self, table: DekTable, kms: RoutedKMS) -> VerifyRows:
        return VerifyRows(table, kms, both_only=self.both_only)

    def check(self, table: DekTable, ledger: Ledger | None) -> None:  # noqa: ARG002
        table.refuse_ambiguous_key()  # a key that two rows could exchange proves nothing


class VerifyRows(Prove):
    """Reads every wrapped row, quarantined ones too; those that are right leave quarantine."""

    visits_quarantined = True
    max_rejected_first = 10_000  # it only looks, and what it finds may be what it was started for

    def __init__(self, table: DekTable, kms: RoutedKMS, *, both_only: bool = False) -> None:
        super().__init__(table, kms)
        self.both_only = both_only and table.has("plaintext")

    def due(self) -> str:
        wrapped = self.table.has_value("wrapped")
        if not self.table.has("plaintext"):
            return wrapped
        operator = "AND" if self.both_only else "OR"
        return f"({wrapped} {operator} {self.table.has_value('plaintext')})"

    def proved(self, row: Row, key: Unwrapped) -> Verdict:  # noqa: ARG002
        return Proved(row)

    def ledger_facts(self, *, complete: bool) -> dict[str, Any]:  # noqa: ARG002
        return {"whole": False} if self.both_only else {}
