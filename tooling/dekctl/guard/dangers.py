"""What in a Terraform plan could take a KEK, or the evidence of its use, away.

Pure: a plan in, dangers out. Whether rows need the KEK at hand is asked elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from dekctl.config.roles import Role
from dekctl.guard.danger import KEYS, ROLE_POLICIES, Danger, context_of_rows
from dekctl.guard.iam import Ask, allows, parse_policy
from dekctl.guard.plan import Plan, ResourceChange
from dekctl.guard.reader_rights import decrypt_lost, principals_of, still_allowed
from dekctl.guard.role_policies import policies_of
from dekctl.guard.trail import trail_dangers
from dekctl.kms.context import TABLE

WRITER_ACTIONS = {Role.APP: "kms:GenerateDataKey", Role.WRAPPER: "kms:Encrypt"}


def find_dangers(plan: Plan, context_names: Sequence[str]) -> list[Danger]:
    """Every danger of a plan, in the order of its resources.

    Args:
        plan: the plan.
        context_names: the configured tables' context names, in which the app decrypts.

    Raises:
        ValueError: a policy of the plan is none.
    """
    # Who cannot use a key that is disabled or gone any more need not be said again.
    gone = {change.was("arn") for change in plan.of(*KEYS) if change.goes or _goes_off(change)}
    return [
        *_keys(plan),
        *(danger for danger in decrypt_lost(plan, context_names) if danger.kek not in gone),
        *_aliases(plan, context_names),
        *trail_dangers(plan),
    ]


def contexts_in(plan: Plan) -> list[str]:
    """Context names for a first look without the configuration.

    Every one that a policy names, present or planned, and one that stands for all others. Raises
    ValueError where a policy of the plan is none.
    """
    found = {plan.outputs.context_name, *plan.outputs.context_names} if plan.outputs else set()
    for change in plan.of(*KEYS, *ROLE_POLICIES, "aws_kms_key_policy"):
        before = parse_policy(change.was("policy")) if change.was("policy") else ()
        for statement in (*before, *(plan.policy_after(change) or ())):
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
        if change.forgotten:
            what = "is forgotten by Terraform: it stays, and no plan will show what happens to it"
            yield Danger("forget", change.address, arn, what)
        if reason := _switched_off(change):
            yield Danger("disable", change.address, arn, reason)
        for kind, reason in _weakened(change):
            yield Danger(kind, change.address, arn, reason, if_needed=False)


def _switched_off(change: ResourceChange) -> str | None:
    """Why a key opens nothing once the plan is applied, or None. What is unknown counts."""
    if _goes_off(change):
        return "is disabled"
    if _enabled(change.before) and _may_be_disabled(change):
        return "may be disabled: the plan does not tell"
    # Imported material opens nothing once it has expired.
    was, will = change.was("valid_to"), change.will("valid_to")
    if change.is_unknown("valid_to"):
        return "may lose its key material: the plan does not tell when it expires"
    return f"loses its key material at {will}" if will and will != was else None


def _weakened(change: ResourceChange) -> Iterator[tuple[str, str]]:
    """What the plan takes from a key's safety, with the kind of the danger."""
    before, after = _window(change.before), _window(change.after)
    if change.is_unknown("deletion_window_in_days"):
        yield "window", f"may be deleted within less than {before} days: the plan does not tell"
    elif after < before:
        yield "window", f"can be deleted within {after} days instead of {before}"
    if change.was("enable_key_rotation"):
        if change.is_unknown("enable_key_rotation"):
            yield "rotation", "may no longer be rotated by KMS: the plan does not tell"
        elif change.will("enable_key_rotation") is False:
            yield "rotation", "is no longer rotated by KMS"


def _enabled(values: Any) -> bool:
    values = values or {}
    return values.get("is_enabled", values.get("enabled")) is not False


def _goes_off(change: ResourceChange) -> bool:
    return _enabled(change.before) and not _enabled(change.after)


def _may_be_disabled(change: ResourceChange) -> bool:
    return change.is_unknown("is_enabled") or change.is_unknown("enabled")


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
    if _may_be_disabled(target) or not _enabled(target.after):
        return "which is disabled, or may be"
    statements = plan.policy_after(target)
    if statements is None:
        return "whose policy the plan does not tell"
    before = parse_policy(old.was("policy")) if old and old.was("policy") else ()
    for role, action in WRITER_ACTIONS.items():
        writers = [plan.outputs.roles[role]] if plan.outputs else principals_of(before)
        for writer in writers:
            identity = policies_of(plan, writer.rpartition("/")[2]).after
            for name in context_names:
                now = Ask(writer, action, old.was("arn") if old else "*", context_of_rows(name))
                then = replace(now, key=target.was("arn") or "*")
                had = old is None or allows(before, now, lambda _: True)
                if had and not still_allowed(before, statements, identity, now, then):
                    return f"whose policy does not let {writer} {action.removeprefix('kms:')}"
    return None


def _key(plan: Plan, key_id: Any) -> ResourceChange | None:
    wanted = str(key_id).rpartition("/")[2]
    return next((c for c in plan.of(*KEYS) if c.was("key_id") == wanted), None)
