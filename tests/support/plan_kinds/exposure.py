"""Plans that open a KEK, and plans with the Cloud Control provider."""

from __future__ import annotations

import json
from typing import Any

from support.plan_kinds.edits import (
    ACCOUNT,
    ALIAS,
    BUCKET_POLICY,
    ELSEWHERE,
    KEK,
    REGION,
    STRANGER,
    TOPIC_KEY,
    TRAIL,
    Cases,
    Edit,
    adds,
    allow,
    both,
    deletes,
    deny,
    drops_from_key,
    hides,
    key_policy,
    loses,
    own,
    policy_of,
    replica,
    role_arn,
    role_of,
    says,
    sets,
)
from support.recorded_plans import (
    ROTATION,
    Plan,
    change_of,
    create,
    edit,
    existing,
    recorded,
    statements,
    unknown,
)


def grant(grantee: str, *operations: str) -> Edit:
    def apply(plan: Plan) -> Plan:
        key = change_of(plan, KEK)["before"]["key_id"]
        return create(
            plan,
            "aws_kms_grant",
            key_id=key,
            grantee_principal=grantee,
            operations=list(operations),
        )

    return apply


def revoked(plan: Plan) -> Plan:
    key = change_of(plan, KEK)["before"]["key_id"]
    before = {"key_id": key, "grantee_principal": role_arn("app"), "operations": ["Decrypt"]}
    return existing(plan, "aws_kms_grant", before, None)


def of_the_account(plan: Plan) -> Plan:
    """The key policy leaves the decision to the account already."""
    change = change_of(plan, KEK)
    text = json.loads(change["before"]["policy"])
    text["Statement"].append(allow(f"arn:aws:iam::{ACCOUNT}:root", "kms:*"))
    change["before"]["policy"] = change["after"]["policy"] = json.dumps(text)
    return plan


def role_policy(plan: Plan) -> Plan:
    document = {"Statement": [own(allow("*", "kms:Decrypt"))]}
    return create(plan, "aws_iam_role_policy", role="stranger", policy=json.dumps(document))


def user_policy(plan: Plan) -> Plan:
    document = {"Statement": [own(allow("*", "kms:Decrypt"))]}
    return create(plan, "aws_iam_user_policy", user="somebody", policy=json.dumps(document))


def elsewhere_by_service() -> dict[str, Any]:
    condition = {"StringEquals": {"kms:ViaService": f"s3.{REGION}.amazonaws.com"}}
    return allow("*", "kms:Decrypt", Condition=condition)


def of_a_new_role(plan: Plan) -> Plan:
    """The KEK's policy names a role whose ARN is known after the apply."""
    [kek] = [r for r in plan["resource_changes"] if r["address"].endswith(KEK)]
    rendered = json.loads(kek["change"]["before"]["policy"])["Statement"]
    found = [
        {
            "effect": s["Effect"],
            "actions": s["Action"],
            "resources": ["*"],
            "principals": [{"type": "AWS", "identifiers": s["Principal"]["AWS"]}],
            "condition": [
                {"test": test, "variable": name, "values": values}
                for test, pairs in s.get("Condition", {}).items()
                for name, values in pairs.items()
            ],
        }
        for s in rendered
    ]
    new = {"type": "AWS", "identifiers": [None]}
    found.append({"actions": ["kms:Decrypt"], "resources": ["*"], "principals": [new]})
    change = {"actions": ["read"], "before": None, "after": {"statement": found}}
    document = {"type": "aws_iam_policy_document", "name": "key", "mode": "data", "change": change}
    address = f"{kek['module_address']}.data.aws_iam_policy_document.key"
    more = {"address": address, "module_address": kek["module_address"]}
    plan["resource_changes"].append(document | more)
    return unknown(plan, KEK, "policy")


GITHUB = "token.actions.githubusercontent.com"


def trusts_github(**conditions: Any) -> Edit:
    """The app's role trusts GitHub's identity provider."""
    provider = {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{GITHUB}"}
    statement = own(allow(provider, "sts:AssumeRoleWithWebIdentity")) | {"Principal": provider}
    audience = {"StringEquals": {f"{GITHUB}:aud": "sts.amazonaws.com"}}
    for test, pairs in conditions.items():
        audience[test] = audience.get(test, {}) | pairs
    statement["Condition"] = audience
    return says(role_of("app"), statement, "assume_role_policy")


def third_generation(*more: dict[str, Any]) -> Edit:
    """A new KEK takes the alias; its policy says this besides."""

    def apply(_: Plan) -> Plan:
        plan = recorded(ROTATION)
        new = change_of(plan, 'kek.aws_kms_key.generation["g3"]')["after"]
        new["policy"] = statements(lambda found: found.extend(more))(new["policy"])
        return plan

    return apply


def alias_to_open_key(plan: Plan) -> Plan:
    """The alias moves to another present key, which a stranger may decrypt with."""
    [kek] = [r for r in plan["resource_changes"] if r["address"].endswith(KEK)]
    text = json.loads(kek["change"]["before"]["policy"])
    text["Statement"].append(allow(STRANGER, "kms:Decrypt"))
    named = {"arn": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/0", "key_id": "0"}
    values = {**kek["change"]["before"], **named, "policy": json.dumps(text)}
    plan = existing(plan, "aws_kms_key", values, values)
    return edit(plan, ALIAS, target_key_id="0")


USE = json.dumps({"Statement": [own(allow("*", "kms:Decrypt"))]})
ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"
EXPOSED: Cases = {
    "the key policy lets everybody decrypt": (says(KEK, allow("*", "kms:Decrypt")), "exposure"),
    "the key policy lets everybody decrypt through S3": (
        says(KEK, elsewhere_by_service()),
        "exposure",
    ),
    "the key policy lets another account use it": (
        says(KEK, allow(ELSEWHERE.replace(":root", ":role/x"), "kms:*")),
        "exposure",
    ),
    "the key policy leaves the decision to another account": (
        says(KEK, allow(ELSEWHERE, "kms:Decrypt")),
        "exposure",
    ),
    "the key policy leaves the decision to the account": (
        says(KEK, allow(f"arn:aws:iam::{ACCOUNT}:root", "kms:*")),
        "exposure",
    ),
    "the key policy lets a stranger decrypt": (
        says(KEK, allow(STRANGER, "kms:Decrypt")),
        "exposure",
    ),
    "the key policy lets a stranger re-encrypt": (
        says(KEK, allow(STRANGER, "kms:ReEncrypt*")),
        "exposure",
    ),
    "the key policy lets a stranger change it": (
        says(KEK, allow(STRANGER, "kms:PutKeyPolicy")),
        "exposure",
    ),
    "the key policy lets a stranger replicate it": (
        says(KEK, allow(STRANGER, "kms:ReplicateKey")),
        "exposure",
    ),
    "the key policy lets a role decrypt that this plan makes": (of_a_new_role, "exposure"),
    "another key policy beside the KEK's lets a stranger decrypt": (
        key_policy(lambda found: found.append(allow(STRANGER, "kms:Decrypt"))),
        "exposure",
    ),
    "a new replica of the KEK has the same policy": (replica(None), None),
    "a new replica of the KEK lets a stranger decrypt": (
        replica(allow(STRANGER, "kms:Decrypt")),
        "exposure",
    ),
    "a new replica of the KEK leaves the decision to the account": (
        replica(allow(f"arn:aws:iam::{ACCOUNT}:root", "kms:*")),
        "exposure",
    ),
    "the key policy lets a stranger delete the key": (
        says(KEK, allow(STRANGER, "kms:ScheduleKeyDeletion")),
        "exposure",
    ),
    "the key policy lets the wrapper decrypt": (
        says(KEK, allow(role_arn("wrapper"), "kms:Decrypt")),
        "exposure",
    ),
    "the key policy lets a service decrypt": (
        says(KEK, allow({"Service": "lambda.amazonaws.com"}, "kms:Decrypt")),
        "exposure",
    ),
    "a denial of grants is removed": (loses(KEK, "DenyGrants"), None),
    "the key policy lets a stranger describe the key": (
        says(KEK, allow(STRANGER, "kms:DescribeKey")),
        None,
    ),
    "another key policy lets a stranger decrypt": (
        says(TOPIC_KEY, allow(STRANGER, "kms:Decrypt")),
        None,
    ),
    "a third generation lets a stranger decrypt": (
        third_generation(allow(STRANGER, "kms:Decrypt")),
        "exposure",
    ),
    "the alias moves to a key that lets a stranger decrypt": (alias_to_open_key, "exposure"),
    "a grant lets a stranger decrypt": (grant(STRANGER, "Decrypt"), "exposure"),
    "a grant lets the key administrator decrypt": (
        grant(role_arn("key-admin"), "Decrypt"),
        "exposure",
    ),
    "a grant lets the rewrapper decrypt": (grant(role_arn("rewrapper"), "Decrypt"), "exposure"),
    "a grant lets the app decrypt": (grant(role_arn("app"), "Decrypt"), None),
    "a grant lets the app make grants": (grant(role_arn("app"), "CreateGrant"), "exposure"),
    "a grant lets a stranger describe the key": (grant(STRANGER, "DescribeKey"), None),
    "a grant of the app is revoked": (revoked, "decrypt"),
    "a role gets Decrypt on a key of the account": (
        both(of_the_account, role_policy),
        "exposure",
    ),
    "a role gets Decrypt where the key policy names roles": (role_policy, None),
    "a user gets Decrypt on a key of the account": (
        both(of_the_account, user_policy),
        "exposure",
    ),
    "a user gets Decrypt where the key policy names roles": (user_policy, None),
    "a user gets AdministratorAccess on a key of the account": (
        both(
            of_the_account,
            adds("aws_iam_user_policy_attachment", user="somebody", policy_arn=ADMINISTRATOR),
        ),
        "exposure",
    ),
    "a role gets AdministratorAccess on a key of the account": (
        both(
            of_the_account,
            adds("aws_iam_role_policy_attachment", role="stranger", policy_arn=ADMINISTRATOR),
        ),
        "exposure",
    ),
    "a group gets a managed policy with Decrypt on a key of the account": (
        both(
            of_the_account,
            adds("aws_iam_policy", arn=f"arn:aws:iam::{ACCOUNT}:policy/use", policy=USE),
            hides("aws_iam_policy.added", "arn"),
            adds("aws_iam_group_policy_attachment", group="people"),
        ),
        "exposure",
    ),
    "a new role has Decrypt inline on a key of the account": (
        both(
            of_the_account,
            adds("aws_iam_role", name="stranger", inline_policy=[{"name": "a", "policy": USE}]),
        ),
        "exposure",
    ),
    "a new role has Decrypt inline where the key policy names roles": (
        adds("aws_iam_role", name="stranger", inline_policy=[{"name": "a", "policy": USE}]),
        None,
    ),
    "anybody may assume the app's role": (
        says(
            role_of("app"),
            own(allow("*", "sts:AssumeRole")) | {"Principal": "*"},
            "assume_role_policy",
        ),
        "exposure",
    ),
    "anybody at GitHub may assume the app's role": (trusts_github(), "exposure"),
    "any repository at GitHub may assume the app's role": (
        trusts_github(**{"StringLike": {f"{GITHUB}:sub": "*"}}),
        "exposure",
    ),
    "one repository at GitHub may assume the app's role": (
        trusts_github(**{"StringEquals": {f"{GITHUB}:sub": "repo:us/files:ref:main"}}),
        None,
    ),
    "one more service may assume the app's role": (
        sets(
            role_of("app"),
            assume_role_policy=lambda text: text.replace(
                '"ecs-tasks.amazonaws.com"', '["ecs-tasks.amazonaws.com", "ec2.amazonaws.com"]'
            ),
        ),
        None,
    ),
}


def as_awscc(address: str, type_: str, names: dict[str, str]) -> Edit:
    """The resource as the Cloud Control provider has it: another type, other names."""

    def apply(plan: Plan) -> Plan:
        [found] = [r for r in plan["resource_changes"] if r["address"].endswith(address)]
        found["type"] = type_
        for part in ("before", "after"):
            values = found["change"][part] or {}
            found["change"][part] = {names.get(k, k): v for k, v in values.items()} or None
        return plan

    return apply


KEY_NAMES = {"policy": "key_policy", "is_enabled": "enabled"}
CLOUD_CONTROL: Cases = {
    "an awscc KEK stays": (as_awscc(KEK, "awscc_kms_key", KEY_NAMES), None),
    "an awscc KEK is deleted": (
        both(deletes(KEK), as_awscc(KEK, "awscc_kms_key", KEY_NAMES)),
        "delete",
    ),
    "an awscc KEK is disabled": (
        both(sets(KEK, is_enabled=False), as_awscc(KEK, "awscc_kms_key", KEY_NAMES)),
        "disable",
    ),
    "an awscc KEK's policy drops the app": (
        both(drops_from_key("app"), as_awscc(KEK, "awscc_kms_key", KEY_NAMES)),
        "decrypt",
    ),
    "an awscc alias is deleted": (
        both(deletes(ALIAS), as_awscc(ALIAS, "awscc_kms_alias", {"name": "alias_name"})),
        "alias",
    ),
    "an awscc trail stops": (
        both(
            sets(TRAIL, enable_logging=False),
            as_awscc(
                TRAIL,
                "awscc_cloudtrail_trail",
                {"enable_logging": "is_logging", "name": "trail_name"},
            ),
        ),
        "trail",
    ),
    "an awscc bucket policy denies CloudTrail": (
        both(
            says(BUCKET_POLICY, deny("s3:PutObject")),
            as_awscc(BUCKET_POLICY, "awscc_s3_bucket_policy", {"policy": "policy_document"}),
        ),
        "trail",
    ),
    "an awscc role policy is deleted": (
        both(
            deletes(policy_of("app")),
            as_awscc(
                policy_of("app"),
                "awscc_iam_role_policy",
                {"policy": "policy_document", "role": "role_name"},
            ),
        ),
        "decrypt",
    ),
}
