"""What a rule reports: one thing that a Terraform plan would do to a KEK or to its evidence."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from dekctl.guard.iam import ANY
from dekctl.guard.terraform_plan import TerraformPlan
from dekctl.kms.context import PRIMARY_KEY, TABLE


@dataclass(frozen=True, slots=True)
class RiskKind:
    """A kind of finding, as docs/guard.md lists it: what such a plan does, and when it counts.

    Findings are listed by ``rank``, the most urgent (0) first.
    """

    name: str
    plan: str
    counts: str
    rank: int = 2


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a rule may look at: the plan, and the context names of the configured tables."""

    plan: TerraformPlan
    context_names: Sequence[str]


@dataclass(frozen=True, slots=True)
class Risk:
    """One thing the plan would do.

    ``kek`` is the ARN concerned, None where it is no single one. With ``if_needed`` it counts only
    where rows need that KEK; ``scope`` narrows these rows to (context name, version) pairs.
    """

    kind: str
    address: str
    kek: str | None
    detail: str
    if_needed: bool = True
    scope: tuple[tuple[str, str], ...] | None = None

    @property
    def id(self) -> str:
        """A short name that stays the same as long as the plan does the same.

        A worse plan has another id, so an ``ALLOW=`` that stayed in a pipeline does not accept it.
        """
        scope = [",".join(pair) for pair in self.scope or ()]
        text = "\n".join((self.kind, self.address, self.kek or "", self.detail, *scope))
        return f"{self.kind}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def context_of_rows(name: str) -> tuple[tuple[str, str], ...]:
    """The encryption context of some row of a table."""
    return ((TABLE, name), (PRIMARY_KEY, ANY))
