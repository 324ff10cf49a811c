"""What could blind the trail, the record of who used a KEK."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from dekctl.guard.kms_keys import KEYS
from dekctl.guard.risk import Inputs, Risk, RiskKind
from dekctl.guard.terraform_plan import ResourceChange

KINDS = (
    RiskKind(
        "trail",
        "deletes or silences the trail, its own key, its bucket or the bucket's policy; stops it "
        "recording reads, writes, KMS events or other Regions; sends it to another bucket",
        "always",
    ),
)
KMS = "kms.amazonaws.com"
EVERY_CALL = {"true", "false"}
"""Values of ``readOnly``: Decrypt counts as read, ReEncrypt as write."""


def find(inputs: Inputs) -> Iterator[Risk]:
    """Every change that ends, narrows or loses the record of a trail. They count without rows."""
    plan = inputs.plan
    trails = [change for change in plan.of("aws_cloudtrail") if change.before is not None]
    for change in trails:
        for reason in _blinded(change):
            yield _risk(change, f"{change.was('name')} {reason}")
    buckets = {change.was("s3_bucket_name") for change in trails} - {None}
    for change in plan.of("aws_s3_bucket", "aws_s3_bucket_policy"):
        if change.was("bucket") not in buckets:
            continue
        what = "bucket" if change.type == "aws_s3_bucket" else "bucket policy"
        if change.goes:
            yield _risk(change, f"the trail's {what} of {change.was('bucket')} is deleted")
        elif change.is_unknown("bucket") or change.will("bucket") != change.was("bucket"):
            yield _risk(
                change, f"the trail's {what} of {change.was('bucket')} moves to another bucket"
            )
    keys = {str(c.was("kms_key_id")).rpartition("/")[2] for c in trails if c.was("kms_key_id")}
    for change in plan.of(*KEYS):
        if change.was("key_id") not in keys:
            continue
        off = any(
            change.was(name) is not False and _turns(change, name, is_bad=lambda v: v is False)
            for name in ("is_enabled", "enabled")
        )
        if change.goes or off:
            what = "is deleted" if change.goes else "is disabled"
            yield _risk(change, f"the trail's own key {change.was('arn')} {what}")


def _risk(change: ResourceChange, detail: str) -> Risk:
    return Risk("trail", change.address, None, detail, if_needed=False)


def _turns(change: ResourceChange, name: str, *, is_bad: Callable[[Any], bool]) -> bool:
    """Whether a value is bad as planned, or not known yet."""
    return change.is_unknown(name) or is_bad(change.will(name))


def _blinded(change: ResourceChange) -> Iterator[str]:
    """How the plan narrows what a trail records."""
    if change.goes:
        yield "is replaced" if "create" in change.actions else "is deleted"
        return
    if change.forgotten:
        yield "leaves Terraform's control: later plans will not show it"
    if change.was("enable_logging") is not False and _turns(
        change, "enable_logging", is_bad=lambda value: value is False
    ):
        yield "stops logging"
    if change.was("is_multi_region_trail") and _turns(
        change, "is_multi_region_trail", is_bad=lambda value: not value
    ):
        yield "no longer records other Regions"
    bucket = change.was("s3_bucket_name")
    if bucket and _turns(change, "s3_bucket_name", is_bad=lambda value: value != bucket):
        yield f"no longer writes to the bucket {bucket}"
    selectors = ("event_selector", "advanced_event_selector")
    unknown = any(change.is_unknown(name) for name in selectors)
    if _sees_kms(change.before) and (unknown or not _sees_kms(change.after)):
        yield "no longer records every use of a KEK"


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
