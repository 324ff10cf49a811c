"""A branch key (V3) as it is stored."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class BranchKey:
    """A branch key as it is stored: wrapped by a KEK."""

    branch_id: str
    context_name: str
    wrapped: bytes = field(repr=False)
    kek_id: str
    max_uses: int
