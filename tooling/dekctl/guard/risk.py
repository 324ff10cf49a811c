"""What a rule reports: one thing that a Terraform plan would do to a KEK or to its evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dekctl.config.outputs import Outputs
from dekctl.guard.iam import ANY
from dekctl.guard.terraform_plan import TerraformPlan
from dekctl.kms.context import PRIMARY_KEY, TABLE

FORGOTTEN = "leaves Terraform's control: later plans will not show it"
"""What a plan does to a resource that it forgets (``removed``, ``destroy = false``)."""


@dataclass(frozen=True, slots=True)
class RiskKind:
    """A kind of finding, as docs/guard.md lists it: what such a plan does, and when it counts.

    Findings are listed by ``rank``, the most urgent (0) first.
    """

    name: str
    plan: str
    counts: str
    rank: int = 3


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a rule may look at.

    ``context_names`` are those of the configured tables, ``stored_keks`` the names of KEKs in rows
    and branch keys (empty until they are read), ``configured_keks`` the KEKs that dekctl.toml
    names, which need not be in Terraform, ``outputs`` the environment's Terraform outputs.
    """

    plan: TerraformPlan
    context_names: Sequence[str]
    stored_keks: Sequence[str] = ()
    configured_keks: Sequence[str] = ()
    outputs: Outputs | None = None


@dataclass(frozen=True, slots=True)
class Risk:
    """One thing the plan would do.

    ``kek`` is the ARN concerned, None where it is no single one. With ``if_needed`` it counts only
    where rows need that KEK; ``scope`` narrows these rows to (context name, version) pairs.
    ``hint`` is the next command if it is not the same for every finding.
    """

    kind: str
    address: str
    kek: str | None
    detail: str
    if_needed: bool = True
    scope: tuple[tuple[str, str], ...] | None = None
    hint: str | None = None


def context_of_rows(name: str) -> tuple[tuple[str, str], ...]:
    """The encryption context of some row of a table."""
    return ((TABLE, name), (PRIMARY_KEY, ANY))
