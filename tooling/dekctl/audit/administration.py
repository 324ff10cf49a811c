"""What changes a KEK, the trail, its bucket or a role, and who may do that."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from dekctl.audit.events import (
    ALARMS,
    CLOUDTRAIL,
    IAM,
    KMS,
    LOGS,
    RULES,
    S3,
    TOPICS,
    TrailEvent,
)
from dekctl.audit.findings import AuditKind

_READS = ("Describe", "Get", "Head", "List", "Lookup", "Simulate")
"""Prefixes of the names of APIs that change nothing."""
KINDS: Mapping[tuple[str, str], AuditKind] = {
    (KMS, "DisableKey"): AuditKind.KEY_DISABLED,
    (KMS, "ScheduleKeyDeletion"): AuditKind.KEY_DELETION,
    (KMS, "DeleteKey"): AuditKind.KEY_DELETION,
    (KMS, "DeleteImportedKeyMaterial"): AuditKind.KEY_DELETION,
    (KMS, "DeleteExpiredKeyMaterial"): AuditKind.KEY_DELETION,
    (KMS, "PutKeyPolicy"): AuditKind.KEY_POLICY,
    (KMS, "CreateGrant"): AuditKind.GRANT,
    (KMS, "CreateAlias"): AuditKind.ALIAS,
    (KMS, "UpdateAlias"): AuditKind.ALIAS,
    (KMS, "DeleteAlias"): AuditKind.ALIAS,
    (KMS, "DisableKeyRotation"): AuditKind.ROTATION,
    (CLOUDTRAIL, "StopLogging"): AuditKind.TRAIL_STOPPED,
    (CLOUDTRAIL, "DeleteTrail"): AuditKind.TRAIL_DELETED,
    (LOGS, "DeleteLogGroup"): AuditKind.LOG_GROUP_CHANGED,
    (LOGS, "DeleteLogStream"): AuditKind.LOG_GROUP_CHANGED,
    (LOGS, "PutRetentionPolicy"): AuditKind.LOG_GROUP_CHANGED,
    (LOGS, "AssociateKmsKey"): AuditKind.LOG_GROUP_CHANGED,
    (LOGS, "DisassociateKmsKey"): AuditKind.LOG_GROUP_CHANGED,
    (LOGS, "PutMetricFilter"): AuditKind.LOG_GROUP_CHANGED,
    (LOGS, "DeleteMetricFilter"): AuditKind.LOG_GROUP_CHANGED,
    (ALARMS, "DeleteAlarms"): AuditKind.ALARM_CHANGED,
    (ALARMS, "DisableAlarmActions"): AuditKind.ALARM_CHANGED,
    (ALARMS, "PutMetricAlarm"): AuditKind.ALARM_CHANGED,
    (ALARMS, "SetAlarmState"): AuditKind.ALARM_CHANGED,
    (RULES, "DeleteRule"): AuditKind.RULE_CHANGED,
    (RULES, "DisableRule"): AuditKind.RULE_CHANGED,
    (RULES, "PutRule"): AuditKind.RULE_CHANGED,
    (RULES, "PutTargets"): AuditKind.RULE_CHANGED,
    (RULES, "RemoveTargets"): AuditKind.RULE_CHANGED,
    (TOPICS, "DeleteTopic"): AuditKind.TOPIC_CHANGED,
    (TOPICS, "SetTopicAttributes"): AuditKind.TOPIC_CHANGED,
    (TOPICS, "AddPermission"): AuditKind.TOPIC_CHANGED,
    (TOPICS, "RemovePermission"): AuditKind.TOPIC_CHANGED,
    (TOPICS, "SetSubscriptionAttributes"): AuditKind.TOPIC_CHANGED,
    (TOPICS, "Unsubscribe"): AuditKind.TOPIC_CHANGED,
}
"""The kind of finding for an API; others are of the kind of their service, if it has one."""
_OTHERS = {
    KMS: AuditKind.ADMINISTRATION,
    CLOUDTRAIL: AuditKind.TRAIL_CHANGED,
    S3: AuditKind.BUCKET_CHANGED,
    IAM: AuditKind.ROLE_CHANGED,
}
_BY_AWS = frozenset({"RotateKey", "SynchronizeMultiRegionKey", "PutObject"})
"""What AWS does by itself: rotates key material, updates replicas, delivers the trail's files."""
_NOBODY = frozenset({"StopLogging", "DeleteTrail"})
"""What is a finding whoever does it: from then on there is no evidence."""


@dataclass(frozen=True, slots=True)
class Administrators:
    """Who may change keys, the trail and the roles: ARNs of principals."""

    principals: Collection[str]

    def judge(self, event: TrailEvent) -> AuditKind | None:
        """The kind of finding that a change is; None if its maker may make it.

        A failed attempt of somebody who may not is a finding, too.
        """
        kind = KINDS.get((event.source, event.api), _OTHERS.get(event.source))
        if event.by_service and event.api in _BY_AWS:
            return None
        if event.principal in self.principals and event.api not in _NOBODY:
            return None
        return kind


def changes_something(event: TrailEvent) -> bool:
    """Whether a call that uses no key changes something, or tries to."""
    return not event.api.startswith(_READS)
