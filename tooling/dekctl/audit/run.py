"""Runs the audit: reads ledger and trail, compares them, returns the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from dekctl.audit.acceptance import accepted_findings
from dekctl.audit.administration import Administrators
from dekctl.audit.cloudtrail import Trail
from dekctl.audit.digests import LATE, PublicKeys, load_public_keys
from dekctl.audit.findings import AuditFinding, AuditFindings, AuditKind
from dekctl.audit.integrity import Integrity
from dekctl.audit.log_files import Folder, Source
from dekctl.audit.matching import Matched, Rules, match
from dekctl.audit.reading import Reading, read_digests, read_events, utc
from dekctl.audit.runs import CLOCKS, DELIVERY, AuditedRun, audited_runs, ledger_begins
from dekctl.audit.scope import Scope
from dekctl.audit.trail_file import DAMAGES
from dekctl.config.outputs import Outputs
from dekctl.config.roles import Role
from dekctl.errors import RefusedError, UsageError
from dekctl.kek_id import is_key_arn
from dekctl.project import Project


@dataclass(slots=True)
class Audit:
    """The result of an audit. Times are UTC."""

    env: str
    source: str
    since: datetime
    until: datetime
    reading: Reading
    integrity: Integrity
    matched: Matched
    work: list[AuditedRun]
    trail: dict[str, Any] | None = None
    pending: list[str] = field(default_factory=list)
    """Runs so recent that CloudTrail may not have delivered all their events."""
    expired: list[str] = field(default_factory=list)
    """Ids of findings whose acceptance has expired."""

    @property
    def clean(self) -> bool:
        """Whether there are no findings but accepted ones."""
        return not self.matched.findings.counts

    @property
    def damaged(self) -> int:
        """Files that are damaged or hold damaged records: what they held was not looked at."""
        return self.reading.damaged

    def as_json(self) -> dict[str, Any]:
        """The public form."""
        findings = self.matched.findings
        return {
            "operation": "audit",
            "env": self.env,
            "source": self.source,
            "since": f"{self.since:%Y-%m-%dT%H:%M:%SZ}",
            "until": f"{self.until:%Y-%m-%dT%H:%M:%SZ}",
            "files": self.reading.files,
            "skipped": [
                {"kind": why.value, "count": skips.count, "files": skips.names}
                for why, skips in self.reading.skipped.items()
            ],
            "integrity": self.integrity.as_json(),
            "events": self.matched.events,
            "trail": self.trail,
            "calls": [
                {"principal": principal, "api": api, "error": error, "events": count}
                for (principal, api, error), count in sorted(
                    self.matched.calls.items(), key=lambda entry: (-entry[1], entry[0][:2])
                )
            ],
            "work": [run.as_json() for run in self.work],
            "pending": self.pending,
            "administration": self.matched.administration,
            "findings": [finding.as_json() for finding in findings.kept],
            "counts": {kind.value: count for kind, count in sorted(findings.counts.items())},
            "accepted": findings.accepted_json(),
            "expired": self.expired,
        }


def audit(
    project: Project,
    since: datetime,
    until: datetime | None = None,
    paths: Sequence[Path] = (),
    accept: Path | None = None,
    public_keys: Path | None = None,
) -> Audit:
    """Compare CloudTrail's events of a period with the ledger's runs and the roles.

    Args:
        project: the environment; its provider is ``aws`` and Terraform's outputs name the roles.
        since: start of the period, UTC.
        until: end of the period, UTC; now if None.
        paths: CloudTrail's files, or folders of them; the trail's bucket if none.
        accept: the file of accepted findings; the configured one if None.
        public_keys: CloudTrail's public keys; it is asked for them if None.

    Raises:
        UsageError: there are no roles or no trail to compare with, or a file is not what it must
            be.
        RefusedError: there is no ledger yet.
        KMSError: the bucket cannot be read.
        DatabaseError: the ledger cannot be read.
    """
    outputs = _outputs(project)
    trail = Trail(project, outputs)
    source: Source = Folder(paths) if paths else trail.bucket()
    known_keys = load_public_keys(public_keys) if public_keys else None
    if not project.ledger.exists():
        raise RefusedError(
            "there is no ledger to compare the trail with",
            hint="expand the schema first: dekctl migrate",
        )
    with project.database.transaction() as connection:
        now = utc(project.database.now(connection))
    begins, ends = utc(since), min(utc(until), now) if until else now
    if begins >= ends:
        raise UsageError("--since is not before --until", hint="see: dekctl audit --help")
    file = accept or project.env.accepted_findings
    accepted, expired = accepted_findings(file, now.date()) if file else ({}, [])
    findings = AuditFindings(accepted)
    runs = audited_runs(project.ledger, begins, ends, now, findings)
    # Read all of the first and the last run; otherwise their sums would be wrong.
    first = min([begins, *(run.begins - CLOCKS for run in runs.values())])
    last = max([ends, *(run.ends + CLOCKS for run in runs.values())])

    # Without digests, a copy can be audited, too; who names public keys wants them checked.
    lenient = source.is_copy and known_keys is None
    rules = _rules(project, outputs)
    regions = {kek.split(":")[3] for kek in rules.scope.keks if is_key_arn(kek)}
    reading = Reading()
    integrity = Integrity(
        findings,
        source.is_copy,
        trail.name,
        lenient,
        frozenset(regions),
        f"{outputs.account_id}_",
        f"{outputs.audit['bucket']}/" if outputs.audit.get("bucket") else "",
    )

    def keys(since: datetime, until: datetime, region: str) -> PublicKeys:
        return trail.public_keys(since, until, region) if known_keys is None else known_keys

    read_digests(source, first, last, integrity, keys)
    events = read_events(source, first, last, rules.scope, integrity, reading, now)
    matched = match(events, runs, rules, findings, now)
    integrity.conclude(begins, ends, now, ledger_begins(project.ledger))
    for why in DAMAGES:
        for name in reading.skipped[why].names if why in reading.skipped else ():
            text = f"{name} is {why.value}: what it held was not looked at"
            findings.add(AuditFinding(AuditKind.UNCHECKED, text))
    result = Audit(
        project.env.name,
        source.name,
        begins,
        ends,
        reading,
        integrity,
        matched,
        list(runs.values()),
        expired=expired,
        pending=[run.run_id for run in runs.values() if run.is_pending(now)],
    )
    if not paths:
        result.trail = trail.status()
        _judge_trail(result, outputs, findings, now)
    return result


def _rules(project: Project, outputs: Outputs) -> Rules:
    tables = [table.context_name for table in project.config.tables]
    return Rules(
        roles={arn: role for role, arn in outputs.roles.items()},
        scope=Scope.of(outputs, project.known_keks(), tables),
        administrators=Administrators(
            frozenset({outputs.roles[Role.KEY_ADMIN], *project.env.administrators})
        ),
        allows_v1=outputs.allows_v1 is not False,
        hot_row_factor=project.env.hot_row_factor,
    )


def _judge_trail(result: Audit, outputs: Outputs, findings: AuditFindings, now: datetime) -> None:
    """Report that the trail does not record, or that it has nothing to show for the period."""
    trail: Mapping[str, Any] = result.trail or {}
    arn = outputs.audit["trail_arn"]
    if trail["logging"] is False:
        text = f"{arn} is stopped" + (f" since {trail['stopped']}" if trail["stopped"] else "")
        findings.add(AuditFinding(AuditKind.TRAIL, text))
    if trail["logging"] is None:
        findings.add(AuditFinding(AuditKind.UNCHECKED, f"{arn} does not report its state"))
    if trail["delivery_error"]:
        text = f"the trail cannot deliver: {trail['delivery_error']}"
        findings.add(AuditFinding(AuditKind.TRAIL, text))
    started = datetime.fromisoformat(trail["started"]) if trail["started"] else result.since
    begins, hour = max(result.since, started), timedelta(hours=1)
    what = f"{result.source} of {result.since:%Y-%m-%d %H:%M} to {result.until:%Y-%m-%d %H:%M}"
    if not result.reading.files and min(result.until, now - DELIVERY) - begins > hour:
        findings.add(AuditFinding(AuditKind.UNCHECKED, f"there is no log file in {what}"))
    if not result.integrity.digests and min(result.until, now - LATE) - begins > hour:
        text = f"there is no digest file in {what}: whether log files were removed is not known"
        # Whoever has a trail without digests accepts that once.
        subject = f"no digest file in {result.source}"
        findings.add(AuditFinding(AuditKind.UNCHECKED, text, subject=subject))


def _outputs(project: Project) -> Outputs:
    env = project.env.name
    if not project.uses_aws:
        raise UsageError(
            f"[env.{env}] uses the provider {project.env.provider}, whose calls CloudTrail does "
            "not record",
            hint='audit an environment with provider = "aws"',
        )
    outputs = project.outputs
    if outputs is None:
        raise UsageError(
            f"[env.{env}] names no Terraform outputs, so there are no roles to compare with",
            hint='add terraform = "terraform/environments/…" or terraform_outputs to it',
        )
    return outputs
