"""Edits of a recorded plan, and the addresses of its resources."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from support.recorded_plans import (
    Plan,
    change_of,
    create,
    delete,
    edit,
    existing,
    replace,
    statements,
    unknown,
)

ACCOUNT, REGION = "123456789012", "eu-central-1"
KEK, OLD_KEK = 'kek.aws_kms_key.generation["g2"]', 'kek.aws_kms_key.generation["g1"]'
ALIAS = "kek.aws_kms_alias.this"
TRAIL = "aws_cloudtrail.this"
TRAIL_KEY, TOPIC_KEY = "aws_kms_key.trail", "aws_kms_key.alerts[0]"
BUCKET, BUCKET_POLICY = "aws_s3_bucket.trail", "aws_s3_bucket_policy.trail"
ENCRYPTION = "aws_s3_bucket_server_side_encryption_configuration.trail"
LOCK = "aws_s3_bucket_object_lock_configuration.trail"
LIFECYCLE = "aws_s3_bucket_lifecycle_configuration.trail[0]"
VERSIONING = "aws_s3_bucket_versioning.trail"
PUBLIC = "aws_s3_bucket_public_access_block.trail"
OWNERSHIP = "aws_s3_bucket_ownership_controls.trail"
LOGGING = "aws_s3_bucket_logging.trail"
GROUP = "aws_cloudwatch_log_group.trail"
DELIVERY, DELIVERY_POLICY = "aws_iam_role.delivery", "aws_iam_role_policy.delivery"
FILTER = 'aws_cloudwatch_log_metric_filter.this["key-disabled"]'
ALARM = 'aws_cloudwatch_metric_alarm.this["key-disabled"]'
RULE = 'aws_cloudwatch_event_rule.this["kms"]'
TARGET = 'aws_cloudwatch_event_target.this["kms"]'
TOPIC, TOPIC_POLICY = "aws_sns_topic.alerts[0]", "aws_sns_topic_policy.alerts[0]"
SUBSCRIPTION = 'aws_sns_topic_subscription.email["security@example.com"]'
STRANGER = f"arn:aws:iam::{ACCOUNT}:role/stranger"
ELSEWHERE = "arn:aws:iam::999999999999:root"

Edit = Callable[[Plan], Plan]
Cases = dict[str, tuple[Edit, str | None]]


def role_of(name: str) -> str:
    return f'aws_iam_role.this["{name}"]'


def policy_of(name: str) -> str:
    return f'aws_iam_role_policy.this["{name}"]'


def role_arn(name: str) -> str:
    return f"arn:aws:iam::{ACCOUNT}:role/dekctl-staging-{name}"


def arn_of(plan: Plan, address: str) -> str:
    return str(change_of(plan, address)["before"]["arn"])


def sets(address: str, **values: Any) -> Edit:
    return lambda plan: edit(plan, address, **values)


def deletes(address: str) -> Edit:
    return lambda plan: delete(plan, address)


def replaces(address: str, **values: Any) -> Edit:
    return lambda plan: replace(plan, address, **values)


def hides(address: str, *names: str) -> Edit:
    return lambda plan: unknown(plan, address, *names)


def forgets(address: str) -> Edit:
    def apply(plan: Plan) -> Plan:
        change_of(plan, address)["actions"] = ["forget"]
        return plan

    return apply


def acts(address: str, *actions: str) -> Edit:
    def apply(plan: Plan) -> Plan:
        change_of(plan, address)["actions"] = list(actions)
        return plan

    return apply


def key_policy(more: Callable[[list[Any]], None] | None = None) -> Edit:
    """A new resource sets the KEK's policy, with this change."""

    def apply(plan: Plan) -> Plan:
        values = change_of(plan, KEK)["before"]
        text = statements(more or (lambda _: None))(values["policy"])
        return create(plan, "aws_kms_key_policy", key_id=values["key_id"], policy=text)

    return apply


def replica(more: dict[str, Any] | None, *, gone: bool = False) -> Edit:
    """A replica of the KEK, which is a multi-Region key, is made with one more statement."""

    def apply(plan: Plan) -> Plan:
        key_id = change_of(plan, KEK)["before"]["key_id"]
        plan = json.loads(json.dumps(plan).replace(key_id, f"mrk-{key_id}"))
        kek = change_of(plan, KEK)["before"]
        text = statements(lambda found: found.extend([more] if more else []))(kek["policy"])
        values = {"primary_key_arn": kek["arn"], "policy": text, "enabled": True}
        if not gone:
            return create(plan, "aws_kms_replica_key", **values)
        arn = kek["arn"].replace(REGION, "eu-west-1")
        before = values | {"arn": arn, "key_id": kek["key_id"]}
        return existing(plan, "aws_kms_replica_key", before, None)

    return apply


def unmanaged(address: str) -> Edit:
    """Terraform does not know the resource."""

    def apply(plan: Plan) -> Plan:
        kept = [r for r in plan["resource_changes"] if not r["address"].endswith(address)]
        return plan | {"resource_changes": kept}

    return apply


def adds(type_: str, **values: Any) -> Edit:
    return lambda plan: create(plan, type_, **values)


def block(address: str, name: str, **values: Any) -> Edit:
    """Change values of the one block ``name``."""
    return sets(address, **{name: lambda old: [{**old[0], **values}]})


def says(address: str, statement: dict[str, Any], attribute: str = "policy") -> Edit:
    """Add a statement to a policy."""
    return sets(address, **{attribute: statements(lambda found: found.append(statement))})


def loses(address: str, sid: str, attribute: str = "policy") -> Edit:
    """Remove the statement of this name from a policy."""

    def remove(found: list[Any]) -> None:
        names = [statement["Sid"] for statement in found]
        del found[names.index(sid)]

    return sets(address, **{attribute: statements(remove)})


def turns(address: str, sid: str, attribute: str = "policy", **values: Any) -> Edit:
    """Change the statement of this name in a policy."""

    def change(found: list[Any]) -> None:
        next(statement for statement in found if statement["Sid"] == sid).update(values)

    return sets(address, **{attribute: statements(change)})


def replaced_in(address: str, old: str, new: str, attribute: str = "policy") -> Edit:
    return sets(address, **{attribute: lambda text: text.replace(old, new)})


def allow(principal: Any, *actions: str, **more: Any) -> dict[str, Any]:
    who = {"AWS": principal} if isinstance(principal, str) and principal != "*" else principal
    return {
        "Sid": "Added",
        "Effect": "Allow",
        "Action": list(actions),
        "Resource": "*",
        "Principal": who,
        **more,
    }


def deny(*actions: str, **more: Any) -> dict[str, Any]:
    return allow("*", *actions, **more) | {"Effect": "Deny"}


def own(statement: dict[str, Any]) -> dict[str, Any]:
    """A statement for a role's own policy."""
    return {name: value for name, value in statement.items() if name != "Principal"}


def both(*edits: Edit) -> Edit:
    def apply(plan: Plan) -> Plan:
        for each in edits:
            plan = each(plan)
        return plan

    return apply


def with_role(name: str) -> Callable[[list[Any]], None]:
    """Take a role out of every statement of a key policy."""

    def change(found: list[Any]) -> None:
        for statement in list(found):
            who = statement.get("Principal")
            named = who.get("AWS") if isinstance(who, dict) else None
            listed = [named] if isinstance(named, str) else list(named or ())
            if role_arn(name) in listed:
                listed.remove(role_arn(name))
                if listed:
                    statement["Principal"] = {"AWS": listed}
                else:
                    found.remove(statement)

    return change


def drops_from_key(name: str, address: str = KEK) -> Edit:
    return sets(address, policy=statements(with_role(name)))
