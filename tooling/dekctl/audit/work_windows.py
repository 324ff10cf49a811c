"""The ledger's side of the audit: periods of work, and the KMS calls that explain them.

Runs on one table that overlap, or nearly do, form one window: CloudTrail does not show which of
them made a call, so only their sums can be compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from dekctl.audit.events import CRYPTOGRAPHY
from dekctl.audit.log_files import utc
from dekctl.ledger import RunState, parse_time
from dekctl.ledger.ledger import LEASE_SECONDS

CLOCKS = timedelta(seconds=60)
"""Maximum difference between the clocks of the database and of AWS."""


@dataclass(slots=True)
class WorkWindow:
    """Runs on one table, and the events of that time.

    ``expected`` are the cryptographic calls that the runs made, attempts included; ``least`` is
    the number that must have succeeded, given the rows that were changed or proved. ``closed`` is
    false while that is unknown: a run is active, or was killed.
    """

    table: str
    begins: datetime
    ends: datetime
    runs: list[str] = field(default_factory=list)
    operations: list[str] = field(default_factory=list)
    expected: Counter[str] = field(default_factory=Counter)
    least: int = 0
    closed: bool = True
    seen: Counter[str] = field(default_factory=Counter)
    failed: int = 0

    def covers(self, table: str | None, moment: datetime) -> bool:
        """Whether an event of this table (None: a V1 row, any table) may belong to this window."""
        near = self.begins - CLOCKS <= moment <= self.ends + CLOCKS
        return near and table in (None, self.table)

    @property
    def surplus(self) -> dict[str, int]:
        """Calls that succeeded but that no run made, by API."""
        return dict(self.seen - self.expected) if self.closed else {}

    @property
    def missing(self) -> int:
        """Calls that must have succeeded but are not in the trail."""
        return max(0, self.least - self.seen.total()) if self.closed else 0

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "runs": self.runs,
            "operations": self.operations,
            "table": self.table,
            "from": f"{self.begins:%Y-%m-%dT%H:%M:%SZ}",
            "to": f"{self.ends:%Y-%m-%dT%H:%M:%SZ}",
            "expected": dict(self.expected),
            "seen": dict(self.seen),
            "failed": self.failed,
            "surplus": self.surplus,
            "missing": self.missing,
            "complete": self.closed,
        }


def work_windows(runs: Iterable[Mapping[str, Any]], now: datetime) -> list[WorkWindow]:
    """Group the ledger's runs (oldest first) by table and time."""
    found: list[WorkWindow] = []
    latest: dict[str, WorkWindow] = {}
    for run in runs:
        begins, ends = utc(parse_time(run["started_at"])), _end(run, now)
        last = latest.get(run["table_name"])
        if last is None or begins - CLOCKS > last.ends + CLOCKS:
            last = latest[run["table_name"]] = WorkWindow(run["table_name"], begins, ends)
            found.append(last)
        _add(last, run, ends)
    return found


def _add(window: WorkWindow, run: Mapping[str, Any], ends: datetime) -> None:
    result = run["result"] or {}
    window.runs.append(run["run_id"])
    if run["operation"] not in window.operations:
        window.operations.append(run["operation"])
    window.ends = max(window.ends, ends)
    calls = {a: n for a, n in result.get("kms_calls", {}).items() if a in CRYPTOGRAPHY}
    window.expected.update(calls)
    # One call per row, or (with branch keys) one call for many.
    rows = max(result.get("changed", 0), result.get("proved", 0))
    window.least += min(rows, sum(calls.values()))
    # A killed run recorded its progress, not each call.
    window.closed &= (
        run["state"] not in (RunState.RUNNING, RunState.ABANDONED) and "kms_calls" in result
    )


def _end(run: Mapping[str, Any], now: datetime) -> datetime:
    if run["state"] == RunState.RUNNING:
        return now
    if run["state"] == RunState.ABANDONED:  # closed by the next run; its last heartbeat counts
        beat = utc(parse_time(run["heartbeat_at"]))
        return beat + timedelta(seconds=LEASE_SECONDS)
    return utc(parse_time(run["ended_at"]))
