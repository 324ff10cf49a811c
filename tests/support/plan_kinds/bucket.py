"""Plans about the bucket of the trail."""

from __future__ import annotations

import json
from typing import Any

from support.plan_kinds.edits import (
    ACCOUNT,
    BUCKET,
    BUCKET_POLICY,
    ELSEWHERE,
    ENCRYPTION,
    LIFECYCLE,
    LOCK,
    LOGGING,
    OWNERSHIP,
    PUBLIC,
    STRANGER,
    VERSIONING,
    Cases,
    Edit,
    adds,
    allow,
    block,
    both,
    deletes,
    deny,
    forgets,
    hides,
    loses,
    replaced_in,
    replaces,
    role_arn,
    says,
    sets,
    unmanaged,
)
from support.recorded_plans import (
    Plan,
    edit,
    statements,
)


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


NAME = f"dekctl-staging-trail-{ACCOUNT}"
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
    "the bucket's own policy argument denies CloudTrail": (
        sets(BUCKET, policy=statements(lambda found: found.append(deny("s3:PutObject")))),
        "trail",
    ),
    "a second bucket policy denies CloudTrail": (
        adds("aws_s3_bucket_policy", bucket=NAME, policy=json.dumps({"Statement": [deny("s3:*")]})),
        "trail",
    ),
    "the bucket policy lets another account delete": (
        says(BUCKET_POLICY, allow(ELSEWHERE, "s3:DeleteObject*")),
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
    "a second resource shortens the Object Lock": (
        adds(
            "aws_s3_bucket_object_lock_configuration",
            bucket=NAME,
            rule=[{"default_retention": [{"days": 1, "mode": "GOVERNANCE"}]}],
        ),
        "trail",
    ),
    "a second resource suspends versioning": (
        adds(
            "aws_s3_bucket_versioning",
            bucket=NAME,
            versioning_configuration=[{"status": "Suspended"}],
        ),
        "trail",
    ),
    "a second resource opens public access": (
        adds("aws_s3_bucket_public_access_block", bucket=NAME),
        "trail",
    ),
    "a second resource changes the default encryption": (
        adds("aws_s3_bucket_server_side_encryption_configuration", bucket=NAME, rule=[]),
        "trail",
    ),
    "versioning, which was not managed, is suspended": (
        both(
            unmanaged(VERSIONING),
            adds(
                "aws_s3_bucket_versioning",
                bucket=NAME,
                versioning_configuration=[{"status": "Suspended"}],
            ),
        ),
        "trail",
    ),
    "public access, which was not managed, is blocked": (
        both(
            unmanaged(PUBLIC),
            adds(
                "aws_s3_bucket_public_access_block",
                bucket=NAME,
                block_public_acls=True,
                block_public_policy=True,
                ignore_public_acls=True,
                restrict_public_buckets=True,
            ),
        ),
        None,
    ),
    "the Object Lock moves to another bucket": (replaces(LOCK, bucket="other"), "trail"),
    "the public access block moves to another bucket": (replaces(PUBLIC, bucket="other"), "trail"),
    "which bucket the default encryption is of is not known": (
        hides(ENCRYPTION, "bucket"),
        "trail",
    ),
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
        adds("aws_s3_bucket_acl", bucket=NAME, acl="public-read"),
        "trail",
    ),
    "the bucket's ACL grants something": (
        adds("aws_s3_bucket_acl", bucket=NAME, access_control_policy=[{"grant": []}]),
        "trail",
    ),
    "the ownership controls are deleted": (deletes(OWNERSHIP), "trail"),
    "Terraform forgets the bucket": (forgets(BUCKET), "trail"),
    "Terraform forgets the bucket policy": (forgets(BUCKET_POLICY), "trail"),
    "Terraform forgets the Object Lock": (forgets(LOCK), "trail"),
    "Terraform writes a file into the bucket": (
        adds("aws_s3_object", bucket=NAME, key="AWSLogs/x.json.gz", content=""),
        "trail",
    ),
    "the bucket is replicated": (
        adds("aws_s3_bucket_replication_configuration", bucket=NAME, role=STRANGER, rule=[]),
        None,
    ),
    "the bucket sends notifications": (adds("aws_s3_bucket_notification", bucket=NAME), None),
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
