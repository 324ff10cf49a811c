"""The ledger's side of the audit: each run, and what bounds the KMS calls in its sessions.

The ledger is in the application's database, so whoever can write there can write into it. A run
explains only calls of sessions that bear its id, made while it ran, and no more of them than it
noted. A run that was killed noted its calls with its last heartbeat; what came after is never taken
for granted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from dekctl.audit.events import CRYPTOGRAPHY, TrailEvent
from dekctl.audit.findings import AuditFinding, AuditFindings, AuditKind
from dekctl.ledger import Ledger, RunState, parse_result, parse_time, tables
from dekctl.ledger.ledger import LEASE_SECONDS
from dekctl.wording import counted

CLOCKS = timedelta(seconds=60)
"""Maximum difference between the clocks of the database and of AWS."""
DELIVERY = timedelta(minutes=15)
"""CloudTrail delivers within this time (its User Guide: about 5 minutes on average)."""
LONGEST = timedelta(days=31)
"""A run that started so long before the period is not read back to its start."""
_ENDED = (RunState.FINISHED, RunState.INTERRUPTED, RunState.FAILED)


@dataclass(slots=True)
class AuditedRun:
    """A run of the ledger, and the events of its sessions.

    ``noted`` are the cryptographic calls that it made, attempts included, as it noted them at its
    end or at its last heartbeat; ``least`` is the number that must have succeeded, given the rows
    that were changed or proved. ``left`` is how many rows it had not read by then, if known.
    """

    run_id: str
    operation: str
    table: str
    begins: datetime
    ends: datetime
    killed: bool = False
    running: bool = False
    worker_lost: bool = False
    noted: Counter[str] = field(default_factory=Counter)
    least: int = 0
    left: int | None = None
    seen: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    outside: int = 0
    last_outside: datetime | None = None

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.operation} on {self.table} (run {self.run_id}, {self.begins:%Y-%m-%d %H:%M})"

    @property
    def rebinds(self) -> bool:
        """Whether it takes keys from one context to another."""
        return self.operation == "rebind"

    @property
    def has_ended(self) -> bool:
        """Whether it noted all its calls."""
        return not (self.killed or self.running)

    def count(self, event: TrailEvent) -> None:
        """Take in an event of one of its sessions."""
        if not self.begins - CLOCKS <= event.time <= self.ends + CLOCKS:
            self.outside += 1
            self.last_outside = max(event.time, self.last_outside or event.time)
        elif event.error is None:
            self.seen[event.api] += 1
        else:
            self.failed[event.api] += 1

    @property
    def surplus(self) -> dict[str, int]:
        """Calls in the trail beyond those that it noted, by API."""
        return dict(self.seen + self.failed - self.noted)

    @property
    def missing(self) -> int:
        """Calls that must be in the trail but are not."""
        if not self.seen and not self.failed:
            return max(self.least, min(1, self.noted.total()))
        return max(0, self.least - self.seen.total())

    def is_pending(self, now: datetime) -> bool:
        """Whether CloudTrail may not have delivered all its events."""
        return self.running or bool(self.missing and self.ends + DELIVERY >= now)

    def judge(self, findings: AuditFindings, now: datetime) -> None:
        """Report what the trail and the ledger say differently, and what cannot be compared."""
        if self.outside:
            when = "after its last heartbeat" if self.killed else "before or after it ran"
            self.report(
                findings,
                AuditKind.UNEXPLAINED,
                f"{counted(self.outside, 'call')} in its sessions {when} "
                f"(the last at {self.last_outside:%Y-%m-%d %H:%M:%S})",
            )
        over = self.surplus
        more = ", ".join(f"{count:,} {api}" for api, count in sorted(over.items()))
        beyond = self.left is not None and max(over.values(), default=0) > self.left
        if over and (self.has_ended or beyond) and not self.worker_lost:
            left = "" if self.has_ended else f"; it had {self.left:,} rows left to do"
            self.report(
                findings, AuditKind.SURPLUS, f"more calls than it noted: {more} too many{left}"
            )
        elif over and not self.killed:
            why = "a worker was lost" if self.worker_lost else "it is running"
            self.report(
                findings,
                AuditKind.UNCHECKED,
                f"more calls than it noted: {more}; {why}, so they cannot be compared",
            )
        if self.killed:
            self.report(
                findings,
                AuditKind.UNCHECKED,
                f"it was killed after its last heartbeat at {self.ends:%Y-%m-%d %H:%M:%S}, when it "
                f"had noted {counted(self.noted.total(), 'call')}; the trail has "
                f"{f'{more} more' if more else 'no more of them'}, and nothing says how many there "
                "were",
            )
        if self.missing and not self.running and not self.is_pending(now):
            total = max(self.least, self.missing)
            text = f"{self.missing:,} of {total:,} calls are not in the trail"
            if not self.seen and not self.failed:
                text = f"none of its {self.noted.total():,} calls is in the trail"
            self.report(findings, AuditKind.MISSING, text)

    def report(self, findings: AuditFindings, kind: AuditKind, text: str) -> None:
        """Add a finding about this run."""
        subject = f"{self.run_id} {text}"
        findings.add(AuditFinding(kind, f"{self.name}: {text}", self.begins, subject=subject))

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "runs": [self.run_id],
            "operations": [self.operation],
            "table": self.table,
            "from": f"{self.begins:%Y-%m-%dT%H:%M:%SZ}",
            "to": f"{self.ends:%Y-%m-%dT%H:%M:%SZ}",
            "expected": dict(self.noted),
            "seen": dict(self.seen),
            "failed": self.failed.total(),
            "surplus": self.surplus,
            "missing": self.missing,
            "complete": self.has_ended and not self.worker_lost,
        }


def ledger_begins(ledger: Ledger) -> datetime | None:
    """When the first run of the environment started, as far as the ledger tells.

    Raises:
        DatabaseError: the ledger cannot be read.
    """
    runs = tables(ledger.schema)["runs"]
    with ledger.database.transaction() as connection:
        first = connection.execute(
            sa.select(sa.func.min(runs.c.started_at)).where(runs.c.env == ledger.env)
        ).scalar()
    moment = parse_time(first) if first else None
    return moment.replace(tzinfo=UTC) if moment else None


def audited_runs(
    ledger: Ledger, begins: datetime, ends: datetime, now: datetime, findings: AuditFindings
) -> dict[str, AuditedRun]:
    """The runs of a period that use a KEK or may have, by id, oldest first.

    An entry that dekctl cannot have written explains nothing: it is a finding.

    Raises:
        DatabaseError: the ledger cannot be read.
    """
    runs = tables(ledger.schema)["runs"]
    with ledger.database.transaction() as connection:
        rows = connection.execute(
            sa.select(runs).where(runs.c.env == ledger.env).order_by(runs.c.started_at)
        ).mappings()
        entries = [dict(row) for row in rows]
    found: dict[str, AuditedRun] = {}
    for entry in entries:
        try:
            run = _read(entry, now)
        except (ValueError, TypeError, KeyError, AttributeError):
            findings.add(
                AuditFinding(
                    AuditKind.UNCHECKED,
                    f"run {entry['run_id']} in the ledger is malformed, so it explains no call",
                    subject=f"run {entry['run_id']}",
                )
            )
            continue
        if run is None or run.ends + CLOCKS < begins or run.begins - CLOCKS > ends:
            continue
        if run.begins < begins - LONGEST:
            run.report(
                findings, AuditKind.UNCHECKED, "it started too long before the period: use --since"
            )
            continue
        found[run.run_id] = run
    return found


def _read(entry: Mapping[str, Any], now: datetime) -> AuditedRun | None:
    """A run of the ledger; None if it made no KMS call.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: dekctl cannot have written it.
    """
    state = RunState(entry["state"])
    begins, heartbeat = _time(entry["started_at"]), _time(entry["heartbeat_at"])
    ends = _time(entry["ended_at"]) if state in _ENDED else heartbeat
    if not begins <= ends <= now + CLOCKS or begins > heartbeat:
        raise ValueError("its times contradict one another")
    result = parse_result(entry["result"] or "{}")
    if result is None:
        raise ValueError("its result is none")
    alive = now - heartbeat <= timedelta(seconds=LEASE_SECONDS)
    running = state is RunState.RUNNING and alive
    run = AuditedRun(
        run_id=str(entry["run_id"]),
        operation=entry["operation"],
        table=entry["table_name"],
        begins=begins,
        ends=ends,
        killed=state not in _ENDED and not running,
        running=running,
        worker_lost=bool(result.get("incomplete")),
    )
    for api, count in result.get("kms_calls", {}).items():
        if api in CRYPTOGRAPHY and _count(count):
            run.noted[api] = count
    # One call per row, or (with branch keys) one call for many.
    rows = max(_count(result.get("changed", 0)), _count(result.get("proved", 0)))
    run.least = min(rows, run.noted.total())
    if "rows" in result and not run.has_ended:
        run.left = max(0, _count(result["rows"]) - _count(result.get("scanned", 0)))
    return run if run.noted or run.least or not run.has_ended else None


def _time(text: str) -> datetime:
    moment = parse_time(text)
    if moment is None:
        raise ValueError("no time of the ledger's")
    return moment.replace(tzinfo=UTC)


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("not a count")
    return value
