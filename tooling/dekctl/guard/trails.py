"""The trails of a plan, and the requests by which CloudTrail, CloudWatch and EventBridge work.

Sources: AWS CloudTrail User Guide, "Amazon S3 bucket policy for CloudTrail", "Configure AWS KMS key
policies for CloudTrail" and "Role policy document for CloudTrail to use CloudWatch Logs"; Amazon
CloudWatch Logs User Guide, "Encrypt log data"; Amazon SNS Developer Guide, "Key management".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dekctl.guard.iam import SERVICE, Ask
from dekctl.guard.needs import Need
from dekctl.guard.terraform_plan import ResourceChange, TerraformPlan

CLOUDTRAIL = "cloudtrail.amazonaws.com"
CLOUDWATCH = "cloudwatch.amazonaws.com"
EVENTBRIDGE = "events.amazonaws.com"

Carried = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Trail:
    """A trail as it is now. What is None or empty, it does not have."""

    change: ResourceChange

    def _text(self, name: str) -> str:
        return str(self.change.was(name) or "")

    @property
    def arn(self) -> str:
        """Its ARN."""
        return self._text("arn")

    @property
    def account(self) -> str:
        """Its account, empty if the plan does not tell."""
        return self.arn.split(":")[4] if self.arn.count(":") >= 5 else ""

    @property
    def region(self) -> str:
        """Its home Region, empty if the plan does not tell."""
        return self.arn.split(":")[3] if self.arn.count(":") >= 5 else ""

    @property
    def partition(self) -> str:
        """``aws``, or the partition of China or GovCloud."""
        return self.arn.split(":")[1] if self.arn.count(":") >= 5 else "aws"

    @property
    def bucket(self) -> str:
        """Name of the bucket that it writes to."""
        return self._text("s3_bucket_name")

    @property
    def key(self) -> str:
        """Id of its KMS key."""
        return self._text("kms_key_id").rpartition("/")[2]

    @property
    def log_group_arn(self) -> str:
        """ARN of its log group, without the ``:*`` that CloudTrail wants."""
        return self._text("cloud_watch_logs_group_arn").removesuffix(":*")

    @property
    def log_group(self) -> str:
        """Name of its log group."""
        return self.log_group_arn.partition(":log-group:")[2]

    @property
    def role(self) -> str:
        """Name of the role by which it writes to the log group."""
        return self._text("cloud_watch_logs_role_arn").rpartition("/")[2]

    def _carried(self) -> Carried:
        found: Carried = ()
        if self.arn:
            found = (("aws:SourceArn", (self.arn,)), ("aws:SourceAccount", (self.account,)))
        return found

    def bucket_needs(self) -> Iterator[Need]:
        """What CloudTrail asks of the bucket."""
        bucket = f"arn:{self.partition}:s3:::{self.bucket}"
        carried: Carried = (
            *self._carried(),
            ("s3:x-amz-acl", ("bucket-owner-full-control",)),
            ("s3:x-amz-server-side-encryption", ("aws:kms",) if self.key else ()),
        )
        ask = Ask(CLOUDTRAIL, "s3:GetBucketAcl", bucket, kind=SERVICE, carried=carried)
        yield Need("CloudTrail can check the bucket", ask)
        prefix = self._text("s3_key_prefix")
        root = f"{bucket}/{prefix + '/' if prefix else ''}AWSLogs/{self.account or '0'}"
        for folder, what in (("CloudTrail", "log files"), ("CloudTrail-Digest", "digest files")):
            for region in dict.fromkeys((self.region or "us-east-1", "us-east-1", "eu-west-1")):
                path = f"{root}/{folder}/{region}/2026/01/01/file.json.gz"
                ask = Ask(CLOUDTRAIL, "s3:PutObject", path, kind=SERVICE, carried=carried)
                yield Need(f"CloudTrail can write its {what}", ask)

    def file_arn(self) -> str:
        """A log file in the bucket."""
        return f"arn:{self.partition}:s3:::{self.bucket}/AWSLogs/{self.account}/CloudTrail/file"

    def key_needs(self, key_arn: str, *, bucket_key: bool) -> Iterator[Need]:
        """What CloudTrail and the log group ask of the trail's key."""
        bucket = f"arn:{self.partition}:s3:::{self.bucket}"
        # With an S3 Bucket Key the context is the bucket, and CloudTrail needs Decrypt besides.
        context = ("aws:s3:arn", bucket) if bucket_key else ("aws:cloudtrail:arn", self.arn)
        carried = self._carried()
        actions = ["kms:GenerateDataKey", *(["kms:Decrypt"] if bucket_key else [])]
        for action in actions:
            ask = Ask(CLOUDTRAIL, action, key_arn, (context,), kind=SERVICE, carried=carried)
            yield Need("CloudTrail can encrypt its files", ask)
        ask = Ask(CLOUDTRAIL, "kms:DescribeKey", key_arn, kind=SERVICE, carried=carried)
        yield Need("CloudTrail can look at the key", ask)

    def log_key_needs(self, key_arn: str) -> Iterator[Need]:
        """What CloudWatch Logs asks of the key of the log group."""
        service = f"logs.{self.region}.amazonaws.com"
        context = (("aws:logs:arn", self.log_group_arn),)
        for action in ("kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey"):
            ask = Ask(service, action, key_arn, context, kind=SERVICE)
            yield Need("CloudWatch Logs can use the key", ask)

    def trust_need(self, role_arn: str) -> Need:
        """What CloudTrail asks of the role by which it writes to the log group."""
        ask = Ask(CLOUDTRAIL, "sts:AssumeRole", role_arn, kind=SERVICE)
        return Need("CloudTrail can assume the role that writes to the log group", ask)

    def delivery_needs(self, role_arn: str) -> Iterator[Need]:
        """What the role that writes to the log group asks of its policies."""
        stream = f"{self.log_group_arn}:log-stream:{self.account}_CloudTrail_{self.region}"
        for action in ("logs:CreateLogStream", "logs:PutLogEvents"):
            yield Need("the trail can write to its log group", Ask(role_arn, action, stream))


def present_trails(plan: TerraformPlan) -> list[Trail]:
    """The trails that exist now."""
    return [Trail(change) for change in plan.of("aws_cloudtrail") if change.before is not None]


def publish_needs(service: str, topic_arn: str, account: str) -> Iterator[Need]:
    """What an alarm or a rule asks of the topic that it tells."""
    carried: Carried = (("aws:SourceAccount", (account,)),) if service == CLOUDWATCH else ()
    ask = Ask(service, "sns:Publish", topic_arn, kind=SERVICE, carried=carried)
    yield Need(f"{_name(service)} can publish to the topic", ask)


def topic_key_needs(service: str, key_arn: str, topic_arn: str, account: str) -> Iterator[Need]:
    """What an alarm or a rule asks of the key of the topic that it tells."""
    carried: Carried = (
        (("aws:SourceAccount", (account,)),)
        if service == CLOUDWATCH
        # EventBridge sends neither to KMS.
        else (("aws:SourceAccount", ()), ("aws:SourceArn", ()))
    )
    context = (("aws:sns:topicArn", topic_arn),)
    for action in ("kms:Decrypt", "kms:GenerateDataKey"):
        ask = Ask(service, action, key_arn, context, kind=SERVICE, carried=carried)
        yield Need(f"{_name(service)} can use the topic's key", ask)


def _name(service: str) -> str:
    return {CLOUDWATCH: "CloudWatch", EVENTBRIDGE: "EventBridge"}[service]
