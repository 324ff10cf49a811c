"""What an audit reports: kinds of findings, their ids, and which of them are accepted."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from dekctl.audit.acceptance import Acceptance

LISTED = 100
"""Findings of one kind that are listed one by one; all are counted."""


class AuditKind(StrEnum):
    """A kind of finding. Those that an alarm of Terraform reports, too, bear the alarm's name."""

    UNKNOWN_PRINCIPAL = "unknown-principal"
    """A principal that is none of the roles used a KEK, or tried to."""
    WRONG_ROLE = "wrong-role"
    """A role used a KEK for something other than its task."""
    NO_CONTEXT = "context"
    """A KEK was used without a row's encryption context, or with another table's or row's."""
    FOREIGN_KEY = "foreign-key"
    """A role wrapped a key under a KEK that is none of the environment's."""
    HOT_ROW = "hot-row"
    """The application decrypted one row far more often than others."""
    UNEXPLAINED = "unexplained"
    """A role of dekctl used a KEK in a session, or at a time, of no run in the ledger."""
    SURPLUS = "surplus"
    """More calls were made in a run's sessions than the run made."""
    MISSING = "missing"
    """The trail does not contain the calls of a run."""
    DENIED = "denied"
    """A call was refused for lack of permission."""
    UNCHECKED = "unchecked"
    """Something could not be checked."""
    TRAIL = "trail"
    """The trail is not recording, or cannot deliver."""
    REMOVED = "removed"
    """A log or digest file that CloudTrail delivered is not there."""
    ALTERED = "altered"
    """A log or digest file is not as CloudTrail delivered it."""
    GAP = "gap"
    """No digest file covers a part of the period."""
    KEY_DISABLED = "key-disabled"
    KEY_DELETION = "key-deletion-scheduled"
    KEY_POLICY = "key-policy-changed"
    GRANT = "grant-created"
    ALIAS = "alias-changed"
    ROTATION = "rotation-disabled"
    TRAIL_STOPPED = "trail-stopped"
    TRAIL_DELETED = "trail-deleted"
    TRAIL_CHANGED = "trail-changed"
    BUCKET_CHANGED = "bucket-changed"
    ROLE_CHANGED = "role-changed"
    LOG_GROUP_CHANGED = "log-group-changed"
    ALARM_CHANGED = "alarm-changed"
    RULE_CHANGED = "rule-changed"
    TOPIC_CHANGED = "topic-changed"
    ADMINISTRATION = "administration"
    """Another change to a KEK by somebody who may not make it."""


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """One thing to look into. It names rows by primary key and holds no key material.

    ``subject`` is what the id is made of, with the kind: the event, or the run or file with the
    figures that were seen. The same finding has the same id in every audit; if more is seen, it is
    another finding.
    """

    kind: AuditKind
    detail: str
    time: datetime | None = None
    event_id: str | None = None
    subject: str = ""

    @property
    def id(self) -> str:
        """Identifies the finding, for ``--accept``."""
        text = f"{self.kind.value}\n{self.event_id or self.subject or self.detail}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "id": self.id,
            "kind": self.kind.value,
            "time": f"{self.time:%Y-%m-%dT%H:%M:%SZ}" if self.time else None,
            "event_id": self.event_id,
            "detail": self.detail,
        }


@dataclass(slots=True)
class AuditFindings:
    """All findings, counted; the first of each kind are kept. Accepted ones are apart."""

    accepted_ids: Mapping[str, Acceptance] = field(default_factory=dict)
    kept: list[AuditFinding] = field(default_factory=list)
    counts: Counter[AuditKind] = field(default_factory=Counter)
    accepted: dict[str, AuditFinding] = field(default_factory=dict)

    def add(self, finding: AuditFinding) -> None:
        """Count a finding, and keep it unless its kind has LISTED already."""
        if self.accepted_ids and finding.id in self.accepted_ids:
            self.accepted[finding.id] = finding
            return
        self.counts[finding.kind] += 1
        if self.counts[finding.kind] <= LISTED:
            self.kept.append(finding)

    def accepted_json(self) -> list[dict[str, Any]]:
        """The accepted findings, each with the reason."""
        return [
            {**finding.as_json(), **self.accepted_ids[finding.id].as_json()}
            for finding in self.accepted.values()
        ]
