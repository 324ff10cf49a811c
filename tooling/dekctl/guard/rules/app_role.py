"""What the plan does to the application's role itself, apart from the role's own policies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dekctl.guard.access import readers_of
from dekctl.guard.iam import Statement, parse_policy
from dekctl.guard.kms_keys import present_keys
from dekctl.guard.risk import Inputs, Risk, RiskKind
from dekctl.guard.terraform_plan import ResourceChange, TerraformPlan

KINDS = (RiskKind("role", "deletes the application's role", "if rows need the key"),)
EXCLUSIVE = ("aws_iam_role_policies_exclusive", "aws_iam_role_policy_attachments_exclusive")
"""Resources that take every policy from a role which they do not list."""


def find(inputs: Inputs) -> Iterator[Risk]:
    """Every change that could take a reader's role, or that role's rights."""
    for kind, address, reason in _changes(inputs.plan):
        for key in present_keys(inputs.plan):
            yield Risk(kind, address, key.was("arn"), reason)


def _changes(plan: TerraformPlan) -> Iterator[tuple[str, str, str]]:
    """Kind, address and reason."""
    readers = readers_of(plan)
    for change in plan.of("aws_iam_role"):
        arn = change.was("arn")
        if arn not in readers:
            continue
        if change.goes:
            yield "role", change.address, f"cannot be read: its reader {arn} is deleted"
            continue
        for name in ("inline_policy", "managed_policy_arns"):
            if change.is_unknown(name) or change.will(name) != change.was(name):
                reason = f"{arn} may lose Decrypt: the role's {name} changes"
                yield "decrypt", change.address, reason
        if not _keeps_its_trust(change):
            reason = f"{arn} may not be assumable any more: its trust policy changes"
            yield "decrypt", change.address, reason
    names = {reader.rpartition("/")[2] for reader in readers}
    for change in plan.of(*EXCLUSIVE):
        if change.goes or change.actions == ("no-op",):
            continue
        role = change.will("role_name")
        if role in names or change.is_unknown("role_name"):
            reason = f"the role {role} may lose Decrypt: policies not listed here are removed"
            yield "decrypt", change.address, reason


def _keeps_its_trust(change: ResourceChange) -> bool:
    """Whether whoever may assume a role may do so after the plan; more may be added."""
    if change.is_unknown("assume_role_policy"):
        return False
    before, after = (
        parse_policy(text) if text else ()
        for text in (change.was("assume_role_policy"), change.will("assume_role_policy"))
    )
    denied = [statement for statement in after if statement.effect == "Deny"]
    allowed = [statement for statement in before if statement.effect == "Allow"]
    return set(denied) <= set(before) and all(
        any(_includes(other, statement) for other in after) for statement in allowed
    )


def _includes(wide: Statement, narrow: Statement) -> bool:
    """Whether a statement is another one, perhaps with more principals."""
    same = replace(wide, principals=None) == replace(narrow, principals=None)
    return same and set(wide.principals or ()) >= set(narrow.principals or ())
