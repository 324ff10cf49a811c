"""What a walk did, in rows: counted by one walk, added up over many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dekctl.db.row import PrimaryKey

MAX_EXAMPLES = 10


@dataclass(slots=True)
class RowCounts:
    """What a walk did, in rows.

    ``scanned`` were read, and ``due`` of them had work; ``moved`` were changed by another writer
    meanwhile and read again; ``pending`` wait for another verb. ``position`` is the last primary
    key up to which every row is done.
    """

    scanned: int = 0
    due: int = 0
    changed: int = 0
    skipped: int = 0
    moved: int = 0
    quarantined: int = 0
    proved: int = 0
    pending: int = 0
    interrupted: bool = False
    incomplete: bool = False
    """Whether a lost worker may have written rows that are not counted."""
    position: PrimaryKey | None = None
    examples: list[tuple[PrimaryKey, str]] = field(default_factory=list)
    """The first few quarantined rows, with the reason."""

    def quarantine(self, pk: PrimaryKey, reason: str) -> None:
        """Count a quarantined row."""
        self.quarantined += 1
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append((pk, reason))

    def as_json(self) -> dict[str, int]:
        """The counts by name, as results and the ledger have them."""
        return {
            "scanned": self.scanned,
            "changed": self.changed,
            "skipped": self.skipped,
            "moved": self.moved,
            "quarantined": self.quarantined,
        }


def add_counts(total: RowCounts, part: RowCounts) -> None:
    """Add what another walk did; positions are not added."""
    for name in _SUMMED:
        setattr(total, name, getattr(total, name) + getattr(part, name))
    total.interrupted = total.interrupted or part.interrupted
    total.examples = (total.examples + part.examples)[:MAX_EXAMPLES]


_SUMMED = (
    "scanned",
    "due",
    "changed",
    "skipped",
    "moved",
    "quarantined",
    "proved",
    "pending",
)


OnCounts = Callable[[RowCounts], None]
"""Takes the counts so far."""
