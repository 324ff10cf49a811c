"""What the plan does to the application's role itself, apart from the role's own policies."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

from dekctl.config.roles import Role
from dekctl.guard.access import readers_of
from dekctl.guard.iam import Statement, parse_policy
from dekctl.guard.kms_keys import active_keys, present_keys
from dekctl.guard.risk import Inputs, Risk, RiskKind
from dekctl.guard.role_policies import EXCLUSIVE
from dekctl.guard.terraform_plan import ResourceChange, TerraformPlan

KINDS = (
    RiskKind(
        "role",
        "deletes the application's role, or takes the role from what runs as it (instance profile, "
        "pod identity, task, function, identity provider)",
        "if rows need the key",
        2,
    ),
)
HOLDERS = {
    "aws_iam_instance_profile": "role",
    "aws_eks_pod_identity_association": "role_arn",
    "aws_ecs_task_definition": "task_role_arn",
    "aws_lambda_function": "role",
    "aws_instance": "iam_instance_profile",
    "aws_launch_template": "iam_instance_profile",
    "aws_launch_configuration": "iam_instance_profile",
}
"""What runs as a role, and the attribute that names the role or its instance profile."""


def find(inputs: Inputs) -> Iterator[Risk]:
    """Every change that could take a reader's role, or that role's rights."""
    plan = inputs.plan
    for kind, address, reason in (*_changes(plan, readers_of(plan), "role", "decrypt"),):
        yield from _on_every_key(plan, kind, address, reason)
    if plan.outputs:
        for role, kind in ((Role.VERIFIER, "verify"), (Role.REWRAPPER, "rewrap")):
            for _, address, reason in _changes(plan, {plan.outputs.roles[role]}, kind, kind):
                yield from _on_every_key(plan, kind, address, reason)
        wrapper = plan.outputs.roles[Role.WRAPPER]
        for _, address, reason in _changes(plan, {wrapper}, "write", "write"):
            for key in active_keys(plan):
                yield Risk("write", address, key.was("arn"), reason, if_needed=False)
    for address, reason in _taken_from_holders(plan):
        yield from _on_every_key(plan, "role", address, reason)


def _on_every_key(plan: TerraformPlan, kind: str, address: str, reason: str) -> Iterator[Risk]:
    for key in present_keys(plan):
        yield Risk(kind, address, key.was("arn"), reason)


def _changes(
    plan: TerraformPlan, users: Collection[str], deleted: str, changed: str
) -> Iterator[tuple[str, str, str]]:
    """Kind (``deleted`` or ``changed``), address and reason."""
    for change in plan.of("aws_iam_role"):
        arn = change.was("arn")
        if arn not in users:
            continue
        if change.goes:
            yield deleted, change.address, f"cannot be used: the role {arn} is deleted"
            continue
        for name in ("inline_policy", "managed_policy_arns"):
            if change.is_unknown(name) or change.will(name) != change.was(name):
                reason = f"{arn} may lose its rights: the role's {name} changes"
                yield changed, change.address, reason
        if not _keeps_its_trust(change):
            reason = f"{arn} may not be assumable any more: its trust policy changes"
            yield changed, change.address, reason
    names = {arn.rpartition("/")[2] for arn in users}
    for change in plan.of(*EXCLUSIVE):
        role = change.will("role_name")
        if change.will_act and (role in names or change.is_unknown("role_name")):
            reason = f"the role {role} may lose its rights: policies not listed here are removed"
            yield changed, change.address, reason


def _taken_from_holders(plan: TerraformPlan) -> Iterator[tuple[str, str]]:
    """Address and reason where something stops running as a reader's role."""
    readers = readers_of(plan)
    yield from _lost_providers(plan, readers)
    held = readers | {reader.rpartition("/")[2] for reader in readers}
    for change in plan.of("aws_iam_instance_profile"):
        if _names(change.was("role")) & held:
            held |= {str(change.was(n)) for n in ("name", "arn") if change.was(n)}
    for change in plan.of(*HOLDERS):
        attribute = HOLDERS[change.type]
        before, after = _names(change.was(attribute)), _names(change.will(attribute))
        gone = change.actions == ("delete",) or not after & held
        if before & held and (gone or change.is_unknown(attribute)):
            what = "is deleted" if change.actions == ("delete",) else f"changes its {attribute}"
            name = ", ".join(sorted(before & held))
            yield change.address, f"what runs as {name} may lose it: {change.type} {what}"


def _lost_providers(plan: TerraformPlan, readers: Collection[str]) -> Iterator[tuple[str, str]]:
    """Identity providers by which a reader's role is assumed, and that are deleted or changed."""
    roles = [role for role in plan.of("aws_iam_role") if role.was("arn") in readers]
    trusted = {
        principal.name: role.was("arn")
        for role in roles
        for statement in parse_policy(role.was("assume_role_policy") or "{}")
        for principal in statement.principals or ()
        if principal.kind == "Federated"
    }
    for change in plan.of("aws_iam_openid_connect_provider", "aws_iam_saml_provider"):
        lost = set(change.was("client_id_list") or ()) - set(change.will("client_id_list") or ())
        if change.was("arn") in trusted and (change.goes or lost):
            what = "is deleted" if change.goes else f"loses {', '.join(sorted(lost))}"
            role = trusted[change.was("arn")]
            yield change.address, f"{role} may not be assumable: its identity provider {what}"


def _names(value: Any) -> set[str]:
    """The roles or profiles that an attribute names: a text, or a block with a name or an ARN."""
    if isinstance(value, list):
        return {
            str(b[n]) for b in value for n in ("name", "arn") if isinstance(b, dict) and b.get(n)
        }
    return {str(value)} if value else set()


def _keeps_its_trust(change: ResourceChange) -> bool:
    """Whether whoever may assume a role may do so after the plan; more may be added."""
    if change.is_unknown("assume_role_policy"):
        return False
    before, after = (
        parse_policy(text) if text else ()
        for text in (change.was("assume_role_policy"), change.will("assume_role_policy"))
    )
    denied = [statement for statement in after if statement.effect == "Deny"]
    allowed = [statement for statement in before if statement.effect == "Allow"]
    return set(denied) <= set(before) and all(
        any(_includes(other, statement) for other in after) for statement in allowed
    )


def _includes(wide: Statement, narrow: Statement) -> bool:
    """Whether a statement is another one, perhaps with more principals."""
    same = replace(wide, principals=None) == replace(narrow, principals=None)
    return same and set(wide.principals or ()) >= set(narrow.principals or ())
