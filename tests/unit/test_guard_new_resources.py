"""`dekctl guard`: rights that go by other resources than the KEK and a present policy."""

from __future__ import annotations

from typing import Any

import pytest

from dekctl.guard.risk import Inputs
from dekctl.guard.rules import find_risks
from dekctl.guard.terraform_plan import parse_plan
from support.plans import ACCOUNT, APP, WRAPPER, allow, change, key, plan, policy

KEK = change("aws_kms_key", "kek", key("k1"), key("k1"))
DENY = policy({"Effect": "Deny", "Action": "kms:Decrypt", "Resource": "*"})
ALLOW = policy(allow(None, "kms:Decrypt"))
ANY_USE = policy({"Effect": "Allow", "Action": "kms:*", "Resource": "*"})
STORAGE = policy({"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"})
BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/boundary"
TRUST = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "ec2"}}
ROLE = {
    "arn": APP,
    "name": "files-app",
    "permissions_boundary": None,
    "assume_role_policy": policy(TRUST),
    "inline_policy": [{"name": "x", "policy": ALLOW}],
    "managed_policy_arns": [BOUNDARY],
}
ROOT = {
    "Effect": "Allow",
    "Action": "kms:*",
    "Resource": "*",
    "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
}
MANAGED = change(
    "aws_iam_policy",
    "use",
    {"arn": BOUNDARY, "policy": ALLOW},
    {"arn": BOUNDARY, "policy": ALLOW},
)


def role(**after: Any) -> dict[str, Any]:
    """The app's role, changed in some values."""
    return change("aws_iam_role", "app", ROLE, ROLE | after)


def handed_to_the_account(*named: dict[str, Any]) -> dict[str, Any]:
    """The key policy that named the app (and whoever else) now names the account alone."""
    before = policy(allow(APP, "kms:Decrypt"), *named)
    return change("aws_kms_key", "kek", key("k1", policy=before), key("k1", policy=policy(ROOT)))


def attached_to(before: list[str] | None, after: list[str] | None) -> dict[str, Any]:
    """A managed policy's exclusive list of roles."""
    was, will = (
        None if roles is None else {"name": "a", "roles": roles, "policy_arn": BOUNDARY}
        for roles in (before, after)
    )
    return change("aws_iam_policy_attachment", "a", was, will)


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
DANGEROUS |= {
    "a policy that is not in the plan is attached": (
        attachment("arn:aws:iam::aws:policy/AWSDenyAll"),
    ),
    "a policy that is not in the plan is detached": (
        change(
            "aws_iam_role_policy_attachment",
            "old",
            {"role": "files-app", "policy_arn": BOUNDARY},
            None,
        ),
    ),
    "an exclusive attachment goes": (MANAGED, attached_to(["files-app"], None)),
    "an exclusive attachment leaves the role out": (
        MANAGED,
        attached_to(["files-app", "other"], ["other"]),
    ),
    "an exclusive attachment of others takes the role's": (
        MANAGED,
        change(
            "aws_iam_role_policy_attachment",
            "own",
            {"role": "files-app", "policy_arn": BOUNDARY},
            {"role": "files-app", "policy_arn": BOUNDARY},
        ),
        attached_to(None, ["other"]),
    ),
    "a policy of an exclusive attachment loses KMS": (
        change(
            "aws_iam_policy",
            "use",
            {"arn": BOUNDARY, "policy": ALLOW},
            {"arn": BOUNDARY, "policy": STORAGE},
        ),
        attached_to(["files-app"], ["files-app"]),
    ),
    "a new policy that denies is attached exclusively": (
        change("aws_iam_policy", "deny", None, {"policy": DENY}, unknown={"arn": True}),
        change(
            "aws_iam_policy_attachment",
            "a",
            None,
            {"name": "a", "roles": ["files-app"]},
            unknown={"policy_arn": True},
        ),
    ),
    "the role's inline policies change": (role(inline_policy=[]),),
    "the role's managed policies change": (role(managed_policy_arns=[]),),
    "the role's trust goes": (role(assume_role_policy=policy()),),
    "the role's trust is denied": (
        role(assume_role_policy=policy(TRUST, {**TRUST, "Effect": "Deny"})),
    ),
    "all other inline policies go": (
        change(
            "aws_iam_role_policies_exclusive",
            "x",
            None,
            {"role_name": "files-app", "policy_names": []},
        ),
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
    "a policy that is not in the plan stays attached": (
        change(
            "aws_iam_role_policy_attachment",
            "own",
            {"role": "files-app", "policy_arn": BOUNDARY},
            {"role": "files-app", "policy_arn": BOUNDARY},
        ),
    ),
    "somebody else gets a policy that is not in the plan": (attached_to(None, ["other"]),),
    "more may assume the role": (
        role(assume_role_policy=policy({**TRUST, "Principal": {"Service": ["ec2", "ecs"]}})),
    ),
    "the role's inline policies stay": (role(description="new"),),
    "a boundary that nobody can read stays": (change("aws_iam_role", "app", BOUNDED, BOUNDED),),
}


@pytest.mark.parametrize("changes", DANGEROUS.values(), ids=DANGEROUS.keys())
def test_a_right_that_a_new_resource_takes_away_is_a_danger(
    changes: tuple[dict[str, Any], ...],
) -> None:
    risks = find_risks(Inputs(parse_plan(plan(KEK, *changes), "plan"), ["encrypted_files"]))
    [found] = [risk for risk in risks if risk.kind != "write"]
    assert (found.kind, found.kek) == ("decrypt", key("k1")["arn"])
    assert "files-app" in found.detail


@pytest.mark.parametrize("changes", HARMLESS.values(), ids=HARMLESS.keys())
def test_a_new_resource_that_takes_nothing_away_is_no_danger(
    changes: tuple[dict[str, Any], ...],
) -> None:
    risks = find_risks(Inputs(parse_plan(plan(KEK, *changes), "plan"), ["encrypted_files"]))
    assert risks == []


def risks_of(*changes: dict[str, Any]) -> list[tuple[str, str]]:
    """Kind and address of every danger."""
    found = find_risks(Inputs(parse_plan(plan(*changes), "plan"), ["encrypted_files"]))
    return [(risk.kind, risk.address) for risk in found if risk.kind not in ("write", "exposure")]


@pytest.mark.parametrize("named", [(), (ROOT,)], ids=["the app alone", "the app and the account"])
def test_a_key_policy_of_the_account_counts_only_with_a_policy_of_the_role(
    named: tuple[dict[str, Any], ...],
) -> None:
    handed = handed_to_the_account(*named)
    assert risks_of(handed) == [("decrypt", "aws_kms_key.kek")]
    assert risks_of(handed, role_policy("own", ALLOW, new=False)) == []


def test_a_key_policy_that_was_the_account_s_already_takes_nothing() -> None:
    root = key("k1", policy=policy(ROOT))
    more = key("k1", policy=policy(ROOT, allow(WRAPPER, "kms:Encrypt")))
    assert risks_of(change("aws_kms_key", "kek", root, more)) == []


def test_an_alias_that_moves_to_a_key_of_the_account_needs_policies_of_the_writers() -> None:
    other = key("k2", policy=policy(ROOT))
    switched = (
        KEK,
        change("aws_kms_key", "next", other, other),
        change(
            "aws_kms_alias",
            "kek",
            {"name": "alias/files", "target_key_id": "k1"},
            {"name": "alias/files", "target_key_id": "k2"},
        ),
    )
    assert risks_of(*switched) == [("alias", "aws_kms_alias.kek")]
    writers = (
        change("aws_iam_role_policy", name, values, values)
        for name, values in (
            ("app", {"role": "files-app", "policy": ANY_USE}),
            ("wrapper", {"role": "files-wrapper", "policy": ANY_USE}),
        )
    )
    assert risks_of(*switched, *writers) == []


@pytest.mark.parametrize("after", [{"name": "alias/x", "target_key_id": "k2"}, None])
def test_an_alias_that_a_condition_needs_takes_the_right_along(
    after: dict[str, Any] | None,
) -> None:
    aliases = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/x"}}
    bound = key("k1", policy=policy({**ROOT, "Condition": aliases}))
    found = risks_of(
        change("aws_kms_key", "kek", bound, bound),
        change("aws_kms_key", "next", key("k2"), key("k2")),
        change("aws_kms_alias", "x", {"name": "alias/x", "target_key_id": "k1"}, after),
    )
    assert ("decrypt", "aws_kms_alias.x") in found
