"""What a reader has done so far, for metrics."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from dekctl.kms.fork_safety import reset_after_fork


@dataclass(frozen=True, slots=True)
class Stats:
    """Totals since the reader was made; what ``RowKeys.stats()`` returns.

    docs/application.md, "Metrics", has an example for Prometheus and one for OpenTelemetry.
    """

    reads: Mapping[str, int]
    """Keys read, by where they came from.

    ``kms``; ``cache``, a data key in memory; ``branch``, a branch key in memory; ``stale``, in
    memory beyond its age while KMS is away; ``plaintext``.
    """
    issued: int
    """New keys made."""
    calls: Mapping[str, int]
    """Requests sent to KMS, by API name, retries included; none for local providers."""
    errors: Mapping[str, int]
    """Calls that failed, by KMS's name of the error, or by the class of the exception."""
    seconds: float
    """Time spent waiting for KMS, all callers together."""
    data_keys: int
    """Data keys in memory now."""
    branch_keys: int
    """Branch keys in memory now."""
    kms_away: bool
    """Whether calls fail at once because the last ones were not answered."""


class Counters:
    """Counts what no other part of a reader counts. Safe for threads."""

    def __init__(self) -> None:
        self._counted: Counter[str] = Counter()
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Take a new lock: a thread of the parent may hold the old one."""
        self._lock = threading.Lock()

    def count(self, what: str, times: int = 1) -> None:
        """Add to a counter."""
        with self._lock:
            self._counted[what] += times

    def __getitem__(self, what: str) -> int:
        return self._counted[what]
