"""What keeps a trail from writing to its log group, where the alarms look."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from dekctl.guard.iam import trust_statements
from dekctl.guard.kms_keys import key_by_id
from dekctl.guard.needs import lost
from dekctl.guard.risk import FORGOTTEN, Inputs, Risk, RiskKind
from dekctl.guard.role_policies import EXCLUSIVE, policies_of
from dekctl.guard.terraform_plan import ResourceChange, TerraformPlan
from dekctl.guard.trails import Trail, present_trails

KINDS: Sequence[RiskKind] = ()  # it reports risks of the kind `trail`


def find(inputs: Inputs) -> Iterator[Risk]:
    """Every change of a trail's log group, or of the role that writes to it."""
    plan = inputs.plan
    for trail in present_trails(plan):
        if not trail.log_group:
            continue
        for change in plan.of("aws_cloudwatch_log_group"):
            if change.was("name") == trail.log_group:
                for reason in _group(plan, trail, change):
                    yield Risk("trail", change.address, None, reason, if_needed=False)
        for change in plan.of("aws_iam_role"):
            if change.was("name") == trail.role and change.actions != ("no-op",):
                for reason in _role(trail, change):
                    yield Risk("trail", change.address, None, reason, if_needed=False)
        yield from _policies(plan, trail)
        for change in plan.of(*EXCLUSIVE):
            role = change.will("role_name")
            if change.will_act and (role == trail.role or change.is_unknown("role_name")):
                reason = f"the role {trail.role} may lose policies that are not listed here"
                yield Risk("trail", change.address, None, reason, if_needed=False)


def _group(plan: TerraformPlan, trail: Trail, change: ResourceChange) -> Iterator[str]:
    name = f"the trail's log group {trail.log_group}"
    if change.goes:
        yield f"{name} is {'replaced' if 'create' in change.actions else 'deleted'}"
        return
    if change.forgotten:
        yield f"{name} {FORGOTTEN}"
    before, after = (
        values.get("retention_in_days") or math.inf  # 0 is for ever
        for values in (change.before or {}, change.after or {})
    )
    if change.is_unknown("retention_in_days") or after < before:
        yield f"{name} keeps its events for {after} days instead of {before}"
    was, will = change.was("kms_key_id") or "", change.will("kms_key_id") or ""
    if change.is_unknown("kms_key_id") or was != will:
        key = key_by_id(plan, will) if will else None
        policy = plan.policy_after(key) if key else None
        if not will or key is None or lost(None, policy, trail.log_key_needs(key.was("arn"))):
            yield f"{name} takes another key or none, and may not be able to use it"


def _role(trail: Trail, change: ResourceChange) -> Iterator[str]:
    name = f"the role {trail.role}, by which the trail writes to its log group,"
    if change.goes:
        yield f"{name} is deleted"
        return
    if change.forgotten:
        yield f"{name} {FORGOTTEN}"
    for attribute in ("inline_policy", "managed_policy_arns", "permissions_boundary"):
        was, will = change.was(attribute) or [], change.will(attribute) or []
        if change.is_unknown(attribute) or was != will:
            yield f"{name} may lose its rights: {attribute} changes"
    text = change.was("assume_role_policy")
    before = trust_statements(text) if text else None
    planned = change.will("assume_role_policy")
    after = None if change.is_unknown("assume_role_policy") else trust_statements(planned)
    need = trail.trust_need(change.was("arn") or "*")
    if text != planned and (reasons := lost(before, after, [need])):
        yield f"the trust policy no longer ensures that {' and '.join(reasons)}"


def _policies(plan: TerraformPlan, trail: Trail) -> Iterator[Risk]:
    role = f"arn:{trail.partition}:iam::{trail.account}:role/{trail.role}"
    policies = policies_of(plan, trail.role)
    for change in policies.touched:
        if change.forgotten:
            detail = f"a policy of the role {trail.role} {FORGOTTEN}"
            yield Risk("trail", change.address, None, detail, if_needed=False)
    for change in policies.unreadable:
        detail = f"the role {trail.role} may lose its rights: a managed policy comes or goes"
        yield Risk("trail", change.address, None, detail, if_needed=False)
    if policies.touched and (
        reasons := lost(policies.before, policies.after, trail.delivery_needs(role))
    ):
        detail = f"policies of the role {trail.role} no longer ensure that {' and '.join(reasons)}"
        yield Risk("trail", policies.touched[0].address, None, detail, if_needed=False)
