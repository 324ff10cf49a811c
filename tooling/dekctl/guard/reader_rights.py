"""Which rows the application could no longer decrypt after a Terraform plan.

The policies before and after are evaluated for the requests that readers make.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dekctl.guard.danger import KEYS, ROLE_POLICIES, Danger, context_of_rows
from dekctl.guard.iam import ANY, Ask, Statement, allows, parse_policy
from dekctl.guard.plan import Plan, ResourceChange
from dekctl.kms.context import BRANCH, TABLE, V1, V2, V3

EVERYTHING = parse_policy('{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}')
"""Stands for rights that are granted elsewhere."""


def decrypt_lost(plan: Plan, context_names: Sequence[str]) -> Iterator[Danger]:
    """Every KEK that the app loses its Decrypt on: in the key policy, in its role's, with its role.

    Where no outputs name the app, every principal that may decrypt counts as it.
    """
    app = plan.outputs.roles["app"] if plan.outputs else None
    yield from _lost_in_key_policies(plan, app, context_names)
    yield from _lost_in_role_policies(plan, app, context_names)
    yield from _lost_to_boundaries(plan, app, context_names)
    for change in plan.of("aws_iam_role"):
        if change.goes and (app is None or change.was("arn") == app):
            for arn in _known_keys(plan):
                yield Danger(
                    "role", change.address, arn, f"loses its reader: {change.was('arn')} is deleted"
                )


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
            yield from _lost(
                change.address, reader, arn, before, after, context_names, "key policy"
            )


def _lost_in_role_policies(
    plan: Plan, app: str | None, context_names: Sequence[str]
) -> Iterator[Danger]:
    """Policies of a role are looked at together: a statement may move from one to another."""
    app_role = app.rpartition("/")[2] if app else None
    attached = _attached(plan)
    inline = plan.of("aws_iam_role_policy")
    roles = {str(role) for c in inline for role in (c.was("role"), c.will("role")) if role}
    for role in sorted(roles | set(attached)):
        if app_role is not None and role != app_role:
            continue
        before: list[Statement] = []
        after: list[Statement] | None = []
        touched: list[ResourceChange] = []
        for change in plan.of(*ROLE_POLICIES):
            held, holds, cause = _holds(change, role, attached)
            if held and change.was("policy"):
                before += parse_policy(change.was("policy"))
            if holds and not change.goes and after is not None:
                planned = plan.policy_after(change)
                after = None if planned is None else after + list(planned)
            if held != holds or (held and change.actions != ("no-op",)):
                touched.append(cause)
        if not touched:
            continue
        principal = app or f"arn:aws:iam::000000000000:role/{role}"
        for arn in _known_keys(plan):
            # First what the policies allowed, then what they newly deny: the app may have its right
            # from the key policy alone, and a denial of its role wins over that.
            for given in ((), EVERYTHING) if app and after is not None else ((),):
                dangers = list(
                    _lost(
                        touched[0].address,
                        principal,
                        arn,
                        (*given, *before),
                        None if after is None else (*given, *after),
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
                change.address, reader, arn, before, after, context_names, "permissions boundary"
            )


def _principals_of_keys(plan: Plan) -> set[str]:
    texts = [change.was("policy") for change in plan.of(*KEYS) if change.was("policy")]
    return {principal for text in texts for principal in principals_of(parse_policy(text))}


Attachments = dict[str, dict[str | None, ResourceChange]]


def _attached(plan: Plan) -> Attachments:
    """The attachments of managed policies, by role and by the policy's ARN.

    None is the ARN of a policy that this very plan makes: it may be any of the new ones.
    """
    found: Attachments = {}
    for change in plan.of("aws_iam_role_policy_attachment"):
        role = change.was("role") or change.will("role")
        arn = change.was("policy_arn") or change.will("policy_arn")
        if role:
            found.setdefault(str(role), {})[arn] = change
    return found


def _holds(
    change: ResourceChange, role: str, attached: Attachments
) -> tuple[bool, bool, ResourceChange]:
    """Whether a policy is a role's now, and as planned, and the resource that says so."""
    if change.type == "aws_iam_policy":
        attachment = attached.get(role, {}).get(change.was("arn"))
        if attachment is None:
            return False, False, change
        stays = attachment.actions == ("no-op",)
        held = attachment.before is not None
        return held, not attachment.goes, change if stays else attachment
    return change.was("role") == role, change.will("role") == role, change


def _lost(
    address: str,
    reader: str,
    arn: str,
    before: tuple[Statement, ...],
    after: tuple[Statement, ...] | None,
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
            has = after is not None and allows(after, ask, before.__contains__)
            if had and not has:
                scope.append((name, version))
    if scope:
        why = (
            f"may lose {reader}'s Decrypt: the plan does not tell the {where}"
            if after is None
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
