"""Whether a principal keeps a right on a key, by the key policy and its own policies together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dekctl.config.roles import Role
from dekctl.guard.iam import AWS, Ask, Statement, allows, parse_policy
from dekctl.guard.kms_keys import present_keys
from dekctl.guard.terraform_plan import TerraformPlan

EVERYTHING = parse_policy('{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}')
"""Stands for rights that are granted elsewhere."""


def still_allowed(
    before: Sequence[Statement],
    after: Sequence[Statement],
    identity: Sequence[Statement] | None,
    now: Ask,
    then: Ask,
) -> bool:
    """Whether a key policy allows a principal what it allowed before.

    Args:
        before: the present key policy, which allows the request ``now``.
        after: the key policy as planned, for the request ``then``.
        identity: the principal's own policies as planned; None where the plan does not tell them.
        now: the request as it is made today.
        then: the same request after the plan; on another key where an alias moves.
    """
    familiar = before.__contains__
    if allows(after, replace(then, by_account=False), familiar):
        return True
    if not allows(after, then, familiar):
        return False
    # The account is still allowed, which leaves the decision to the principal's own policies.
    # If they decided before, another rule looks at them; otherwise they must allow it now.
    named = not before or allows(before, replace(now, by_account=False), lambda _: True)
    return not named or (identity is not None and allows(identity, then, lambda _: False))


def principals_of(statements: Sequence[Statement]) -> list[str]:
    """The principals that a key policy allows something, for plans whose outputs name no app."""
    return sorted(
        {
            principal.name
            for statement in statements
            if statement.effect == "Allow"
            for principal in statement.principals or ()
            if principal.kind == AWS and principal.name.startswith("arn:")
        }
    )


def readers_of(plan: TerraformPlan) -> set[str]:
    """The app's role; where no outputs name it, every principal that a key policy allows."""
    if plan.outputs:
        return {plan.outputs.roles[Role.APP]}
    texts = [change.was("policy") for change in present_keys(plan) if change.was("policy")]
    return {principal for text in texts for principal in principals_of(parse_policy(text))}
