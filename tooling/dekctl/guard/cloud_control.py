"""Resources of the AWS Cloud Control provider (``awscc_*``), read as those of the AWS provider.

Names are those of the provider's schema, which follows CloudFormation's resource types.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_KEY = {
    "key_policy": "policy",
    "enabled": "is_enabled",
    "pending_window_in_days": "deletion_window_in_days",
}
_DOCUMENT = {"policy_document": "policy"}
TYPES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "awscc_kms_key": ("aws_kms_key", _KEY),
    "awscc_kms_replica_key": ("aws_kms_replica_key", _KEY),
    "awscc_kms_alias": ("aws_kms_alias", {"alias_name": "name"}),
    "awscc_iam_role": (
        "aws_iam_role",
        {
            "role_name": "name",
            "assume_role_policy_document": "assume_role_policy",
            "policies": "inline_policy",
        },
    ),
    "awscc_iam_role_policy": ("aws_iam_role_policy", {"role_name": "role", **_DOCUMENT}),
    "awscc_iam_managed_policy": ("aws_iam_policy", {"policy_arn": "arn", **_DOCUMENT}),
    "awscc_cloudtrail_trail": (
        "aws_cloudtrail",
        {
            "trail_name": "name",
            "is_logging": "enable_logging",
            "cloudwatch_logs_log_group_arn": "cloud_watch_logs_group_arn",
            "cloudwatch_logs_role_arn": "cloud_watch_logs_role_arn",
            "event_selectors": "event_selector",
            "advanced_event_selectors": "advanced_event_selector",
        },
    ),
    "awscc_s3_bucket": ("aws_s3_bucket", {"bucket_name": "bucket"}),
    "awscc_s3_bucket_policy": ("aws_s3_bucket_policy", _DOCUMENT),
    "awscc_logs_log_group": ("aws_cloudwatch_log_group", {"log_group_name": "name"}),
    "awscc_logs_metric_filter": (
        "aws_cloudwatch_log_metric_filter",
        {"filter_pattern": "pattern", "metric_transformations": "metric_transformation"},
    ),
    "awscc_cloudwatch_alarm": ("aws_cloudwatch_metric_alarm", {}),
    "awscc_events_rule": ("aws_cloudwatch_event_rule", {}),
    "awscc_sns_topic": ("aws_sns_topic", {"topic_arn": "arn"}),
    "awscc_sns_subscription": ("aws_sns_topic_subscription", {}),
}
"""The type that each is read as, and the attributes that have another name there."""


def read_as_aws(
    type_: str, *values: Mapping[str, Any] | None
) -> tuple[str, list[Mapping[str, Any] | None]]:
    """A type and its values (before, after, unknown) with the names of the AWS provider."""
    if type_ not in TYPES:
        return type_, list(values)
    other, names = TYPES[type_]
    return other, [None if v is None else _renamed(v, names) for v in values]


def _renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    found = {names.get(name, name): value for name, value in values.items()}
    selectors = found.get("advanced_event_selector")
    if isinstance(selectors, list):
        found["advanced_event_selector"] = [
            {"field_selector": selector.get("field_selectors")}
            for selector in selectors
            if isinstance(selector, Mapping)
        ]
    tags = found.get("tags")
    if isinstance(tags, list):
        found["tags_all"] = {tag["key"]: tag["value"] for tag in tags if isinstance(tag, Mapping)}
    return found
