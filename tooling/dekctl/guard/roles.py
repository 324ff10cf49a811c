"""What a Terraform plan does to a reader's role itself, besides the policies of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from dekctl.guard.iam import Statement, parse_policy
from dekctl.guard.plan import Plan, ResourceChange

EXCLUSIVE = ("aws_iam_role_policies_exclusive", "aws_iam_role_policy_attachments_exclusive")
"""Resources that take every policy from a role which they do not list."""


def role_dangers(plan: Plan, readers: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """Kind, address and reason of every change that could take a reader its role or its rights."""
    for change in plan.of("aws_iam_role"):
        arn = change.was("arn")
        if arn not in readers:
            continue
        if change.goes:
            yield "role", change.address, f"loses its reader: {arn} is deleted"
            continue
        for name in ("inline_policy", "managed_policy_arns"):
            if change.is_unknown(name) or change.will(name) != change.was(name):
                reason = f"may lose {arn}'s Decrypt: {name} of the role changes"
                yield "decrypt", change.address, reason
        if not _keeps_its_trust(change):
            reason = f"may lose its reader: not everybody may assume {arn} as before"
            yield "decrypt", change.address, reason
    names = {reader.rpartition("/")[2] for reader in readers}
    for change in plan.of(*EXCLUSIVE):
        if change.goes or change.actions == ("no-op",):
            continue
        role = change.will("role_name")
        if role in names or change.is_unknown("role_name"):
            reason = f"may lose the Decrypt of the role {role}: policies that it does not list go"
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
