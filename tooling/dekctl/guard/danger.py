"""What a danger in a Terraform plan is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from dekctl.guard.iam import ANY
from dekctl.kms.context import PRIMARY_KEY, TABLE

KEYS = (
    "aws_kms_key",
    "aws_kms_replica_key",
    "aws_kms_external_key",
    "aws_kms_replica_external_key",
)
ROLE_POLICIES = ("aws_iam_role_policy", "aws_iam_policy")


@dataclass(frozen=True, slots=True)
class Danger:
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

        A worse plan has another one: an ``ALLOW=`` that stayed in a pipeline does not accept it.
        """
        scope = [",".join(pair) for pair in self.scope or ()]
        text = "\n".join((self.kind, self.address, self.kek or "", self.detail, *scope))
        return f"{self.kind}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def context_of_rows(name: str) -> tuple[tuple[str, str], ...]:
    """The encryption context of some row of a table."""
    return ((TABLE, name), (PRIMARY_KEY, ANY))
