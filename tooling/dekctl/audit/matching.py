"""Compares CloudTrail's events with the run ledger and the roles.

The two records are independent: dekctl writes the ledger into the database, AWS writes the trail,
which neither dekctl nor the application can change. What appears in only one of them is a finding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dekctl.audit.administration import Administrators, changes_something
from dekctl.audit.events import TrailEvent
from dekctl.audit.findings import AuditFinding, AuditFindings, AuditKind
from dekctl.audit.hot_rows import RowReads
from dekctl.audit.runs import AuditedRun
from dekctl.audit.scope import Scope
from dekctl.config.roles import ROW_ROLES, Role
from dekctl.kms.aws.session_name import run_id_of
from dekctl.lifecycle.probe import PROBE_PRIMARY_KEY

ACTIONS: Mapping[Role, frozenset[str]] = {
    Role.APP: frozenset({"Decrypt", "GenerateDataKey"}),
    Role.WRAPPER: frozenset({"Encrypt", "GenerateDataKey"}),
    Role.REWRAPPER: frozenset({"ReEncrypt"}),
    Role.VERIFIER: frozenset({"Decrypt"}),
}
"""What each role may use a KEK for; the other roles use none."""
LISTED_CHANGES = 10_000
"""Changes to keys, trail and roles that are listed; all that are findings are counted."""
KEPT_CALLERS = 10_000
"""Kinds of calls (principal, API, error) that are counted one by one."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What events are judged by.

    ``allows_v1`` is whether a role may decrypt without an encryption context. A row is hot that is
    read ``hot_row_factor`` times as often as the average one; 0 looks for none.
    """

    roles: Mapping[str, Role]
    scope: Scope
    administrators: Administrators
    allows_v1: bool
    hot_row_factor: float


@dataclass(slots=True)
class Matched:
    """The result. ``calls`` counts by principal (a role's name or an ARN), API and error code."""

    findings: AuditFindings
    events: int = 0
    calls: Counter[tuple[str, str, str | None]] = field(default_factory=Counter)
    administration: list[dict[str, Any]] = field(default_factory=list)
    reads: dict[str, RowReads] = field(default_factory=dict)


def match(
    events: Iterable[TrailEvent],
    runs: Mapping[str, AuditedRun],
    rules: Rules,
    findings: AuditFindings,
    now: datetime,
) -> Matched:
    """Compare every event with the roles and the ledger's runs.

    Args:
        events: the events of the period that concern the environment, each once, in any order.
        runs: the runs of the same period, by id.
        rules: what belongs to the environment, and who may do what.
        findings: takes what is found.
        now: the current time; CloudTrail may not have delivered all events of recent runs.
    """
    matched = Matched(findings)
    roles = rules.roles
    for event in events:
        matched.events += 1
        role = roles.get(event.principal)
        caller = role or event.principal, event.api, event.error
        if caller in matched.calls or len(matched.calls) < KEPT_CALLERS:
            matched.calls[caller] += 1
        else:
            matched.calls["others", event.api, event.error] += 1
        if event.is_cryptography:
            _cryptography(matched, event, role, runs, rules)
        elif changes_something(event):
            _administration(matched, event, role, rules)
        elif event.is_denied:
            _find(matched, AuditKind.DENIED, event, role, event.error or "")
    for table, reads in matched.reads.items():
        for pk, count, average in reads.hot(rules.hot_row_factor):
            text = (
                f"{table} {pk} was decrypted {count:,} times, the average row {average:,.1f} times"
            )
            findings.add(AuditFinding(AuditKind.HOT_ROW, text, subject=f"{table} {pk} {count}"))
    for run in runs.values():
        run.judge(findings, now)
    return matched


def _administration(matched: Matched, event: TrailEvent, role: Role | None, rules: Rules) -> None:
    about = ", ".join(event.subjects) or event.alias or (event.keks[0] if event.keks else None)
    if len(matched.administration) < LISTED_CHANGES:
        matched.administration.append(
            {
                "time": f"{event.time:%Y-%m-%dT%H:%M:%SZ}",
                "api": event.api,
                "principal": role or event.principal,
                "session": event.session,
                "key": about,
                "error": event.error,
                "event_id": event.event_id,
            }
        )
    kind = rules.administrators.judge(event)
    if kind is not None:
        who = role or event.principal
        session = f" ({event.session})" if event.session else ""
        why = "who may not change it"
        if event.principal in rules.administrators.principals:
            why = "from then on there is no evidence"
        failed = f"; it failed with {event.error}" if event.error else ""
        kind = AuditKind.DENIED if event.is_denied else kind
        text = f"{event.api} of {about} by {who}{session}: {why}{failed}"
        matched.findings.add(AuditFinding(kind, text, event.time, event.event_id))
    elif event.is_denied:
        _find(matched, AuditKind.DENIED, event, role, event.error or "")


def _cryptography(
    matched: Matched,
    event: TrailEvent,
    role: Role | None,
    runs: Mapping[str, AuditedRun],
    rules: Rules,
) -> None:
    run = runs.get(run_id_of(event.session) or "") if role in ROW_ROLES else None
    kind = _misuse(event, role, run, rules)
    if kind is not None:
        _find(matched, kind[0], event, role, kind[1])
    elif _is_probe(event, role):
        return
    if role is Role.APP and kind is None and event.error is None:
        if event.api == "Decrypt" and event.table and event.pk and rules.hot_row_factor:
            reads = matched.reads.get(event.table)
            if reads is None:
                reads = matched.reads[event.table] = RowReads()
            reads.add(event.pk)
    elif run is not None:
        run.count(event)
    elif role in ROW_ROLES and kind is None:
        named = run_id_of(event.session)
        why = (
            f"the ledger has no run {named} in this period" if named else "its session is no run's"
        )
        _find(matched, AuditKind.UNEXPLAINED, event, role, why)


def _is_probe(event: TrailEvent, role: Role | None) -> bool:
    """Whether it is `dekctl doctor` that asks what a role may do.

    It makes dry runs, which end in an error, and wraps a key of zeros for them. Anything else that
    succeeds in this context is somebody's who wants to be taken for it.
    """
    return event.pk == PROBE_PRIMARY_KEY and (
        event.error is not None or (role is Role.WRAPPER and event.api == "Encrypt")
    )


def _misuse(
    event: TrailEvent, role: Role | None, run: AuditedRun | None, rules: Rules
) -> tuple[AuditKind, str] | None:
    """What is wrong with a use of a key, whichever run it belongs to."""
    if event.is_denied:
        return AuditKind.DENIED, event.error or ""
    failed = f"; it failed with {event.error}" if event.error else ""
    if role is None:
        return AuditKind.UNKNOWN_PRINCIPAL, f"not one of the roles{failed}"
    if event.api not in ACTIONS.get(role, ()):
        return AuditKind.WRONG_ROLE, f"this is not the role's task{failed}"
    scope, under = rules.scope, event.writes_under
    known = under is None or scope.has_kek(under) or scope.has_alias(event)
    if not known:
        return AuditKind.FOREIGN_KEY, f"under {under}, which is none of the KEKs{failed}"
    if event.table not in scope.tables and not (event.table is None and rules.allows_v1):
        return AuditKind.NO_CONTEXT, f"table {event.table or 'not given'}{failed}"
    if event.moved_from is not None and not (run is not None and run.rebinds):
        return AuditKind.NO_CONTEXT, f"its key was taken from {event.moved_from}{failed}"
    if run is not None and event.table not in (None, run.table):
        return AuditKind.UNEXPLAINED, f"{run.name} is not on this table{failed}"
    return None


def _find(
    matched: Matched, kind: AuditKind, event: TrailEvent, role: Role | None, why: str
) -> None:
    row = f" for {event.table} {event.pk}" if event.pk else ""
    session = f" ({event.session})" if event.session else ""
    text = f"{event.api}{row} by {role or event.principal}{session}: {why}"
    matched.findings.add(AuditFinding(kind, text, event.time, event.event_id))
