"""Aliases that writers use and that a plan deletes or moves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from dekctl.config.roles import Role
from dekctl.guard.access import principals_of, still_allowed
from dekctl.guard.iam import Ask, allows, parse_policy
from dekctl.guard.kms_keys import KEYS, is_enabled, key_by_id, may_be_disabled
from dekctl.guard.risk import Inputs, Risk, RiskKind, context_of_rows
from dekctl.guard.role_policies import policies_of
from dekctl.guard.terraform_plan import ResourceChange, TerraformPlan

WRITER_ACTIONS = {Role.APP: "kms:GenerateDataKey", Role.WRAPPER: "kms:Encrypt"}
KINDS = (
    RiskKind(
        "alias",
        "deletes the alias, or moves it to a key that is disabled, unknown, or that the writers "
        "may not use",
        "the deletion if rows need the key, the move always",
    ),
)


def find(inputs: Inputs) -> Iterator[Risk]:
    """Every alias of the writers that the plan deletes or moves."""
    plan, context_names = inputs.plan, inputs.context_names
    for change in plan.of("aws_kms_alias"):
        before = change.was("target_key_id")
        old = key_by_id(plan, before)
        if before is None or not _is_for_writers(plan, change, old, context_names):
            continue
        arn = old.was("arn") if old else change.was("target_key_arn")
        if change.goes:
            yield Risk(
                "alias",
                change.address,
                arn,
                f"loses the alias {change.was('name')}, which writers use",
            )
        elif change.is_unknown("target_key_id") or change.will("target_key_id") != before:
            yield from _switch(plan, change, old, arn, context_names)


def _is_for_writers(
    plan: TerraformPlan,
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
    plan: TerraformPlan,
    change: ResourceChange,
    old: ResourceChange | None,
    arn: str | None,
    context_names: Sequence[str],
) -> Iterator[Risk]:
    """An alias moves to another key: may the writers use that one?"""
    if change.is_unknown("target_key_id"):
        # Only a key of this very plan has an id that nobody knows yet.
        targets = [
            key for key in plan.of(*KEYS) if "create" in key.actions and key.module == change.module
        ] or [key for key in plan.of(*KEYS) if "create" in key.actions]
    else:
        found = key_by_id(plan, change.will("target_key_id"))
        targets = [found] if found else []
    name = change.was("name")
    if not targets:
        yield Risk(
            "alias",
            change.address,
            arn,
            f"the alias {name} moves to a key that is not in this plan: its policy is unknown",
            if_needed=False,
        )
    for target in targets:
        reason = _unusable(plan, target, old, context_names)
        if reason:
            yield Risk(
                "alias",
                change.address,
                arn,
                f"the alias {name} moves to {target.address}, {reason}",
                if_needed=False,
            )


def _unusable(
    plan: TerraformPlan,
    target: ResourceChange,
    old: ResourceChange | None,
    context_names: Sequence[str],
) -> str | None:
    """Why the writers cannot use a key as planned, or None."""
    if target.goes and "create" not in target.actions:
        return "which this plan deletes"
    if may_be_disabled(target) or not is_enabled(target.after):
        return "which is or may be disabled"
    statements = plan.policy_after(target)
    if statements is None:
        return "whose policy the plan does not show"
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
                    return f"whose policy does not allow {writer} {action.removeprefix('kms:')}"
    return None
