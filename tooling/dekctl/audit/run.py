"""Runs the audit: reads ledger and trail, compares them, returns the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from dekctl.audit.log_files import Bucket, Folder, Reading, Source, read_events, utc
from dekctl.audit.matching import DELIVERY, AuditFinding, AuditKind, Matched, match
from dekctl.audit.trail_file import DAMAGES
from dekctl.audit.work_windows import CLOCKS, WorkWindow, work_windows
from dekctl.config.outputs import Outputs
from dekctl.config.roles import Role
from dekctl.errors import RefusedError, UsageError
from dekctl.kms.aws.botocore_private import botocore_session
from dekctl.kms.aws.session import credentials_of, frozen
from dekctl.project import Project

NAMED = 100
"""How many skipped files of a kind the result names."""


@dataclass(slots=True)
class Audit:
    """The result of an audit. Times are UTC."""

    env: str
    source: str
    since: datetime
    until: datetime
    reading: Reading
    matched: Matched
    work: list[WorkWindow]
    trail: dict[str, Any] | None = None
    pending: list[str] = field(default_factory=list)
    """Runs so recent that CloudTrail may not have delivered all their events."""

    @property
    def clean(self) -> bool:
        """Whether there are no findings, and nothing of the trail was damaged."""
        return not self.matched.findings.counts and not self.damaged

    @property
    def damaged(self) -> int:
        """Files that are damaged or hold damaged records: what they held was not looked at."""
        return sum(len(self.reading.skipped.get(why, ())) for why in DAMAGES)

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
                {"kind": why.value, "count": len(names), "files": names[:NAMED]}
                for why, names in self.reading.skipped.items()
            ],
            "events": self.matched.events,
            "trail": self.trail,
            "calls": [
                {"principal": principal, "api": api, "error": error, "events": count}
                for (principal, api, error), count in sorted(
                    self.matched.calls.items(), key=lambda entry: (-entry[1], entry[0][:2])
                )
            ],
            "work": [window.as_json() for window in self.work],
            "pending": self.pending,
            "administration": self.matched.administration,
            "findings": [finding.as_json() for finding in findings.kept],
            "counts": {kind.value: count for kind, count in sorted(findings.counts.items())},
        }


def audit(
    project: Project,
    since: datetime,
    until: datetime | None = None,
    paths: Sequence[Path] = (),
) -> Audit:
    """Compare CloudTrail's KMS events of a period with the ledger's runs and the roles.

    Args:
        project: the environment; its provider is ``aws`` and Terraform's outputs name the roles.
        since: start of the period, UTC.
        until: end of the period, UTC; now if None.
        paths: CloudTrail's files, or folders of them; the trail's bucket if none.

    Raises:
        UsageError: there are no roles or no trail to compare with, or a file is not CloudTrail's.
        RefusedError: there is no ledger yet.
        KMSError: the bucket cannot be read.
        DatabaseError: the ledger cannot be read.
    """
    outputs = _outputs(project)
    source: Source = Folder(paths) if paths else _bucket(project, outputs)
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
    work = [
        window
        for window in work_windows(project.ledger.runs_since(begins, ends), now)
        if window.least or window.expected or not window.closed
    ]
    tables = [table.context_name for table in project.config.tables]
    keks = [*project.known_keks(), outputs.kek_arn]
    reading = Reading()
    # Read all of the first and the last window; otherwise their sums would be wrong.
    first = min([begins, *(window.begins - CLOCKS for window in work)])
    last = max([ends, *(window.ends + CLOCKS for window in work)])
    events = read_events(
        source, first, last, lambda e: e.concerns(keks, [outputs.kek_alias], tables), reading
    )
    matched = match(events, work, outputs, tables, now)
    result = Audit(project.env.name, source.name, begins, ends, reading, matched, work)
    result.pending = [
        run
        for window in work
        if window.missing and window.ends + DELIVERY >= now
        for run in window.runs
    ]
    if not paths:
        result.trail = _trail(project, outputs)
        if result.trail["logging"] is False:
            matched.findings.add(
                AuditFinding(AuditKind.TRAIL, f"{outputs.audit['trail_arn']} is stopped")
            )
        if result.trail["delivery_error"]:
            text = f"the trail cannot deliver: {result.trail['delivery_error']}"
            matched.findings.add(AuditFinding(AuditKind.TRAIL, text))
    return result


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


def _bucket(project: Project, outputs: Outputs) -> Bucket:
    bucket = outputs.audit.get("bucket")
    if not bucket:
        raise UsageError(
            f"the audit trail is off in {project.env.name}",
            hint="set `audit` in Terraform and run make apply, or pass files of another trail: "
            "dekctl audit --events FOLDER",
        )
    return Bucket(_client(project, "s3"), bucket, outputs.account_id)


def _client(project: Project, service: str) -> Any:
    # botocore's own session: boto3's types know only the services that are installed for them.
    session = botocore_session(project.session(Role.AUDITOR))
    frozen(credentials_of(session))
    return session.create_client(
        service, region_name=project.region, endpoint_url=project.env.endpoint_url
    )


def _trail(project: Project, outputs: Outputs) -> dict[str, Any]:
    """Whether the trail is recording, and since when its newest file is there."""
    try:
        status = _client(project, "cloudtrail").get_trail_status(Name=outputs.audit["trail_arn"])
    except (ClientError, BotoCoreError):
        return {"logging": None, "delivered": None, "delivery_error": None}
    delivered = status.get("LatestDeliveryTime")
    return {
        "logging": bool(status.get("IsLogging")),
        "delivered": f"{utc(delivered):%Y-%m-%dT%H:%M:%SZ}" if delivered else None,
        "delivery_error": status.get("LatestDeliveryError") or None,
    }
