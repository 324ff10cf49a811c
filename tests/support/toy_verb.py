"""A verb that dekctl does not have: ``unwrap``, which empties the wrapped columns again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dekctl.db.row import Change, Row
from dekctl.db.shape import Stage
from dekctl.db.table import DekTable
from dekctl.kms.router import RoutedKMS
from dekctl.operations.base import Operation, Verb, Verdict


@dataclass(frozen=True)
class Unwrap(Verb):
    """Empty the wrapped columns of rows that have a plaintext, of one version if that is given."""

    name = "unwrap"
    stages = (Stage.EXPANDED,)

    version: str | None = None

    def on(self, table: DekTable, kms: RoutedKMS) -> UnwrapRows:
        return UnwrapRows(table, kms, self.version)


class UnwrapRows(Operation):
    """Empties the wrapped columns of one table."""

    columns = ("wrapped", "version", "kek")

    def __init__(self, table: DekTable, kms: RoutedKMS, version: str | None) -> None:
        super().__init__(table, kms)
        self.version = version

    def due(self) -> str:
        both = " AND ".join(f"{self.table.quoted(c)} IS NOT NULL" for c in ("plaintext", "wrapped"))
        only = f" AND {self.table.quoted('version')} = '{self.version}'" if self.version else ""
        return both + only

    def work(self, rows: Sequence[Row]) -> list[Verdict]:
        return [Change(row, (None, None, None)) for row in rows]
