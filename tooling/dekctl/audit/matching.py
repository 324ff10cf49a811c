"""Compares CloudTrail's KMS events with the run ledger and the roles.

The two records are independent: dekctl writes the ledger into the database, AWS writes the trail,
which neither dekctl nor the application can change. What appears in only one of them is a finding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from dekctl.audit.events import TrailEvent
from dekctl.audit.work_windows import WorkWindow
from dekctl.config.outputs import Outputs
from dekctl.config.roles import Role
from dekctl.doctor import PROBE_PRIMARY_KEY

ACTIONS: dict[Role, frozenset[str]] = {
    Role.APP: frozenset({"Decrypt", "GenerateDataKey"}),
    Role.WRAPPER: frozenset({"Encrypt", "GenerateDataKey"}),
    Role.REWRAPPER: frozenset({"ReEncrypt"}),
    Role.VERIFIER: frozenset({"Decrypt"}),
}
"""What each role may use a KEK for; the other roles use none."""
WORKERS = frozenset(ACTIONS) - {Role.APP}
"""Roles that dekctl assumes during a run. The application may read at any time."""
DELIVERY = timedelta(minutes=15)
"""CloudTrail delivers within this time (its User Guide: about 5 minutes on average)."""
LISTED = 100
"""AuditFindings of one kind that are listed one by one; all are counted."""
READS = ("Describe", "Get", "List")
"""Prefixes of the names of APIs that change nothing."""


class AuditKind(StrEnum):
    """A kind of difference between the two records."""

    UNKNOWN_PRINCIPAL = "unknown-principal"
    """A principal that is none of the roles used a KEK."""
    WRONG_ROLE = "wrong-role"
    """A role used a KEK for something other than its task."""
    NO_CONTEXT = "context"
    """A KEK was used without a row's encryption context, or with another table's."""
    UNEXPLAINED = "unexplained"
    """A role of dekctl used a KEK while the ledger has no run."""
    SURPLUS = "surplus"
    """More calls succeeded than the runs at that time made."""
    MISSING = "missing"
    """Rows were changed, but the trail does not contain the calls."""
    DENIED = "denied"
    """KMS refused a call for lack of permission."""
    TRAIL = "trail"
    """The trail is not recording, or cannot deliver."""


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """One thing to look into. It names rows by primary key and holds no key material."""

    kind: AuditKind
    detail: str
    time: datetime | None = None
    event_id: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "kind": self.kind.value,
            "time": f"{self.time:%Y-%m-%dT%H:%M:%SZ}" if self.time else None,
            "event_id": self.event_id,
            "detail": self.detail,
        }


@dataclass(slots=True)
class AuditFindings:
    """All findings, counted; the first of each kind are kept."""

    kept: list[AuditFinding] = field(default_factory=list)
    counts: Counter[AuditKind] = field(default_factory=Counter)

    def add(self, finding: AuditFinding) -> None:
        """Count a finding, and keep it unless its kind has LISTED already."""
        self.counts[finding.kind] += 1
        if self.counts[finding.kind] <= LISTED:
            self.kept.append(finding)


@dataclass(slots=True)
class Matched:
    """The result. ``calls`` counts by principal (a role's name or an ARN), API and error code."""

    events: int = 0
    calls: Counter[tuple[str, str, str | None]] = field(default_factory=Counter)
    administration: list[dict[str, Any]] = field(default_factory=list)
    findings: AuditFindings = field(default_factory=AuditFindings)


def match(
    events: Iterable[TrailEvent],
    work: Sequence[WorkWindow],
    outputs: Outputs,
    tables: Sequence[str],
    now: datetime,
) -> Matched:
    """Compare every event with the roles and the ledger's work windows.

    Args:
        events: the KMS events of the period, each once.
        work: the work windows of the same period.
        outputs: Terraform's outputs, for the roles.
        tables: the context names of the configured tables.
        now: the current time; CloudTrail may not have delivered all events of recent windows.
    """
    matched = Matched()
    roles = {arn: name for name, arn in outputs.roles.items()}
    for event in events:
        matched.events += 1
        role = roles.get(event.principal)
        matched.calls[role or event.principal, event.api, event.error] += 1
        if event.is_denied:
            _find(matched, AuditKind.DENIED, event, role, event.error or "")
        elif not event.is_cryptography:
            _administration(matched, event, role)
        else:
            _cryptography(matched, event, role, work, outputs, tables)
    for window in work:
        _balance(matched.findings, window, now)
    return matched


def _administration(matched: Matched, event: TrailEvent, role: Role | None) -> None:
    if event.api.startswith(READS):
        return
    matched.administration.append(
        {
            "time": f"{event.time:%Y-%m-%dT%H:%M:%SZ}",
            "api": event.api,
            "principal": role or event.principal,
            "session": event.session,
            "key": event.alias or (event.keks[0] if event.keks else None),
            "error": event.error,
            "event_id": event.event_id,
        }
    )


def _cryptography(
    matched: Matched,
    event: TrailEvent,
    role: Role | None,
    work: Sequence[WorkWindow],
    outputs: Outputs,
    tables: Sequence[str],
) -> None:
    if event.pk == PROBE_PRIMARY_KEY and role in ACTIONS:
        return  # `dekctl doctor` asks what each role may do
    window = next((s for s in work if s.covers(event.table, event.time)), None)
    if event.error is not None:
        if window is not None:
            window.failed += 1
        return
    if role is None:
        _find(matched, AuditKind.UNKNOWN_PRINCIPAL, event, role, "not one of the roles")
        return
    if event.api not in ACTIONS.get(role, ()):
        _find(matched, AuditKind.WRONG_ROLE, event, role, "this is not the role's task")
        return
    if event.table not in tables and not (event.table is None and outputs.allows_v1 is not False):
        _find(matched, AuditKind.NO_CONTEXT, event, role, f"table {event.table or 'not given'}")
    if role not in WORKERS:
        return
    if window is None:
        _find(matched, AuditKind.UNEXPLAINED, event, role, "the ledger has no run at that time")
    else:
        window.seen[event.api] += 1


def _find(
    matched: Matched, kind: AuditKind, event: TrailEvent, role: Role | None, why: str
) -> None:
    row = f" for {event.table} {event.pk}" if event.pk else ""
    session = f" ({event.session})" if event.session else ""
    text = f"{event.api}{row} by {role or event.principal}{session}: {why}"
    matched.findings.add(AuditFinding(kind, text, event.time, event.event_id))


def _balance(findings: AuditFindings, window: WorkWindow, now: datetime) -> None:
    name = f"{', '.join(window.operations)} on {window.table} at {window.begins:%Y-%m-%d %H:%M}"
    for api, count in window.surplus.items():
        findings.add(
            AuditFinding(
                AuditKind.SURPLUS,
                f"{name}: {count:,} more {api} calls than its runs made (a worker that was lost "
                "leaves such calls too)",
                window.begins,
            )
        )
    if window.missing and window.ends + DELIVERY < now:
        findings.add(
            AuditFinding(
                AuditKind.MISSING,
                f"{name}: {window.missing:,} of {window.least:,} calls are not in the trail",
                window.begins,
            )
        )
