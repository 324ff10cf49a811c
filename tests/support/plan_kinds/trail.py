"""Plans about the trail, its bucket, its key and its log group."""

from __future__ import annotations

from typing import Any

from support.plan_kinds.edits import (
    ACCOUNT,
    BUCKET,
    BUCKET_POLICY,
    DELIVERY,
    DELIVERY_POLICY,
    ENCRYPTION,
    GROUP,
    LIFECYCLE,
    LOCK,
    LOGGING,
    OWNERSHIP,
    PUBLIC,
    REGION,
    STRANGER,
    TOPIC_KEY,
    TRAIL,
    TRAIL_KEY,
    VERSIONING,
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
    role_arn,
    says,
    sets,
)
from support.recorded_plans import (
    Plan,
    edit,
)


def selector(**values: Any) -> Edit:
    return block(TRAIL, "event_selector", **values)


def other_key_for_trail(address: str) -> Edit:
    def apply(plan: Plan) -> Plan:
        return edit(plan, TRAIL, kms_key_id=arn_of(plan, address))

    return apply


def trail_gone(plan: Plan) -> Plan:
    kept = [r for r in plan["resource_changes"] if not r["address"].endswith(TRAIL)]
    return plan | {"resource_changes": kept}


def retention(days: int) -> Edit:
    return sets(GROUP, retention_in_days=days)


def expires(days: int) -> Edit:
    def earlier(rules: list[Any]) -> list[Any]:
        return [{**rules[0], "expiration": [{"days": days}]}]

    return sets(LIFECYCLE, rule=earlier)


def archived(plan: Plan) -> Plan:
    def deep(rules: list[Any]) -> list[Any]:
        return [{**rules[0], "transition": [{"days": 1, "storage_class": "DEEP_ARCHIVE"}]}]

    return edit(plan, LIFECYCLE, rule=deep)


def locked(**values: Any) -> Edit:
    return sets(LOCK, rule=[{"default_retention": [{"days": 365, "mode": "GOVERNANCE", **values}]}])


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
    "the trail writes to another bucket": (sets(TRAIL, s3_bucket_name="other"), "trail"),
    "the trail writes under a prefix": (sets(TRAIL, s3_key_prefix="x"), "trail"),
    "the trail is no longer encrypted": (sets(TRAIL, kms_key_id=""), "trail"),
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

BUCKETS: Cases = {
    "the bucket is deleted": (deletes(BUCKET), "trail"),
    "the bucket gets a tag": (sets(BUCKET, tags_all={"a": "b"}), None),
    "the bucket policy is deleted": (deletes(BUCKET_POLICY), "trail"),
    "the bucket policy denies CloudTrail": (says(BUCKET_POLICY, deny("s3:PutObject")), "trail"),
    "the bucket policy denies every service": (
        says(
            BUCKET_POLICY,
            deny("s3:*", Condition={"Bool": {"aws:PrincipalIsAWSService": "true"}}),
        ),
        "trail",
    ),
    "the bucket policy denies what is not encrypted by KMS": (
        says(
            BUCKET_POLICY,
            deny(
                "s3:PutObject",
                Condition={"StringNotEquals": {"s3:x-amz-server-side-encryption": "aws:kms"}},
            ),
        ),
        None,
    ),
    "the bucket policy denies outside of a network": (
        says(
            BUCKET_POLICY,
            deny("s3:*", Condition={"StringNotEquals": {"aws:SourceVpce": "vpce-1"}}),
        ),
        "trail",
    ),
    "the bucket policy no longer lets CloudTrail write": (
        loses(BUCKET_POLICY, "CloudTrailWrites"),
        "trail",
    ),
    "the bucket policy no longer lets CloudTrail check": (
        loses(BUCKET_POLICY, "CloudTrailChecks"),
        "trail",
    ),
    "the bucket policy allows another path": (
        replaced_in(BUCKET_POLICY, f"/AWSLogs/{ACCOUNT}/*", "/logs/*"),
        "trail",
    ),
    "the bucket policy allows log files but no digests": (
        replaced_in(BUCKET_POLICY, f"/AWSLogs/{ACCOUNT}/*", f"/AWSLogs/{ACCOUNT}/CloudTrail/*"),
        "trail",
    ),
    "the bucket policy is for another trail": (
        replaced_in(BUCKET_POLICY, "trail/dekctl-staging-trail", "trail/other"),
        "trail",
    ),
    "the bucket policy is not known": (hides(BUCKET_POLICY, "policy"), "trail"),
    "the bucket policy denies the auditor": (
        says(BUCKET_POLICY, allow(role_arn("auditor"), "s3:GetObject") | {"Effect": "Deny"}),
        "trail",
    ),
    "the bucket policy allows one more reader": (
        says(BUCKET_POLICY, allow(STRANGER, "s3:GetObject")),
        None,
    ),
    "the bucket policy lets everybody read": (
        says(BUCKET_POLICY, allow("*", "s3:GetObject")),
        "trail",
    ),
    "the bucket policy lets somebody delete": (
        says(BUCKET_POLICY, allow(STRANGER, "s3:DeleteObject*")),
        "trail",
    ),
    "the S3 Bucket Key is turned on": (block(ENCRYPTION, "rule", bucket_key_enabled=True), "trail"),
    "the bucket's default encryption goes": (deletes(ENCRYPTION), "trail"),
    "the bucket's default encryption takes another key": (
        block(
            ENCRYPTION,
            "rule",
            apply_server_side_encryption_by_default=[{"sse_algorithm": "AES256"}],
        ),
        "trail",
    ),
    "the Object Lock is shortened": (locked(days=30), "trail"),
    "the Object Lock is lengthened": (locked(days=730), None),
    "the Object Lock is in years": (locked(days=0, years=2), None),
    "the Object Lock is removed": (deletes(LOCK), "trail"),
    "files expire earlier": (expires(30), "trail"),
    "files expire later": (expires(3650), None),
    "files never expire": (deletes(LIFECYCLE), None),
    "files go to an archive": (archived, "trail"),
    "versioning is suspended": (
        block(VERSIONING, "versioning_configuration", status="Suspended"),
        "trail",
    ),
    "the bucket lets ACLs be public": (sets(PUBLIC, block_public_acls=False), "trail"),
    "the public access block is deleted": (deletes(PUBLIC), "trail"),
    "the bucket accepts ACLs": (
        block(OWNERSHIP, "rule", object_ownership="ObjectWriter"),
        "trail",
    ),
    "the bucket's ACL becomes public": (
        adds("aws_s3_bucket_acl", bucket="dekctl-staging-trail-123456789012", acl="public-read"),
        "trail",
    ),
    "the bucket itself suspends versioning": (
        block(BUCKET, "versioning", enabled=False),
        "trail",
    ),
    "the bucket's access log is turned off": (deletes(LOGGING), "trail"),
    "the policy of the access log's bucket is deleted": (
        deletes("aws_s3_bucket_policy.access"),
        None,
    ),
}

KEYS_AND_LOGS: Cases = {
    "the trail's key is deleted": (deletes(TRAIL_KEY), "trail"),
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
