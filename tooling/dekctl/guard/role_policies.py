"""Which policies a role has, now and as planned: inline, and managed ones that are attached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from dekctl.guard.iam import Statement, parse_policy
from dekctl.guard.terraform_plan import ResourceChange, TerraformPlan

ROLE_POLICIES = ("aws_iam_role_policy", "aws_iam_policy")
EXCLUSIVE = ("aws_iam_role_policies_exclusive", "aws_iam_role_policy_attachments_exclusive")
"""Resources that take every policy from a role which they do not list."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A managed policy that a role has now (``held``) or as planned (``holds``).

    ``arn`` is None for a policy that this very plan makes: it may be any of the new ones.
    """

    role: str
    arn: str | None
    held: bool
    holds: bool
    change: ResourceChange


@dataclass(slots=True)
class RolePolicies:
    """The statements of a role's policies; ``after`` is None where the plan does not tell them.

    ``touched`` are the resources that change them, ``unreadable`` those that attach or detach a
    policy whose text is not in the plan.
    """

    before: list[Statement] = field(default_factory=list)
    after: list[Statement] | None = field(default_factory=list)
    touched: list[ResourceChange] = field(default_factory=list)
    unreadable: list[ResourceChange] = field(default_factory=list)


def attachments(plan: TerraformPlan) -> list[Attachment]:
    """Every attachment of a managed policy to a role."""
    return [
        attachment
        for change in plan.of("aws_iam_role_policy_attachment", "aws_iam_policy_attachment")
        for attachment in _attachments_of(change)
    ]


def _attachments_of(change: ResourceChange) -> Iterator[Attachment]:
    now = {(role, change.was("policy_arn")) for role in _roles(change, planned=False)}
    then = {(role, change.will("policy_arn")) for role in _roles(change, planned=True)}
    for role, arn in sorted(now | then, key=str):
        yield Attachment(role, arn, (role, arn) in now, (role, arn) in then, change)


def _roles(change: ResourceChange, *, planned: bool) -> list[str]:
    value = change.will if planned else change.was
    if change.type == "aws_iam_policy_attachment":
        return [str(role) for role in value("roles") or ()]
    return [str(value("role"))] if value("role") else []


def policies_of(plan: TerraformPlan, role: str) -> RolePolicies:
    """A role's policies are looked at together: a statement may move from one to another."""
    found = RolePolicies()
    mine = [attachment for attachment in attachments(plan) if attachment.role == role]
    texts = {change.was("arn") for change in plan.of("aws_iam_policy")}
    for change in plan.of(*ROLE_POLICIES):
        held, holds, cause = _holds(change, role, mine)
        if held and change.was("policy"):
            found.before += parse_policy(change.was("policy"))
        if holds and not change.goes and found.after is not None:
            planned = plan.policy_after(change)
            found.after = None if planned is None else found.after + list(planned)
        if held != holds or (held and change.actions != ("no-op",)):
            found.touched.append(cause)
    found.unreadable = [
        attachment.change
        for attachment in mine
        if attachment.arn not in texts and attachment.held != attachment.holds
    ]
    # An aws_iam_policy_attachment takes the policy from every role that it does not list.
    taken = [c for c in plan.of("aws_iam_policy_attachment") if c.actions != ("no-op",)]
    held_arns = {attachment.arn for attachment in mine if attachment.held}
    found.unreadable += [
        change
        for change in taken
        if change.is_unknown("roles")
        or (
            change.will("policy_arn") in held_arns
            and role not in _roles(change, planned=True)
            and role not in _roles(change, planned=False)
        )
    ]
    return found


def roles_with_policies(plan: TerraformPlan) -> list[str]:
    """The roles that a policy or an attachment of the plan names."""
    inline = plan.of("aws_iam_role_policy")
    named = {str(role) for c in inline for role in (c.was("role"), c.will("role")) if role}
    return sorted(named | {attachment.role for attachment in attachments(plan)})


def _holds(
    change: ResourceChange, role: str, mine: list[Attachment]
) -> tuple[bool, bool, ResourceChange]:
    """Whether a policy is a role's now, and as planned, and the resource that says so."""
    if change.type == "aws_iam_role_policy":
        return change.was("role") == role, change.will("role") == role, change
    found = [attachment for attachment in mine if attachment.arn == change.was("arn")]
    moved = next((a.change for a in found if a.held != a.holds), change)
    return any(a.held for a in found), any(a.holds for a in found), moved
