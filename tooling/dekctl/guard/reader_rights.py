"""Which rows the application could no longer decrypt after a Terraform plan.

The policies before and after are evaluated for the requests that readers make.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from dekctl.config.roles import Role
from dekctl.guard.danger import KEYS, Danger, context_of_rows
from dekctl.guard.iam import ANY, Ask, Statement, allows, parse_policy
from dekctl.guard.plan import Plan
from dekctl.guard.role_policies import policies_of, roles_with_policies
from dekctl.guard.roles import role_dangers
from dekctl.kms.context import BRANCH, TABLE, V1, V2, V3

EVERYTHING = parse_policy('{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}')
"""Stands for rights that are granted elsewhere."""


def decrypt_lost(plan: Plan, context_names: Sequence[str]) -> Iterator[Danger]:
    """Every KEK that the app loses its Decrypt on: in the key policy, in its role's, with its role.

    Where no outputs name the app, every principal that may decrypt counts as it.
    """
    app = plan.outputs.roles[Role.APP] if plan.outputs else None
    yield from _lost_in_key_policies(plan, app, context_names)
    yield from _lost_in_role_policies(plan, app, context_names)
    yield from _lost_to_boundaries(plan, app, context_names)
    readers = {app} if app else _principals_of_keys(plan)
    for kind, address, reason in role_dangers(plan, readers):
        for arn in _known_keys(plan):
            yield Danger(kind, address, arn, reason)
    yield from _lost_to_aliases(plan)


def still_allowed(
    before: Sequence[Statement],
    after: Sequence[Statement],
    identity: Sequence[Statement] | None,
    now: Ask,
    then: Ask,
) -> bool:
    """Whether a key policy lets a principal in that it let in before.

    Args:
        before: the key policy that let it in, for the request ``now``.
        after: the key policy as planned, for the request ``then``.
        identity: the principal's own policies as planned; None where nobody can say.
        now: the request as it is made.
        then: the same request after the plan; of another key, where an alias moves.
    """
    familiar = before.__contains__
    if allows(after, replace(then, by_account=False), familiar):
        return True
    if not allows(after, then, familiar):
        return False
    # What is left allows the account, which leaves the decision to the principal's own policies.
    # Those decided before, and are looked at for themselves; or they have to be there now.
    named = not before or allows(before, replace(now, by_account=False), lambda _: True)
    return not named or (identity is not None and allows(identity, then, lambda _: False))


def _lost_to_aliases(plan: Plan) -> Iterator[Danger]:
    """A condition on the key's aliases lets nobody say what an alias that moves takes along."""
    keys = {change.was("key_id"): change for change in plan.of(*KEYS) if change.was("arn")}
    of_roles = [
        statement
        for role in roles_with_policies(plan)
        for statement in policies_of(plan, role).before
    ]
    for alias in plan.of("aws_kms_alias"):
        old, new = alias.was("target_key_id"), alias.will("target_key_id")
        if not alias.goes and not alias.is_unknown("target_key_id") and old == new:
            continue
        for target in (old, new):
            key = keys.get(str(target).rpartition("/")[2])
            text = key.was("policy") if key else None
            statements = [*(parse_policy(text) if text else ()), *of_roles]
            if key and any(_asks_for_aliases(statement) for statement in statements):
                name = alias.was("name") or alias.will("name")
                reason = f"{name} moves, and a policy has a condition on the key's aliases"
                yield Danger(
                    "decrypt",
                    alias.address,
                    key.was("arn"),
                    f"{reason} (kms:ResourceAliases): nobody can say who may still decrypt",
                )


def _asks_for_aliases(statement: Statement) -> bool:
    return any(variable.lower() == "kms:resourcealiases" for _, variable, _ in statement.conditions)


def _known_keys(plan: Plan) -> list[str]:
    return [change.was("arn") for change in plan.of(*KEYS) if change.was("arn")]


def _lost_in_key_policies(
    plan: Plan, app: str | None, context_names: Sequence[str]
) -> Iterator[Danger]:
    keys = {change.was("key_id"): change for change in plan.of(*KEYS) if change.was("arn")}
    for change in plan.of(*KEYS, "aws_kms_key_policy"):
        key_id = change.was("key_id") or change.will("key_id")
        key = keys.get(str(key_id).rpartition("/")[2])
        arn = change.was("arn") or (key.was("arn") if key else None)
        # A policy resource that is new takes the place of the key's own policy.
        text = change.was("policy") or (key.was("policy") if key else None)
        if arn is None or not text:
            continue
        if change.goes:
            # The key's own deletion is a danger already; a policy resource that goes leaves KMS's
            # default policy behind, which knows no role.
            if change.type != "aws_kms_key_policy":
                continue
        elif text == change.will("policy"):
            continue
        before = parse_policy(text)
        after = () if change.goes else plan.policy_after(change)
        readers = [app] if app else principals_of(before)
        for reader in readers:
            identity = policies_of(plan, reader.rpartition("/")[2]).after
            yield from _lost(
                change.address,
                reader,
                arn,
                before,
                None if after is None else partial(still_allowed, before, after, identity),
                context_names,
                "key policy",
            )


def _lost_in_role_policies(
    plan: Plan, app: str | None, context_names: Sequence[str]
) -> Iterator[Danger]:
    app_role = app.rpartition("/")[2] if app else None
    for role in roles_with_policies(plan):
        if app_role is not None and role != app_role:
            continue
        policies = policies_of(plan, role)
        for change in policies.unreadable:
            for arn in _known_keys(plan):
                yield Danger(
                    "decrypt",
                    change.address,
                    arn,
                    f"may lose the Decrypt of the role {role}: it changes the role's managed "
                    "policies by one that is not in this plan, so nobody can say",
                )
        if not policies.touched:
            continue
        before, after = tuple(policies.before), policies.after
        principal = app or f"arn:aws:iam::000000000000:role/{role}"
        for arn in _known_keys(plan):
            # First what the policies allowed, then what they newly deny: the app may have its right
            # from the key policy alone, and a denial of its role wins over that.
            for given in ((), EVERYTHING) if app and after is not None else ((),):
                dangers = list(
                    _lost(
                        policies.touched[0].address,
                        principal,
                        arn,
                        (*given, *before),
                        _as_before((*given, *before), None if after is None else (*given, *after)),
                        context_names,
                        f"policy of the role {role}",
                    )
                )
                yield from dangers
                if dangers:
                    break


def _lost_to_boundaries(
    plan: Plan, app: str | None, context_names: Sequence[str]
) -> Iterator[Danger]:
    """A role may do no more than its permissions boundary allows, whatever its policies say."""
    readers = {app} if app else _principals_of_keys(plan)
    policies = {c.was("arn"): c for c in plan.of("aws_iam_policy") if c.was("arn")}
    for change in plan.of("aws_iam_role"):
        reader = change.was("arn")
        old, new = change.was("permissions_boundary"), change.will("permissions_boundary")
        unknown = change.is_unknown("permissions_boundary")
        if reader not in readers or change.goes or not (new or unknown):
            continue
        if new == old and new not in policies:  # nothing about it changes here
            continue
        before = parse_policy(policies[old].was("policy")) if old in policies else EVERYTHING
        after = plan.policy_after(policies[new]) if new in policies else None
        for arn in _known_keys(plan):
            yield from _lost(
                change.address,
                reader,
                arn,
                before,
                _as_before(before, after),
                context_names,
                "permissions boundary",
            )


def _principals_of_keys(plan: Plan) -> set[str]:
    texts = [change.was("policy") for change in plan.of(*KEYS) if change.was("policy")]
    return {principal for text in texts for principal in principals_of(parse_policy(text))}


Allowed = Callable[[Ask, Ask], bool]
"""Whether a request, as it is made now and as it is made after the plan, is still allowed."""


def _as_before(before: Sequence[Statement], after: Sequence[Statement] | None) -> Allowed | None:
    """What was doubtful before counts as it did; None where the plan does not tell."""
    if after is None:
        return None
    return lambda _, then: allows(after, then, before.__contains__)


def _lost(
    address: str,
    reader: str,
    arn: str,
    before: Sequence[Statement],
    still: Allowed | None,
    context_names: Sequence[str],
    where: str,
) -> Iterator[Danger]:
    """The rows, by context and version, that a reader could decrypt before and not after."""
    scope: list[tuple[str, str]] = []
    for name in context_names:
        for version, context in (
            (V2, context_of_rows(name)),
            (V3, ((TABLE, name), (BRANCH, ANY))),
            (V1, ()),
        ):
            ask = Ask(reader, "kms:Decrypt", arn, context)
            had = allows(before, ask, lambda _: True)
            if had and (still is None or not still(ask, ask)):
                scope.append((name, version))
    if scope:
        why = (
            f"may lose {reader}'s Decrypt: the plan does not tell the {where}"
            if still is None
            else f"loses {reader}'s Decrypt in the {where}"
        )
        yield Danger("decrypt", address, arn, why, scope=tuple(scope))


def principals_of(statements: Sequence[Statement]) -> list[str]:
    """The principals that a key policy allows to decrypt, where no outputs name the app."""
    return sorted(
        {
            principal
            for statement in statements
            if statement.effect == "Allow"
            for principal in statement.principals or ()
            if principal.startswith("arn:")
        }
    )
