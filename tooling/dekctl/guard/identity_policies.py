"""What a plan newly allows roles, users and groups by policies of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from dekctl.guard.access import EVERYTHING
from dekctl.guard.iam import Statement, parse_policy
from dekctl.guard.role_policies import policies_of, roles_with_policies
from dekctl.guard.terraform_plan import ResourceChange, TerraformPlan

ADMINISTRATION = ("AdministratorAccess", "PowerUserAccess")
"""AWS's own managed policies that allow every use of a KMS key."""
ATTACHMENTS = {
    "aws_iam_user_policy_attachment": ("user",),
    "aws_iam_group_policy_attachment": ("group",),
    "aws_iam_role_policy_attachment": ("role",),
    "aws_iam_policy_attachment": ("users", "groups", "roles"),
}


class IdentityPolicy(NamedTuple):
    """The statements of an identity (``role/NAME``, ``user/NAME``) now and as planned."""

    change: ResourceChange
    who: str
    before: Sequence[Statement]
    after: Sequence[Statement]


def identity_policies(plan: TerraformPlan) -> Iterator[IdentityPolicy]:
    """The policies of identities that the plan changes, as far as it shows their text.

    Raises:
        ValueError: a policy is malformed.
    """
    for role in roles_with_policies(plan):
        policies = policies_of(plan, role)
        if policies.touched and policies.after is not None:
            yield IdentityPolicy(
                policies.touched[0], f"role/{role}", policies.before, policies.after
            )
    for change in plan.of("aws_iam_user_policy", "aws_iam_group_policy"):
        planned = plan.policy_after(change)
        if change.will_act and planned is not None:
            who = f"user/{change.will('user') or 'member-of-' + str(change.will('group'))}"
            yield IdentityPolicy(change, who, parse_policy(change.was("policy") or "{}"), planned)
    for change in plan.of(*ATTACHMENTS):
        if change.will_act:
            yield from _attached(plan, change)
    for change in plan.of("aws_iam_role"):
        if change.will_act:
            before, after = (_of_role(plan, value) for value in (change.was, change.will))
            yield IdentityPolicy(change, f"role/{change.will('name')}", before, after)


def _attached(plan: TerraformPlan, change: ResourceChange) -> Iterator[IdentityPolicy]:
    """A managed policy that is attached; :func:`policies_of` has those of roles in the plan."""
    for attribute in ATTACHMENTS[change.type]:
        value = change.will(attribute)
        for name in value if isinstance(value, list) else [value]:
            after = _managed(plan, change.will("policy_arn"))
            if name and (after is EVERYTHING or not attribute.startswith("role")):
                kinds = {"role": "role/", "user": "user/", "grou": "user/member-of-"}
                yield IdentityPolicy(change, f"{kinds[attribute[:4]]}{name}", (), after)


def _managed(plan: TerraformPlan, arn: Any) -> Sequence[Statement]:
    """The text of a managed policy as planned; without an ARN, of each that the plan makes."""
    if str(arn).rpartition("/")[2] in ADMINISTRATION and ":iam::aws:" in str(arn):
        return EVERYTHING
    found = [c for c in plan.of("aws_iam_policy") if c.was("arn") == arn]
    return [s for change in found for s in plan.policy_after(change) or ()]


def _of_role(plan: TerraformPlan, value: Callable[[str], Any]) -> list[Statement]:
    """What the role's own arguments say."""
    inline = [block["policy"] for block in value("inline_policy") or () if block.get("policy")]
    found = [statement for text in inline for statement in parse_policy(text)]
    return found + [s for arn in value("managed_policy_arns") or () for s in _managed(plan, arn)]
