"""Plans about the trail, its key and its log group."""

from __future__ import annotations

from typing import Any

from support.plan_kinds.edits import (
    ACCOUNT,
    DELIVERY,
    DELIVERY_POLICY,
    GROUP,
    REGION,
    STRANGER,
    TOPIC_KEY,
    TRAIL,
    TRAIL_KEY,
    Cases,
    Edit,
    adds,
    allow,
    arn_of,
    block,
    deletes,
    deny,
    forgets,
    hides,
    loses,
    own,
    replaced_in,
    replaces,
    says,
    sets,
)
from support.recorded_plans import (
    Plan,
    change_of,
    edit,
)


def selector(**values: Any) -> Edit:
    return block(TRAIL, "event_selector", **values)


def other_key_for_trail(address: str) -> Edit:
    def apply(plan: Plan) -> Plan:
        return edit(plan, TRAIL, kms_key_id=arn_of(plan, address))

    return apply


def first_key_for_trail(address: str) -> Edit:
    def apply(plan: Plan) -> Plan:
        change_of(plan, TRAIL)["before"]["kms_key_id"] = ""
        return other_key_for_trail(address)(plan)

    return apply


def field(name: str, equals: list[str]) -> dict[str, Any]:
    return {"field": name, "equals": equals}


def fields(*selectors: dict[str, Any]) -> Edit:
    """The trail takes an advanced event selector."""
    return sets(
        TRAIL, event_selector=[], advanced_event_selector=[{"field_selector": [*selectors]}]
    )


MANAGEMENT = field("eventCategory", ["Management"])


def trail_gone(plan: Plan) -> Plan:
    kept = [r for r in plan["resource_changes"] if not r["address"].endswith(TRAIL)]
    return plan | {"resource_changes": kept}


def retention(days: int) -> Edit:
    return sets(GROUP, retention_in_days=days)


TRAILS: Cases = {
    "the trail gets a tag": (sets(TRAIL, tags_all={"a": "b"}), None),
    "the trail is deleted": (deletes(TRAIL), "trail"),
    "the trail is replaced": (replaces(TRAIL, name="new"), "trail"),
    "Terraform forgets the trail": (forgets(TRAIL), "trail"),
    "the trail of the last outputs is not in the plan": (trail_gone, "trail"),
    "logging stops": (sets(TRAIL, enable_logging=False), "trail"),
    "whether the trail logs is not known": (hides(TRAIL, "enable_logging"), "trail"),
    "other Regions are no longer recorded": (sets(TRAIL, is_multi_region_trail=False), "trail"),
    "global services are no longer recorded": (
        sets(TRAIL, include_global_service_events=False),
        "trail",
    ),
    "log files are no longer validated": (sets(TRAIL, enable_log_file_validation=False), "trail"),
    "only writes are recorded": (selector(read_write_type="WriteOnly"), "trail"),
    "management events are not recorded": (selector(include_management_events=False), "trail"),
    "KMS is excluded": (
        selector(exclude_management_event_sources=["kms.amazonaws.com"]),
        "trail",
    ),
    "the RDS Data API is excluded": (
        selector(exclude_management_event_sources=["rdsdata.amazonaws.com"]),
        None,
    ),
    "only S3 is recorded": (
        fields(MANAGEMENT, field("eventSource", ["s3.amazonaws.com"])),
        "trail",
    ),
    "only reads are recorded": (fields(MANAGEMENT, field("readOnly", ["true"])), "trail"),
    "only data events are recorded": (fields(field("eventCategory", ["Data"])), "trail"),
    "KMS is excluded by an advanced selector": (
        fields(MANAGEMENT, {"field": "eventSource", "not_equals": ["kms.amazonaws.com"]}),
        "trail",
    ),
    "sources that begin with kms are excluded": (
        fields(MANAGEMENT, {"field": "eventSource", "not_starts_with": ["kms"]}),
        "trail",
    ),
    "Decrypt is excluded by an advanced selector": (
        fields(MANAGEMENT, {"field": "eventName", "not_equals": ["Decrypt"]}),
        "trail",
    ),
    "what an advanced selector records is not known": (
        hides(TRAIL, "advanced_event_selector"),
        "trail",
    ),
    "an advanced selector records all management events": (fields(MANAGEMENT), None),
    "the RDS Data API is excluded by an advanced selector": (
        fields(MANAGEMENT, {"field": "eventSource", "not_equals": ["rdsdata.amazonaws.com"]}),
        None,
    ),
    "the trail becomes an organization's": (sets(TRAIL, is_organization_trail=True), "trail"),
    "the trail writes to another bucket": (sets(TRAIL, s3_bucket_name="other"), "trail"),
    "the trail writes under a prefix": (sets(TRAIL, s3_key_prefix="x"), "trail"),
    "the trail is no longer encrypted": (sets(TRAIL, kms_key_id=""), "trail"),
    "the trail gets its first key, which does not let it": (
        first_key_for_trail(TOPIC_KEY),
        "trail",
    ),
    "the trail takes a key that does not let it": (other_key_for_trail(TOPIC_KEY), "trail"),
    "CloudWatch Logs is turned off": (
        sets(TRAIL, cloud_watch_logs_group_arn="", cloud_watch_logs_role_arn=""),
        "trail",
    ),
    "the trail writes to another log group": (
        sets(TRAIL, cloud_watch_logs_group_arn=f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:x:*"),
        "trail",
    ),
    "the trail takes another role": (
        sets(TRAIL, cloud_watch_logs_role_arn=STRANGER),
        "trail",
    ),
}

KEYS_AND_LOGS: Cases = {
    "the trail's key is deleted": (deletes(TRAIL_KEY), "trail"),
    "Terraform forgets the trail's key": (forgets(TRAIL_KEY), "trail"),
    "the trail's key is disabled": (sets(TRAIL_KEY, is_enabled=False), "trail"),
    "the trail's key no longer lets CloudTrail encrypt": (
        loses(TRAIL_KEY, "CloudTrailEncrypts"),
        "trail",
    ),
    "the trail's key no longer lets CloudTrail look": (
        loses(TRAIL_KEY, "CloudTrailDescribes"),
        "trail",
    ),
    "the trail's key no longer lets CloudWatch Logs in": (
        loses(TRAIL_KEY, "CloudWatchLogsUses"),
        "trail",
    ),
    "the trail's key no longer lets the auditor read": (
        loses(TRAIL_KEY, "ReadersDecryptFiles"),
        "trail",
    ),
    "the trail's key is for another trail": (
        replaced_in(TRAIL_KEY, "trail/dekctl-staging-trail", "trail/other"),
        "trail",
    ),
    "the trail's key denies services": (
        says(TRAIL_KEY, deny("kms:GenerateDataKey*")),
        "trail",
    ),
    "the trail's key gets another administrator": (
        says(TRAIL_KEY, allow(STRANGER, "kms:PutKeyPolicy")),
        None,
    ),
    "the log group is deleted": (deletes(GROUP), "trail"),
    "the log group is replaced": (replaces(GROUP, name="new"), "trail"),
    "the log group keeps its events shorter": (retention(7), "trail"),
    "the log group keeps its events longer": (retention(3653), None),
    "the log group keeps its events for ever": (retention(0), None),
    "the log group is no longer encrypted": (sets(GROUP, kms_key_id=""), "trail"),
    "Terraform forgets the log group": (forgets(GROUP), "trail"),
    "Terraform forgets the role of the delivery": (forgets(DELIVERY), "trail"),
    "Terraform forgets the policy of the delivery": (forgets(DELIVERY_POLICY), "trail"),
    "the role of the delivery gets a permissions boundary": (
        sets(DELIVERY, permissions_boundary=f"arn:aws:iam::{ACCOUNT}:policy/b"),
        "trail",
    ),
    "the role of the delivery gets a managed policy that is not in the plan": (
        adds(
            "aws_iam_role_policy_attachment",
            role="dekctl-staging-trail-delivery",
            policy_arn="arn:aws:iam::aws:policy/AWSDenyAll",
        ),
        "trail",
    ),
    "the log group gets a subscription filter": (
        adds(
            "aws_cloudwatch_log_subscription_filter",
            log_group_name="/dekctl/dekctl-staging/cloudtrail",
            destination_arn=STRANGER,
        ),
        None,
    ),
    "the role of the delivery is deleted": (deletes(DELIVERY), "trail"),
    "CloudTrail may not assume the role of the delivery": (
        sets(DELIVERY, assume_role_policy='{"Statement": []}'),
        "trail",
    ),
    "the trust of the delivery asks for what CloudTrail does not send": (
        says(
            DELIVERY,
            own(deny("sts:AssumeRole", Condition={"Null": {"aws:PrincipalArn": "true"}}))
            | {"Principal": "*"},
            "assume_role_policy",
        ),
        "trail",
    ),
    "the policy of the delivery is deleted": (deletes(DELIVERY_POLICY), "trail"),
    "the role of the delivery loses the policies that are not listed": (
        adds(
            "aws_iam_role_policies_exclusive",
            role_name="dekctl-staging-trail-delivery",
            policy_names=[],
        ),
        "trail",
    ),
    "the policy of the delivery is for another log group": (
        replaced_in(DELIVERY_POLICY, "/dekctl/dekctl-staging/cloudtrail", "/other"),
        "trail",
    ),
}
