"""What ends or narrows the record of a trail, by the trail's own settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from dekctl.guard.kms_keys import key_by_id
from dekctl.guard.needs import lost
from dekctl.guard.risk import FORGOTTEN, Inputs, Risk, RiskKind
from dekctl.guard.terraform_plan import ResourceChange, TerraformPlan
from dekctl.guard.trails import Trail, present_trails

KINDS = (
    RiskKind(
        "trail",
        "stops or narrows the trail, keeps it from writing, or weakens what protects its files "
        "(see below)",
        "always",
    ),
)
KMS = "kms.amazonaws.com"
EVERY_CALL = {"true", "false"}
"""Values of ``readOnly``: Decrypt counts as read, ReEncrypt as write."""


def find(inputs: Inputs) -> Iterator[Risk]:
    """Every change of a trail itself that ends or narrows its record."""
    plan = inputs.plan
    trails = present_trails(plan)
    for trail in trails:
        for reason in _narrowed(plan, trail):
            yield trail_risk(trail.change, f"{trail.change.was('name')} {reason}")
    audit = plan.outputs.audit if plan.outputs else {}
    # A trail that existed before is none of this plan's resources.
    expected = None if audit.get("existing") else audit.get("trail_arn")
    name = str(expected).rpartition("/")[2]
    known = {change.was("name") or change.will("name") for change in plan.of("aws_cloudtrail")}
    if expected and name not in known:
        detail = f"the trail {expected} of the last outputs is not in this plan"
        yield Risk("trail", "(no resource of this plan)", None, detail, if_needed=False)


def trail_risk(change: ResourceChange, detail: str) -> Risk:
    """A risk of this kind; it counts whether or not rows need a KEK."""
    return Risk("trail", change.address, None, detail, if_needed=False)


def _turns(change: ResourceChange, name: str, *, is_bad: Callable[[Any], bool]) -> bool:
    """Whether a value is bad as planned, or not known yet."""
    return change.is_unknown(name) or is_bad(change.will(name))


def _turned_off(change: ResourceChange, name: str) -> bool:
    """Whether a setting that is on by default is on now and not certainly after the plan."""
    was_on = change.was(name) is not False
    return was_on and _turns(change, name, is_bad=lambda value: value is False)


def _narrowed(plan: TerraformPlan, trail: Trail) -> Iterator[str]:
    """How the plan narrows what a trail records, or hides it."""
    change = trail.change
    if change.goes:
        yield "is replaced" if "create" in change.actions else "is deleted"
        return
    if change.forgotten:
        yield FORGOTTEN
    if _turned_off(change, "enable_logging"):
        yield "stops logging"
    if _turned_off(change, "include_global_service_events"):
        yield "no longer records global services (IAM, STS)"
    for name, reason in (
        ("is_multi_region_trail", "no longer records other Regions"),
        ("is_organization_trail", "no longer records the other accounts"),
        ("enable_log_file_validation", "no longer signs its files, so that changes are not seen"),
    ):
        if change.was(name) and _turns(change, name, is_bad=lambda value: not value):
            yield reason
    if trail.bucket and _changes(change, "s3_bucket_name"):
        yield f"no longer writes to the bucket {trail.bucket}"
    organization = bool(change.will("is_organization_trail")) or change.is_unknown(
        "is_organization_trail"
    )
    if _changes(change, "s3_key_prefix") or (
        organization and not change.was("is_organization_trail")
    ):
        yield "writes under another prefix, where its readers do not look"
    if trail.log_group and _changes(change, "cloud_watch_logs_group_arn"):
        yield f"no longer writes to the log group {trail.log_group}, which the alarms watch"
    elif trail.role and _changes(change, "cloud_watch_logs_role_arn"):
        yield "writes to its log group by another role, which may not be allowed to"
    if _changes(change, "kms_key_id"):
        yield from _other_key(plan, trail)
    selectors = ("event_selector", "advanced_event_selector")
    unknown = any(change.is_unknown(name) for name in selectors)
    if _sees_kms(change.before) and (unknown or not _sees_kms(change.after)):
        yield "no longer records every use of a KEK"


def _changes(change: ResourceChange, name: str) -> bool:
    return change.is_unknown(name) or (change.will(name) or "") != (change.was(name) or "")


def _other_key(plan: TerraformPlan, trail: Trail) -> Iterator[str]:
    """The trail takes another key, or none."""
    new = trail.change.will("kms_key_id")
    if not new and not trail.change.is_unknown("kms_key_id"):
        yield "no longer encrypts its files with a KMS key"
        return
    key = key_by_id(plan, new) if new else None
    if key is None:
        yield "takes a key whose policy this plan does not show"
    elif reasons := lost(
        None, plan.policy_after(key), trail.key_needs(key.was("arn"), bucket_key=False)
    ):
        yield f"takes a key whose policy does not ensure that {' and '.join(reasons)}"


def _sees_kms(values: Any) -> bool:
    """Whether a trail records KMS's read and write events."""
    values = values or {}
    seen: set[str] = set()
    advanced = values.get("advanced_event_selector")
    if advanced:
        for selector in advanced:
            seen |= _seen_by_fields(selector.get("field_selector") or [])
        return seen >= EVERY_CALL
    for selector in values.get("event_selector") or [{}]:
        excluded = selector.get("exclude_management_event_sources") or []
        if selector.get("include_management_events") is not False and KMS not in excluded:
            kind = selector.get("read_write_type") or "All"
            seen |= {"ReadOnly": {"true"}, "WriteOnly": {"false"}}.get(kind, EVERY_CALL)
    return seen >= EVERY_CALL


def _seen_by_fields(fields: list[dict[str, Any]]) -> set[str]:
    """The values of ``readOnly`` that an advanced selector records of KMS's management events."""
    seen = EVERY_CALL
    management = False
    for field in fields:
        name, equals = field.get("field"), field.get("equals") or []
        others = {key for key, value in field.items() if value and key not in {"field", "equals"}}
        if name == "eventCategory":
            management = "Management" in equals
        elif name == "readOnly" and not others:
            seen = seen & {str(value).lower() for value in equals}
        elif name == "eventSource" and others == {"not_equals"} and not equals:
            seen = seen if KMS not in field["not_equals"] else set()
        elif name != "eventSource" or others or KMS not in equals:
            return set()  # any other condition leaves some uses out
    return seen if management else set()
