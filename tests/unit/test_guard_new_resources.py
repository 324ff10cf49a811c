"""`dekctl guard`: rights that are taken away by resources that the plan makes."""

from __future__ import annotations

from typing import Any

import pytest

from dekctl.guard.dangers import find_dangers
from dekctl.guard.plan import parse_plan
from support.plans import ACCOUNT, APP, WRAPPER, allow, change, key, plan, policy

KEK = change("aws_kms_key", "kek", key("k1"), key("k1"))
DENY = policy({"Effect": "Deny", "Action": "kms:Decrypt", "Resource": "*"})
ALLOW = policy(allow(None, "kms:Decrypt"))
ANY_USE = policy({"Effect": "Allow", "Action": "kms:*", "Resource": "*"})
STORAGE = policy({"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"})
BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/boundary"
ROLE = {"arn": APP, "name": "files-app", "permissions_boundary": None}


def boundary(before: str | None, after: str) -> dict[str, Any]:
    """The managed policy that bounds the app's role."""
    was = {"arn": BOUNDARY, "policy": before} if before else None
    return change("aws_iam_policy", "boundary", was, {"arn": BOUNDARY, "policy": after})


def role_policy(name: str, document: str, *, new: bool) -> dict[str, Any]:
    values = {"role": "files-app", "policy": document}
    return change("aws_iam_role_policy", name, None if new else values, values)


def attachment(arn: str | None) -> dict[str, Any]:
    values = {"role": "files-app", "policy_arn": arn}
    unknown = {} if arn else {"policy_arn": True}
    return change("aws_iam_role_policy_attachment", "new", None, values, unknown=unknown)


BOUNDED = {**ROLE, "permissions_boundary": BOUNDARY}
DANGEROUS = {
    "a new key policy leaves the app out": (
        change(
            "aws_kms_key_policy",
            "new",
            None,
            {"key_id": "k1", "policy": policy(allow(WRAPPER, "kms:Encrypt"))},
        ),
    ),
    "a new policy of the role denies": (
        role_policy("present", ALLOW, new=False),
        role_policy("new", DENY, new=True),
    ),
    "a new policy denies what the key policy allows": (role_policy("new", DENY, new=True),),
    "a present policy that denies is attached": (
        change(
            "aws_iam_policy",
            "deny",
            {"arn": BOUNDARY, "policy": DENY},
            {"arn": BOUNDARY, "policy": DENY},
        ),
        attachment(BOUNDARY),
    ),
    "a new policy that denies is attached": (
        change("aws_iam_policy", "deny", None, {"policy": DENY}, unknown={"arn": True}),
        attachment(None),
    ),
    "the role gets a boundary without KMS": (
        boundary(STORAGE, STORAGE),
        change("aws_iam_role", "app", ROLE, BOUNDED),
    ),
    "the role gets a boundary that nobody can read": (
        change("aws_iam_role", "app", ROLE, BOUNDED),
    ),
    "the role's boundary loses KMS": (
        boundary(ALLOW, STORAGE),
        change("aws_iam_role", "app", BOUNDED, BOUNDED),
    ),
}
HARMLESS = {
    "a new key policy that repeats the key's own": (
        change("aws_kms_key_policy", "new", None, {"key_id": "k1", "policy": key("k1")["policy"]}),
    ),
    "a new policy about something else": (
        role_policy("present", ALLOW, new=False),
        role_policy("new", STORAGE, new=True),
    ),
    "a denial for another role": (
        change("aws_iam_role_policy", "new", None, {"role": "other", "policy": DENY}),
    ),
    "a boundary that allows KMS": (
        boundary(ANY_USE, ANY_USE),
        change("aws_iam_role", "app", ROLE, BOUNDED),
    ),
    "a boundary that goes": (change("aws_iam_role", "app", BOUNDED, ROLE),),
    "a boundary that nobody can read stays": (change("aws_iam_role", "app", BOUNDED, BOUNDED),),
}


@pytest.mark.parametrize("changes", DANGEROUS.values(), ids=DANGEROUS.keys())
def test_a_right_that_a_new_resource_takes_away_is_a_danger(
    changes: tuple[dict[str, Any], ...],
) -> None:
    dangers = find_dangers(parse_plan(plan(KEK, *changes), "plan"), ["encrypted_files"])
    assert [(d.kind, d.kek) for d in dangers] == [("decrypt", key("k1")["arn"])]
    assert APP in dangers[0].detail


@pytest.mark.parametrize("changes", HARMLESS.values(), ids=HARMLESS.keys())
def test_a_new_resource_that_takes_nothing_away_is_no_danger(
    changes: tuple[dict[str, Any], ...],
) -> None:
    dangers = find_dangers(parse_plan(plan(KEK, *changes), "plan"), ["encrypted_files"])
    assert dangers == []
