"""Keys among the resources of a plan."""

from __future__ import annotations

from typing import Any

from dekctl.guard.terraform_plan import ResourceChange, TerraformPlan

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
