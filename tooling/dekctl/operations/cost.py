"""What a run over one table costs, in KMS calls."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """What the due rows of one table cost.

    ``version`` is the one that the run writes; ``calls`` are the KMS calls for each version that it
    could write, so that people can compare.
    """

    rows: int
    version: str
    calls: dict[str, int]
