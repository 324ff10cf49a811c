"""Finds the row that is read far more often than others, in constant memory.

Counts of the rows that were read most often are kept (Misra and Gries, 1982): when there are too
many, the same amount is taken from each, and rows that reach zero are dropped. A count is then too
small by that amount at most. How many rows there are is counted in a bitmap (linear counting, Whang
et al., 1990).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

KEPT_ROWS = 100_000
LEAST_READS = 100
"""A row that was read less often is never reported: among few reads, chance decides."""
_BITS = 2**23


@dataclass(slots=True)
class RowReads:
    """How often each row of one table was read."""

    total: int = 0
    _counts: dict[str, int] = field(default_factory=dict)
    _taken: int = 0
    _bitmap: bytearray | None = None

    def add(self, pk: str) -> None:
        """Count a read."""
        self.total += 1
        counts = self._counts
        counts[pk] = counts.get(pk, 0) + 1
        if self._bitmap is not None:
            self._mark(self._bitmap, pk)
        if len(counts) > 2 * KEPT_ROWS:
            self._drop()

    @property
    def rows(self) -> int:
        """How many different rows were read; an estimate (1%) if there are very many."""
        if self._bitmap is None:
            return len(self._counts)
        zeros = _BITS - sum(byte.bit_count() for byte in self._bitmap)
        return round(_BITS * math.log(_BITS / max(1, zeros)))

    def hot(self, factor: float) -> list[tuple[str, int, float]]:
        """Rows that were read ``factor`` times as often as the average other row.

        Each with its count and that average; the hottest first.
        """
        others = self.rows - 1
        if others < 1:
            return []
        found = []
        for pk, kept in self._counts.items():
            count = kept + self._taken
            average = (self.total - count) / others
            if kept >= LEAST_READS and count >= factor * average:
                found.append((pk, count, average))
        return sorted(found, key=lambda row: -row[1])

    def _drop(self) -> None:
        if self._bitmap is None:
            self._bitmap = bytearray(_BITS // 8)
            for pk in self._counts:
                self._mark(self._bitmap, pk)
        amount = sorted(self._counts.values())[len(self._counts) // 2]
        self._taken += amount
        self._counts = {pk: n - amount for pk, n in self._counts.items() if n > amount}

    @staticmethod
    def _mark(bitmap: bytearray, pk: str) -> None:
        place = hash(pk) % _BITS
        bitmap[place >> 3] |= 1 << (place & 7)
