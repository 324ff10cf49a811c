"""Tags that the condition of a policy asks for, and that the plan changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dekctl.guard.access import readers_of
from dekctl.guard.iam import Statement, parse_policy
from dekctl.guard.kms_keys import present_keys
from dekctl.guard.risk import Inputs, Risk, RiskKind
from dekctl.guard.role_policies import policies_of, roles_with_policies
from dekctl.guard.terraform_plan import ResourceChange

KINDS: Sequence[RiskKind] = ()  # it reports risks of the kind `decrypt`
OF_KEY, OF_ROLE = "aws:resourcetag/", "aws:principaltag/"


def find(inputs: Inputs) -> Iterator[Risk]:
    """Every key that a reader may lose by a changed tag, of the key or of the reader's role."""
    plan = inputs.plan
    of_roles = [s for role in roles_with_policies(plan) for s in policies_of(plan, role).before]
    readers = readers_of(plan)
    roles = [change for change in plan.of("aws_iam_role") if change.was("arn") in readers]
    for key in present_keys(plan):
        statements = [*parse_policy(key.was("policy") or "{}"), *of_roles]
        for change, prefix in ((key, OF_KEY), *((role, OF_ROLE) for role in roles)):
            for tag in sorted(_changed(change) & _asked_for(statements, prefix)):
                reason = f"the tag {tag} changes, and the condition of a policy asks for it"
                yield Risk("decrypt", change.address, key.was("arn"), reason)


def _asked_for(statements: Sequence[Statement], prefix: str) -> set[str]:
    """Names of the tags that conditions ask for, in lower case: IAM ignores the case."""
    return {
        variable.lower().removeprefix(prefix)
        for statement in statements
        for _, variable, _ in statement.conditions
        if variable.lower().startswith(prefix)
    }


def _changed(change: ResourceChange) -> set[str]:
    """Names of the tags that the plan changes, in lower case."""
    if change.goes:
        return set()
    before = change.was("tags_all") or change.was("tags") or {}
    after = change.will("tags_all") or change.will("tags") or {}
    if change.is_unknown("tags_all") or change.is_unknown("tags"):
        after = {}
    return {n.lower() for n in {*before, *after} if before.get(n) != after.get(n)}
