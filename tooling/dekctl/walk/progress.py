"""How far a run is, as its caller is told: at each table's start, after each batch, at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from dekctl.walk.counts import RowCounts


@dataclass(frozen=True, slots=True)
class Moment:
    """How far a run over one table is.

    Args:
        operation: the verb.
        table: the table, as configured.
        run_id: the run's id in the ledger; None where it has no entry.
        counts: what was done so far.
        rows: the rows of the table, or of the part that the run takes.
        estimated: whether ``rows`` is an estimate.
        limit: maximum rows to take up; None for all.
        kms_calls: KMS calls of this table so far, by API name.
        latency: seconds that KMS takes to answer at present; None if not known.
        throttles: how often KMS throttled a call so far.
        ended: whether this is the last one of the table.
    """

    operation: str
    table: str
    run_id: str | None
    counts: RowCounts
    rows: int = 0
    estimated: bool = False
    limit: int | None = None
    kms_calls: Counter[str] = field(default_factory=Counter)
    latency: float | None = None
    throttles: int = 0
    ended: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether the run has come to the end of what it was to do."""
        return self.ended and not self.counts.interrupted

    @property
    def done(self) -> int:
        """Rows that are behind the run; with a limit, those that had work."""
        return self.counts.due if self.limit else self.counts.scanned

    @property
    def total(self) -> int:
        """All rows that will be; at the end exactly those that were."""
        if self.is_complete:
            return self.done
        rows = min(self.rows, self.limit) if self.limit else self.rows
        return max(rows, self.done)

    @property
    def total_is_estimated(self) -> bool:
        """Whether :attr:`total` may turn out to be another."""
        return not self.is_complete and (self.estimated or self.limit is not None)


Progress = Callable[[Moment], None]
"""Called by the run's threads, one at a time."""
