"""Keys among the resources of a plan."""

from __future__ import annotations

from typing import Any

from dekctl.guard.terraform_plan import ResourceChange, TerraformPlan
from dekctl.kek_id import is_same_kek

KEYS = (
    "aws_kms_key",
    "aws_kms_replica_key",
    "aws_kms_external_key",
    "aws_kms_replica_external_key",
)


def present_keys(plan: TerraformPlan) -> list[ResourceChange]:
    """The keys that exist now."""
    return [change for change in plan.of(*KEYS) if change.was("arn")]


def key_by_id(plan: TerraformPlan, name: Any) -> ResourceChange | None:
    """The present key with this key id or ARN."""
    wanted = str(name).rpartition("/")[2]
    return next((c for c in present_keys(plan) if c.was("key_id") == wanted), None)


def is_enabled(values: Any) -> bool:
    """Whether a key with these values can be used."""
    values = values or {}
    return values.get("is_enabled", values.get("enabled")) is not False


def is_switched_off(change: ResourceChange) -> bool:
    """Whether the plan certainly disables or removes a key that is enabled now."""
    return is_enabled(change.before) and not is_enabled(change.after)


def may_be_disabled(change: ResourceChange) -> bool:
    """Whether the plan does not tell if the key will be enabled."""
    return change.is_unknown("is_enabled") or change.is_unknown("enabled")


def is_kek(plan: TerraformPlan, arn: str) -> bool:
    """Whether a key may be a KEK: one of the outputs, or one that no trail or topic uses."""
    if plan.outputs is None:
        return True
    if any(is_same_kek(generation.arn, arn) for generation in plan.outputs.all_generations):
        return True
    return not any(
        arn in (change.was("kms_key_id"), change.was("kms_master_key_id"))
        for change in plan.of("aws_cloudtrail", "aws_cloudwatch_log_group", "aws_sns_topic")
    ) and any(change.was("arn") == arn for change in present_keys(plan))


def active_keys(plan: TerraformPlan) -> list[ResourceChange]:
    """The present keys that wrap new keys after the plan: those that the writers' aliases name.

    Without outputs nobody knows which aliases those are.
    """
    if plan.outputs is None:
        return []
    keks = [g.arn for g in plan.outputs.all_generations]
    aliases = [
        alias
        for alias in plan.of("aws_kms_alias")
        if (old := key_by_id(plan, alias.was("target_key_id"))) and old.was("arn") in keks
    ]
    if not aliases:  # the alias is managed elsewhere
        return [key for key in present_keys(plan) if key.was("arn") == plan.outputs.kek_arn]
    targets = [
        key_by_id(plan, alias.will("target_key_id"))
        for alias in aliases
        if not alias.goes and not alias.is_unknown("target_key_id")
    ]
    return list({str(key.was("arn")): key for key in targets if key}.values())
