"""What in a Terraform plan could take a KEK, or the evidence of its use, away.

Pure: a plan in, dangers out. Whether rows need the KEK at hand is asked elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dekctl.guard.danger import KEYS, ROLE_POLICIES, Danger, context_of_rows
from dekctl.guard.iam import Ask, Statement, allows, parse_policy
from dekctl.guard.plan import Plan, ResourceChange
from dekctl.guard.reader_rights import decrypt_lost, principals_of
from dekctl.kms.context import TABLE

WRITER_ACTIONS = {"app": "kms:GenerateDataKey", "wrapper": "kms:Encrypt"}


def find_dangers(plan: Plan, context_names: Sequence[str]) -> list[Danger]:
    """Every danger of a plan, in the order of its resources.

    Args:
        plan: the plan.
        context_names: the configured tables' context names, in which the app decrypts.
    """
    keys = list(_keys(plan))
    # Who cannot use a key that is disabled or gone any more need not be said again.
    gone = {danger.kek for danger in keys if danger.kind in {"delete", "disable"}}
    return [
        *keys,
        *(danger for danger in decrypt_lost(plan, context_names) if danger.kek not in gone),
        *_aliases(plan, context_names),
        *_trails(plan),
    ]


def contexts_in(plan: Plan) -> list[str]:
    """Context names for a first look without the configuration.

    Every one that a present policy names, and one that stands for all others.
    """
    found = {plan.outputs.context_name, *plan.outputs.context_names} if plan.outputs else set()
    for change in plan.of(*KEYS, *ROLE_POLICIES, "aws_kms_key_policy"):
        for statement in parse_policy(change.was("policy")) if change.was("policy") else ():
            for _, variable, values in statement.conditions:
                if variable.lower() == f"kms:encryptioncontext:{TABLE}":
                    found |= set(values)
    return [*sorted(found), "\0another table"]


# -- keys ----------------------------------------------------------------------------------------


def _keys(plan: Plan) -> Iterator[Danger]:
    for change in plan.of(*KEYS):
        arn = change.was("arn")
        if arn is None:
            continue
        if change.goes:
            what = "is replaced by a new key" if "create" in change.actions else "is deleted"
            days = change.was("deletion_window_in_days") or 30
            yield Danger("delete", change.address, arn, f"{what} (final after {days} days)")
            continue
        if _enabled(change.before) and not _enabled(change.after):
            yield Danger("disable", change.address, arn, "is disabled")
        before, after = _window(change.before), _window(change.after)
        if after < before:
            yield Danger(
                "window",
                change.address,
                arn,
                f"can be deleted within {after} days instead of {before}",
                if_needed=False,
            )
        if change.was("enable_key_rotation") and change.will("enable_key_rotation") is False:
            yield Danger(
                "rotation", change.address, arn, "is no longer rotated by KMS", if_needed=False
            )


def _enabled(values: Any) -> bool:
    values = values or {}
    return values.get("is_enabled", values.get("enabled")) is not False


def _window(values: Any) -> int:
    return int((values or {}).get("deletion_window_in_days") or 30)  # 30 is KMS's own default


# -- aliases -------------------------------------------------------------------------------------


def _aliases(plan: Plan, context_names: Sequence[str]) -> Iterator[Danger]:
    for change in plan.of("aws_kms_alias"):
        before = change.was("target_key_id")
        old = _key(plan, before)
        if before is None or not _is_for_writers(plan, change, old, context_names):
            continue
        arn = old.was("arn") if old else change.was("target_key_arn")
        if change.goes:
            yield Danger(
                "alias", change.address, arn, f"loses {change.was('name')}, which writers use"
            )
        elif change.is_unknown("target_key_id") or change.will("target_key_id") != before:
            yield from _switch(plan, change, old, arn, context_names)


def _is_for_writers(
    plan: Plan,
    change: ResourceChange,
    old: ResourceChange | None,
    context_names: Sequence[str],
) -> bool:
    """Whether an alias is one that writers wrap under; the trail's own is not."""
    if plan.outputs is None or change.was("name") == plan.outputs.kek_alias:
        return True
    if old is None or not old.was("policy"):
        return False
    statements = parse_policy(old.was("policy"))
    return any(
        allows(
            statements,
            Ask(plan.outputs.roles[role], action, old.was("arn"), context_of_rows(name)),
            lambda _: True,
        )
        for role, action in WRITER_ACTIONS.items()
        for name in context_names
    )


def _switch(
    plan: Plan,
    change: ResourceChange,
    old: ResourceChange | None,
    arn: str | None,
    context_names: Sequence[str],
) -> Iterator[Danger]:
    """An alias moves to another key: may the writers use that one?"""
    if change.is_unknown("target_key_id"):
        # Only a key of this very plan has an id that nobody knows yet.
        targets = [
            key for key in plan.of(*KEYS) if "create" in key.actions and key.module == change.module
        ] or [key for key in plan.of(*KEYS) if "create" in key.actions]
    else:
        found = _key(plan, change.will("target_key_id"))
        targets = [found] if found else []
    name = change.was("name")
    if not targets:
        yield Danger(
            "alias",
            change.address,
            arn,
            f"hands {name} to a key that is not in this plan: nobody can say who may use it",
            if_needed=False,
        )
    for target in targets:
        reason = _unusable(plan, target, old, context_names)
        if reason:
            yield Danger(
                "alias",
                change.address,
                arn,
                f"hands {name} to {target.address}, {reason}",
                if_needed=False,
            )


def _unusable(
    plan: Plan, target: ResourceChange, old: ResourceChange | None, context_names: Sequence[str]
) -> str | None:
    """Why the writers cannot use a key as planned, or None."""
    if target.goes and "create" not in target.actions:
        return "which this plan deletes"
    if not _enabled(target.after):
        return "which is disabled"
    statements = plan.policy_after(target)
    if statements is None:
        return "whose policy the plan does not tell"
    before = parse_policy(old.was("policy")) if old and old.was("policy") else ()
    for role, action in WRITER_ACTIONS.items():
        writers = [plan.outputs.roles[role]] if plan.outputs else principals_of(before)
        for writer in writers:
            for name in context_names:
                context = context_of_rows(name)
                familiar: Callable[[Statement], bool] = before.__contains__
                had = old is None or allows(
                    before, Ask(writer, action, old.was("arn"), context), lambda _: True
                )
                arn = target.was("arn") or "*"
                if had and not allows(statements, Ask(writer, action, arn, context), familiar):
                    return f"whose policy does not let {writer} {action.removeprefix('kms:')}"
    return None


def _key(plan: Plan, key_id: Any) -> ResourceChange | None:
    wanted = str(key_id).rpartition("/")[2]
    return next((c for c in plan.of(*KEYS) if c.was("key_id") == wanted), None)


# -- the trail -----------------------------------------------------------------------------------


def _trails(plan: Plan) -> Iterator[Danger]:
    buckets = set()
    for change in plan.of("aws_cloudtrail"):
        if change.before is None:
            continue
        buckets.add(change.was("s3_bucket_name"))
        reason = _blinded(change)
        if reason:
            yield Danger(
                "trail", change.address, None, f"{change.was('name')} {reason}", if_needed=False
            )
    for change in plan.of("aws_s3_bucket"):
        if change.goes and change.was("bucket") in buckets:
            yield Danger(
                "trail",
                change.address,
                None,
                f"the trail's bucket {change.was('bucket')} is deleted",
                if_needed=False,
            )


def _blinded(change: ResourceChange) -> str | None:
    """What the plan takes from a trail, or None."""
    if change.goes:
        return "is replaced" if "create" in change.actions else "is deleted"
    if change.was("enable_logging") is not False and change.will("enable_logging") is False:
        return "stops logging"
    if _sees_kms(change.before) and not _sees_kms(change.after):
        return "no longer records every use of a KEK"
    return None


def _sees_kms(values: Any) -> bool:
    """Whether a trail records KMS's read and write events: Decrypt counts as read."""
    values = values or {}
    if values.get("advanced_event_selector"):
        return True  # cannot be judged here; a change of it shows in the plan
    selectors = values.get("event_selector") or [{}]
    return any(
        selector.get("include_management_events") is not False
        and selector.get("read_write_type") in (None, "", "All")
        and "kms.amazonaws.com" not in (selector.get("exclude_management_event_sources") or [])
        for selector in selectors
    )
