"""What keeps a trail from writing to its bucket, or weakens what protects the files there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dekctl.config.roles import Role
from dekctl.guard.access import EVERYTHING
from dekctl.guard.iam import Ask, Statement, parse_policy
from dekctl.guard.kms_keys import key_by_id
from dekctl.guard.needs import Need, lost, newly_allowed, strangers
from dekctl.guard.risk import FORGOTTEN, Inputs, Risk, RiskKind
from dekctl.guard.terraform_plan import ResourceChange, TerraformPlan
from dekctl.guard.trails import CLOUDTRAIL, Trail, present_trails

KINDS: Sequence[RiskKind] = ()  # it reports risks of the kind `trail`
TAMPERING = (
    "s3:PutObject",
    "s3:DeleteObject",
    "s3:DeleteObjectVersion",
    "s3:BypassGovernanceRetention",
    "s3:PutBucketPolicy",
)
PUBLIC_ACCESS = (
    "block_public_acls",
    "block_public_policy",
    "ignore_public_acls",
    "restrict_public_buckets",
)
PUBLIC_ACLS = {"public-read", "public-read-write", "authenticated-read"}
NESTED = (
    "acl",
    "bucket_encryption",
    "grant",
    "lifecycle_configuration",
    "lifecycle_rule",
    "logging",
    "logging_configuration",
    "object_lock_configuration",
    "ownership_controls",
    "public_access_block_configuration",
    "server_side_encryption_configuration",
    "versioning",
    "versioning_configuration",
)
"""What a bucket itself may set: the Cloud Control provider's, and an older AWS provider's."""
NOT_READABLE_AT_ONCE = {"GLACIER", "DEEP_ARCHIVE"}


PRESUMED: Mapping[str, Mapping[str, Any]] = {
    "_versioning": {"versioning_configuration": [{"status": "Enabled"}]},
    "_public_access_block": dict.fromkeys(PUBLIC_ACCESS, True),
    "_ownership_controls": {"rule": [{"object_ownership": "BucketOwnerEnforced"}]},
}
"""How a part of the bucket is taken to be that Terraform does not manage yet."""


def find(inputs: Inputs) -> Iterator[Risk]:
    """Every change of a trail's bucket that loses files, or may."""
    for trail in present_trails(inputs.plan):
        for change in inputs.plan.changes:
            name = change.was("bucket") or change.will("bucket")
            if trail.bucket and name == trail.bucket and change.actions != ("no-op",):
                for reason in _weakened(inputs.plan, trail, change):
                    yield Risk("trail", change.address, None, reason, if_needed=False)


def _weakened(plan: TerraformPlan, trail: Trail, change: ResourceChange) -> Iterator[str]:
    bucket = f"the trail's bucket {trail.bucket}"
    if change.forgotten:
        yield f"a part of {bucket} {FORGOTTEN}"
    part = change.type.removeprefix("aws_s3_bucket")
    same = [c for c in plan.of(change.type) if c.was("bucket") == trail.bucket]
    if change.before is None and not same:  # nobody knows how it is now
        change = replace(change, before=PRESUMED.get(part))
    if part not in ("", "_policy") and change.was("bucket") == trail.bucket and _moves(change):
        change = replace(change, actions=("delete",), after=None, unknown={})
    match part:
        case "":
            yield from _bucket(plan, trail, change)
        case "_policy":
            yield from _policy(plan, trail, change)
        case "_server_side_encryption_configuration":
            yield from _encryption(plan, trail, change)
        case "_object_lock_configuration":
            yield from _object_lock(change, bucket)
        case "_lifecycle_configuration":
            yield from _lifecycle(change)
        case "_versioning":
            if _was_and_changes(change, "versioning_configuration", "status", "Enabled"):
                yield f"{bucket} no longer keeps the versions of its files"
            if _was_and_changes(change, "versioning_configuration", "mfa_delete", "Enabled"):
                yield f"{bucket} no longer asks for MFA when versions are deleted"
        case "_public_access_block":
            off = [n for n in PUBLIC_ACCESS if change.was(n) and not change.will(n)]
            if off:
                yield f"{bucket} no longer blocks public access ({', '.join(off)})"
        case "_ownership_controls":
            if _was_and_changes(change, "rule", "object_ownership", "BucketOwnerEnforced"):
                yield f"{bucket} accepts ACLs, which can open it"
        case "_acl":
            granted = change.will("access_control_policy") or change.is_unknown(
                "access_control_policy"
            )
            if granted or change.is_unknown("acl") or str(change.will("acl")) in PUBLIC_ACLS:
                yield f"the ACL of {bucket} opens it"
        case "_logging":
            if change.was("target_bucket") != change.will("target_bucket") and change.before:
                yield f"who reads or deletes files in {bucket} is no longer logged as before"
        case "_object" | "aws_s3_object" | "aws_s3_object_copy":
            yield f"a file of {bucket} is written or deleted by Terraform"


def _bucket(plan: TerraformPlan, trail: Trail, change: ResourceChange) -> Iterator[str]:
    if change.goes:
        yield f"the trail's bucket of {trail.bucket} is deleted"
    elif _moves(change):
        yield f"the trail's bucket of {trail.bucket} moves to another bucket"
    elif change.was("policy") != change.will("policy"):
        yield from _policy(plan, trail, change)
    for name in NESTED:
        if change.was(name) and (change.is_unknown(name) or change.will(name) != change.was(name)):
            yield f"{name} of the trail's bucket {trail.bucket} changes"


def _moves(change: ResourceChange) -> bool:
    """Whether it is about another bucket after the plan, or perhaps."""
    return change.is_unknown("bucket") or change.will("bucket") != change.was("bucket")


def _policy(plan: TerraformPlan, trail: Trail, change: ResourceChange) -> Iterator[str]:
    if change.before and not change.goes and change.will("bucket") != trail.bucket:
        yield f"the trail's bucket policy of {trail.bucket} moves to another bucket"
        return
    if change.type.endswith("_policy") and change.actions == ("delete",):
        yield f"the trail's bucket policy of {trail.bucket} is deleted"
        return
    before = parse_policy(change.was("policy")) if change.was("policy") else None
    after = plan.policy_after(change)
    reasons = lost(before, after, trail.bucket_needs())
    if plan.outputs:
        auditor = plan.outputs.roles[Role.AUDITOR]
        need = Need("the auditor can read it", Ask(auditor, "s3:GetObject", trail.file_arn()))
        open_before = None if before is None else (*EVERYTHING, *before)
        reasons += lost(open_before, None if after is None else (*EVERYTHING, *after), [need])
    if reasons:
        yield f"the trail's bucket policy no longer ensures that {' and '.join(reasons)}"
    if after:
        yield from _opened(plan, trail, before or (), after)


def _opened(
    plan: TerraformPlan, trail: Trail, before: Sequence[Statement], after: Sequence[Statement]
) -> Iterator[str]:
    """Who could change or delete files; reading counts only if anybody could."""
    account = trail.account or (plan.outputs.account_id if plan.outputs else None)
    for kind, name, who in strangers(account, after):
        if name == CLOUDTRAIL:
            continue
        actions = [*TAMPERING, *(["s3:GetObject"] if who == "anybody" else [])]
        found = [
            action
            for action in actions
            if newly_allowed(before, after, Ask(name, action, _resource(trail, action), kind=kind))
        ]
        if found:
            yield f"the trail's bucket policy allows {who} {', '.join(found)}"


def _resource(trail: Trail, action: str) -> str:
    file = trail.file_arn()
    return file.partition("/")[0] if action == "s3:PutBucketPolicy" else file


def _encryption(plan: TerraformPlan, trail: Trail, change: ResourceChange) -> Iterator[str]:
    if change.before is None:
        return
    default = "apply_server_side_encryption_by_default"
    was, will = _rule(change.before), _rule(change.after)
    if change.is_unknown("rule") or (was.get(default) or []) != (will.get(default) or []):
        yield "the default encryption of the trail's bucket changes"
    if will.get("bucket_key_enabled") and not was.get("bucket_key_enabled"):
        key = key_by_id(plan, trail.key)
        after = plan.policy_after(key) if key else None
        arn = key.was("arn") if key else "*"
        if reasons := lost(None, after, trail.key_needs(arn, bucket_key=True)):
            yield (
                "the trail's bucket takes an S3 Bucket Key, with which the key policy does not "
                f"ensure that {' and '.join(reasons)}"
            )


def _object_lock(change: ResourceChange, bucket: str) -> Iterator[str]:
    before, after = _retention(change.before), _retention(change.after)
    if change.is_unknown("rule") or after[0] < before[0]:
        yield f"{bucket} locks new files for {after[0]} days instead of {before[0]}"
    elif before[1] == "COMPLIANCE" and after[1] != "COMPLIANCE":
        yield f"{bucket} locks new files in mode {after[1]}, which can be lifted"


def _retention(values: Any) -> tuple[int, str]:
    """Days and mode of the default retention."""
    found = _first(_rule(values).get("default_retention"))
    days = int(found.get("days") or 0) or 365 * int(found.get("years") or 0)
    return days, str(found.get("mode") or "none")


def _lifecycle(change: ResourceChange) -> Iterator[str]:
    if change.goes and "create" not in change.actions:
        return  # the files stay for ever
    if change.is_unknown("rule"):
        yield "the files of the trail may expire earlier: the plan does not show the rules"
        return
    before, after = _rules(change.before), _rules(change.after)
    for name, days, what in (
        ("expiration", "days", "files"),
        ("noncurrent_version_expiration", "noncurrent_days", "old versions"),
    ):
        was, will = _least(before, name, days), _least(after, name, days)
        if will < was:
            instead = "never" if was == math.inf else f"after {was:.0f}"
            yield f"{what} of the trail expire after {will:.0f} days instead of {instead}"
    classes = _classes(after) - _classes(before)
    if classes & NOT_READABLE_AT_ONCE:
        yield f"files of the trail go to {', '.join(sorted(classes))}: nobody can read them at once"


def _rules(values: Any) -> list[Mapping[str, Any]]:
    return [rule for rule in (values or {}).get("rule") or [] if rule.get("status") == "Enabled"]


def _least(rules: Sequence[Mapping[str, Any]], name: str, days: str) -> float:
    """The earliest expiration; a date counts as today."""
    found = [
        0.0 if entry.get("date") else float(entry.get(days) or math.inf)
        for rule in rules
        for entry in rule.get(name) or []
    ]
    return min(found, default=math.inf)


def _classes(rules: Sequence[Mapping[str, Any]]) -> set[str]:
    return {str(t.get("storage_class")) for rule in rules for t in rule.get("transition") or []}


def _was_and_changes(change: ResourceChange, block: str, name: str, good: str) -> bool:
    """Whether a value of a block is the good one now, and not certainly after the plan."""
    was = _first(change.was(block)).get(name)
    will = _first(change.will(block)).get(name)
    return was == good and (change.is_unknown(block) or will != good)


def _rule(values: Any) -> Mapping[str, Any]:
    return _first((values or {}).get("rule"))


def _first(block: Any) -> Mapping[str, Any]:
    """A block of which there is at most one."""
    found: Mapping[str, Any] = block[0] if isinstance(block, list) and block else {}
    return found or {}
