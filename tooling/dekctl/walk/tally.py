"""What a walk did, in rows: counted by one walk, added up over many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dekctl.db.row import PrimaryKey


@dataclass(slots=True)
class Tally:
    """What a walk did, in rows."""

    scanned: int = 0
    due: int = 0
    changed: int = 0
    skipped: int = 0
    moved: int = 0
    quarantined: int = 0
    proved: int = 0
    pending: int = 0
    interrupted: bool = False
    position: PrimaryKey | None = None
    samples: list[tuple[PrimaryKey, str]] = field(default_factory=list)
    """The first few rows that were set aside, with the reason."""

    def set_aside(self, pk: PrimaryKey, reason: str) -> None:
        """Count a quarantined row."""
        self.quarantined += 1
        if len(self.samples) < 10:
            self.samples.append((pk, reason))


def add_tally(total: Tally, part: Tally) -> None:
    """Add what another walk did; positions are not added."""
    for name in _COUNTS:
        setattr(total, name, getattr(total, name) + getattr(part, name))
    total.interrupted = total.interrupted or part.interrupted
    total.samples = (total.samples + part.samples)[:10]


_COUNTS = (
    "scanned",
    "due",
    "changed",
    "skipped",
    "moved",
    "quarantined",
    "proved",
    "pending",
)


Progress = Callable[[Tally], None]
