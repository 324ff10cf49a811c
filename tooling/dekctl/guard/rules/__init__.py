"""The rules of `dekctl guard`: each module here looks for some kinds of risk in a plan.

A module has ``KINDS`` (the kinds it reports, as docs/guard.md lists them) and ``find(inputs)``.
Being in this folder is enough: nothing else lists the rules.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Protocol

from dekctl.guard.iam import parse_policy
from dekctl.guard.kms_keys import KEYS, is_switched_off, present_keys
from dekctl.guard.risk import Inputs, Risk, RiskKind
from dekctl.guard.role_policies import ROLE_POLICIES
from dekctl.guard.terraform_plan import TerraformPlan
from dekctl.kms.context import TABLE


class Rule(Protocol):
    """What a module in this folder offers."""

    KINDS: Sequence[RiskKind]

    def find(self, inputs: Inputs) -> Iterable[Risk]:
        """Every risk of these kinds in a plan, in the order of its resources.

        Raises:
            ValueError: a policy of the plan is malformed.
        """
        ...


@cache
def rules() -> tuple[Rule, ...]:
    """Every rule, in the order of the modules' names."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return tuple(importlib.import_module(f"{__name__}.{name}") for name in names)


def kinds() -> list[RiskKind]:
    """Every kind of finding."""
    return [kind for rule in rules() for kind in rule.KINDS]


def find_risks(inputs: Inputs) -> list[Risk]:
    """Every risk of a plan, the most urgent kinds first.

    Raises:
        ValueError: a policy of the plan is malformed.
    """
    # Skip lost-access findings for a key that is already reported as disabled or deleted.
    gone = {
        change.was("arn")
        for change in present_keys(inputs.plan)
        if change.goes or is_switched_off(change)
    }
    ranks = {kind.name: kind.rank for kind in kinds()}
    found = [
        risk
        for rule in rules()
        for risk in rule.find(inputs)
        if risk.kind not in ("decrypt", "role") or risk.kek not in gone
    ]
    return sorted(found, key=lambda risk: ranks[risk.kind])


def contexts_in(plan: TerraformPlan) -> list[str]:
    """Context names for a first look without the configuration.

    Every name in a present or planned policy, and one that stands for all others.

    Raises:
        ValueError: a policy of the plan is malformed.
    """
    found = {plan.outputs.context_name, *plan.outputs.context_names} if plan.outputs else set()
    for change in plan.of(*KEYS, *ROLE_POLICIES, "aws_kms_key_policy"):
        before = parse_policy(change.was("policy")) if change.was("policy") else ()
        for statement in (*before, *(plan.policy_after(change) or ())):
            for _, variable, values in statement.conditions:
                if variable.lower() == f"kms:encryptioncontext:{TABLE}":
                    found |= set(values)
    return [*sorted(found), "\0another table"]
