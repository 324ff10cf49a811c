"""Keys that a plan deletes, disables, forgets or weakens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dekctl.guard.kms_keys import (
    is_enabled,
    is_switched_off,
    may_be_disabled,
    present_keys,
)
from dekctl.guard.risk import Inputs, Risk, RiskKind
from dekctl.guard.terraform_plan import ResourceChange

KINDS = (
    RiskKind("delete", "deletes or replaces a key", "if rows or their backups need it", 1),
    RiskKind(
        "disable",
        "disables a key or a replica, or lets its imported material expire",
        "if rows need it",
        1,
    ),
    RiskKind(
        "forget",
        "takes a key out of Terraform's control (`removed`, `destroy = false`)",
        "if rows need it",
        2,
    ),
    RiskKind("window", "shortens a key's deletion window", "always"),
    RiskKind("rotation", "ends a key's automatic rotation", "always"),
)


def find(inputs: Inputs) -> Iterator[Risk]:
    """Every key that the plan takes away or weakens."""
    for change in present_keys(inputs.plan):
        arn = change.was("arn")
        if change.goes:
            what = "is replaced by a new key" if "create" in change.actions else "is deleted"
            days = change.was("deletion_window_in_days") or 30
            yield Risk("delete", change.address, arn, f"{what} (final after {days} days)")
            continue
        if change.forgotten:
            what = "leaves Terraform's control: it stays, but later plans will not show it"
            yield Risk("forget", change.address, arn, what)
        if reason := _switched_off(change):
            yield Risk("disable", change.address, arn, reason)
        for kind, reason in _weakened(change):
            yield Risk(kind, change.address, arn, reason, if_needed=False)


def _switched_off(change: ResourceChange) -> str | None:
    """Why a key cannot decrypt once the plan is applied, or None. Unknown values count."""
    if is_switched_off(change):
        return "is disabled"
    if is_enabled(change.before) and may_be_disabled(change):
        return "may be disabled: the plan does not show it"
    # A key cannot decrypt once its imported material has expired.
    was, will = change.was("valid_to"), change.will("valid_to")
    if change.is_unknown("valid_to"):
        return "may lose its key material: the plan does not show when it expires"
    return f"loses its key material at {will}" if will and will != was else None


def _weakened(change: ResourceChange) -> Iterator[tuple[str, str]]:
    """What makes the key less safe: kind and reason."""
    before, after = _window(change.before), _window(change.after)
    if change.is_unknown("deletion_window_in_days"):
        yield "window", f"may be deleted within less than {before} days: the plan does not show it"
    elif after < before:
        yield "window", f"can be deleted within {after} days instead of {before}"
    if change.was("enable_key_rotation"):
        if change.is_unknown("enable_key_rotation"):
            yield "rotation", "may no longer be rotated by KMS: the plan does not show it"
        elif not change.will("enable_key_rotation"):
            yield "rotation", "is no longer rotated by KMS"


def _window(values: Any) -> int:
    return int((values or {}).get("deletion_window_in_days") or 30)  # 30 is KMS's own default
