"""What keeps a trail or its log group from using its key, and the auditor from reading it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from dekctl.config.roles import Role
from dekctl.guard.access import still_allowed
from dekctl.guard.iam import Ask, Statement, allows, parse_policy
from dekctl.guard.kms_keys import KEYS, is_enabled, key_by_id, may_be_disabled
from dekctl.guard.needs import lost
from dekctl.guard.risk import FORGOTTEN, Inputs, Risk, RiskKind
from dekctl.guard.role_policies import policies_of
from dekctl.guard.terraform_plan import ResourceChange, TerraformPlan
from dekctl.guard.trails import Trail, present_trails

KINDS: Sequence[RiskKind] = ()  # it reports risks of the kind `trail`


def find(inputs: Inputs) -> Iterator[Risk]:
    """Every change that takes its key from a trail or from its log group."""
    plan = inputs.plan
    for trail in present_trails(plan):
        for change in plan.of(*KEYS, "aws_kms_key_policy"):
            if change.actions == ("no-op",):
                continue
            key_id = str(change.was("key_id") or change.will("key_id")).rpartition("/")[2]
            if key_id in {trail.key, _log_key(plan, trail)} - {""}:
                for reason in _taken(plan, trail, change, key_id):
                    yield Risk("trail", change.address, None, reason, if_needed=False)


def _log_key(plan: TerraformPlan, trail: Trail) -> str:
    """Id of the key of the trail's log group."""
    groups = plan.of("aws_cloudwatch_log_group")
    found = [c.was("kms_key_id") for c in groups if c.was("name") == trail.log_group]
    return str(found[0] or "").rpartition("/")[2] if found else ""


def _taken(plan: TerraformPlan, trail: Trail, change: ResourceChange, key_id: str) -> Iterator[str]:
    key = key_by_id(plan, key_id)
    arn = str(key.was("arn") if key else change.was("arn") or "*")
    name = f"the trail's own key {arn}"
    if change.type != "aws_kms_key_policy":
        if change.goes:
            yield f"{name} is deleted"
            return
        if change.forgotten:
            yield f"{name} {FORGOTTEN}"
        if is_enabled(change.before) and (may_be_disabled(change) or not is_enabled(change.after)):
            yield f"{name} is disabled"
        if change.was("policy") == change.will("policy"):
            return
    text = change.was("policy") or (key.was("policy") if key else None)
    before = parse_policy(text) if text else None
    after = () if change.goes else plan.policy_after(change)
    needs = list(trail.key_needs(arn, bucket_key=False)) if key_id == trail.key else []
    if key_id == _log_key(plan, trail):
        needs += trail.log_key_needs(arn)
    reasons = lost(before, after, needs)
    if (
        key_id == trail.key
        and before is not None
        and _auditor_loses(plan, trail, arn, before, after)
    ):
        reasons.append("the auditor can read the files")
    if reasons:
        yield f"the policy of {name} no longer ensures that {' and '.join(reasons)}"


def _auditor_loses(
    plan: TerraformPlan,
    trail: Trail,
    arn: str,
    before: Sequence[Statement],
    after: Sequence[Statement] | None,
) -> bool:
    if plan.outputs is None:
        return False
    auditor = plan.outputs.roles[Role.AUDITOR]
    ask = Ask(auditor, "kms:Decrypt", arn, (("aws:cloudtrail:arn", trail.arn),))
    if not allows(before, replace(ask, by_account=False), lambda _: True):
        return False  # the account's policies decide, and are not part of the key policy
    identity = policies_of(plan, auditor.rpartition("/")[2]).after
    return after is None or not still_allowed(before, after, identity, ask, ask)
