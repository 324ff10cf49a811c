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

from dekctl.guard.kms_keys import is_switched_off, present_keys
from dekctl.guard.risk import Inputs, Risk, RiskKind

LOST_ACCESS = ("decrypt", "verify", "rewrap", "write", "role")
"""Kinds that need not be said of a key which is reported as disabled or deleted."""


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
        if risk.kind not in LOST_ACCESS or risk.kek not in gone
    ]
    return sorted(found, key=lambda risk: ranks[risk.kind])
