"""Rights on KEKs that a role loses: to decrypt rows, to move them, to wrap new keys.

The policies before and after the plan are evaluated for the requests that the roles make.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from dekctl.config.roles import Role
from dekctl.guard.access import EVERYTHING, principals_of, readers_of, still_allowed
from dekctl.guard.iam import ANY, Ask, Statement, allows, parse_policy
from dekctl.guard.kms_keys import KEYS, active_keys, key_by_id, present_keys
from dekctl.guard.risk import Inputs, Risk, RiskKind, context_of_rows
from dekctl.guard.role_policies import policies_of, roles_with_policies
from dekctl.guard.terraform_plan import ResourceChange, TerraformPlan
from dekctl.kms.context import BRANCH, TABLE, V1, V2, V3

KINDS = (
    RiskKind(
        "decrypt",
        "takes Decrypt from the application, or does not show whether it does (see below)",
        "if rows need it; V1 rows also need the right without a context, V3 rows the one for "
        "branch keys",
        2,
    ),
    RiskKind(
        "verify",
        "takes Decrypt from the verifier, without which `verify`, `scrub` and `restore` fail",
        "as for `decrypt`",
    ),
    RiskKind(
        "rewrap", "takes ReEncryptFrom from the rewrapper: rows cannot leave it", "as for `decrypt`"
    ),
    RiskKind(
        "write",
        "takes GenerateDataKey from the application, Encrypt from the wrapper or ReEncryptTo from "
        "the rewrapper on the active KEK",
        "always",
    ),
)


@dataclass(frozen=True, slots=True)
class Right:
    """What a role must be able to do. ``role`` is its ARN, None for every reader."""

    kind: str
    role: str | None
    action: str

    @property
    def is_writing(self) -> bool:
        """Whether it is about new keys, which are V2 and need the active KEK alone."""
        return self.kind == "write"

    @property
    def what(self) -> str:
        """The action, for people."""
        return self.action.removeprefix("kms:")


_RIGHTS = (
    ("decrypt", Role.APP, "kms:Decrypt"),
    ("verify", Role.VERIFIER, "kms:Decrypt"),
    ("rewrap", Role.REWRAPPER, "kms:ReEncryptFrom"),
    ("write", Role.APP, "kms:GenerateDataKey"),
    ("write", Role.WRAPPER, "kms:Encrypt"),
    ("write", Role.REWRAPPER, "kms:ReEncryptTo"),
)


def find(inputs: Inputs) -> Iterator[Risk]:
    """Every KEK on which a role loses a right by a policy: of the key, of its role, or a boundary.

    Where no outputs name the app, every principal that may decrypt counts as it.
    """
    plan = inputs.plan
    rights = [Right("decrypt", None, "kms:Decrypt")]
    if plan.outputs:
        rights = [Right(kind, plan.outputs.roles[role], action) for kind, role, action in _RIGHTS]
    told: set[tuple[str, str | None, tuple[str, str]]] = set()
    for right in rights:
        for risk in _lost_by(right, plan, inputs.context_names):
            # What the application loses by the same change is enough to say.
            pairs = {(risk.address, risk.kek, pair) for pair in risk.scope or ()}
            if right.kind == "decrypt":
                told |= pairs
            elif pairs and pairs <= told:
                continue
            yield risk
    yield from _lost_to_aliases(plan)


def _lost_by(right: Right, plan: TerraformPlan, context_names: Sequence[str]) -> Iterator[Risk]:
    yield from _lost_in_key_policies(plan, right, context_names)
    yield from _lost_in_role_policies(plan, right, context_names)
    yield from _lost_to_boundaries(plan, right, context_names)


def _keys_of(right: Right, plan: TerraformPlan) -> list[str]:
    """ARNs of the keys on which the right is needed."""
    if right.is_writing:
        return [str(key.was("arn")) for key in active_keys(plan)]
    return [str(key.was("arn")) for key in present_keys(plan)]


def _lost_to_aliases(plan: TerraformPlan) -> Iterator[Risk]:
    """With a condition on the key's aliases, a moved alias may change who can decrypt."""
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
            key = key_by_id(plan, target)
            text = key.was("policy") if key else None
            statements = [*(parse_policy(text) if text else ()), *of_roles]
            if key and any(_asks_for_aliases(statement) for statement in statements):
                name = alias.was("name") or alias.will("name")
                reason = f"{name} moves, and a policy has a condition on the key's aliases"
                yield Risk(
                    "decrypt",
                    alias.address,
                    key.was("arn"),
                    f"{reason} (kms:ResourceAliases): who may still decrypt cannot be determined",
                )


def _asks_for_aliases(statement: Statement) -> bool:
    return any(variable.lower() == "kms:resourcealiases" for _, variable, _ in statement.conditions)


def _lost_in_key_policies(
    plan: TerraformPlan, right: Right, context_names: Sequence[str]
) -> Iterator[Risk]:
    needed = _keys_of(right, plan)
    for change in plan.of(*KEYS, "aws_kms_key_policy"):
        if change.is_unknown("key_id") and change.type == "aws_kms_key_policy":
            yield from _of_any_key(plan, change, right)
            continue
        key_id = change.was("key_id") or change.will("key_id")
        key = key_by_id(plan, key_id)
        arn = change.was("arn") or (key.was("arn") if key else None)
        # A policy resource that is new takes the place of the key's own policy.
        text = change.was("policy") or (key.was("policy") if key else None)
        if arn is None or arn not in needed or not text:
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
        readers = [right.role] if right.role else principals_of(before)
        for reader in readers:
            identity = policies_of(plan, reader.rpartition("/")[2]).after
            yield from _lost(
                right,
                change.address,
                reader,
                arn,
                before,
                None if after is None else partial(still_allowed, before, after, identity),
                context_names,
                "key policy",
            )


def _of_any_key(plan: TerraformPlan, change: ResourceChange, right: Right) -> Iterator[Risk]:
    """A policy of a key whose id nobody knows yet: that of a new key, or of any present one."""
    new = [c for c in plan.of(*KEYS) if "create" in c.actions and c.module == change.module]
    for arn in () if new else _keys_of(right, plan):
        what = f"may take {right.what}: this policy is of a key that the plan does not show"
        yield Risk(right.kind, change.address, arn, what, not right.is_writing)


def _lost_in_role_policies(
    plan: TerraformPlan, right: Right, context_names: Sequence[str]
) -> Iterator[Risk]:
    own = right.role.rpartition("/")[2] if right.role else None
    keys = _keys_of(right, plan)
    for role in roles_with_policies(plan):
        if own is not None and role != own:
            continue
        policies = policies_of(plan, role)
        for change in policies.unreadable:
            for arn in keys:
                yield Risk(
                    right.kind,
                    change.address,
                    arn,
                    f"the role {role} may lose {right.what}: a managed policy is attached or "
                    "detached, and its text is not in this plan",
                    if_needed=not right.is_writing,
                )
        if not policies.touched:
            continue
        before, after = tuple(policies.before), policies.after
        principal = right.role or f"arn:aws:iam::000000000000:role/{role}"
        for arn in keys:
            # First what the policies allowed, then what they newly deny: the key policy alone may
            # allow the app, and a denial in a policy of its role overrides that.
            for given in ((), EVERYTHING) if right.role and after is not None else ((),):
                dangers = list(
                    _lost(
                        right,
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
    plan: TerraformPlan, right: Right, context_names: Sequence[str]
) -> Iterator[Risk]:
    """A role may do no more than its permissions boundary allows, whatever its policies say."""
    readers = {right.role} if right.role else readers_of(plan)
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
        for arn in _keys_of(right, plan):
            yield from _lost(
                right,
                change.address,
                reader,
                arn,
                before,
                _as_before(before, after),
                context_names,
                "permissions boundary",
            )


Allowed = Callable[[Ask, Ask], bool]
"""Whether a request, as it is made now and as it is made after the plan, is still allowed."""


def _as_before(before: Sequence[Statement], after: Sequence[Statement] | None) -> Allowed | None:
    """What was undecidable before counts as before; None where the plan does not show it."""
    if after is None:
        return None
    return lambda _, then: allows(after, then, before.__contains__)


def _lost(
    right: Right,
    address: str,
    reader: str,
    arn: str,
    before: Sequence[Statement],
    still: Allowed | None,
    context_names: Sequence[str],
    where: str,
) -> Iterator[Risk]:
    """The rows, by context and version, for which a role could use a key before and not after."""
    scope: list[tuple[str, str]] = []
    for name in context_names:
        versions: list[tuple[str, tuple[tuple[str, str], ...]]] = [(V2, context_of_rows(name))]
        if not right.is_writing:
            versions += [(V3, ((TABLE, name), (BRANCH, ANY))), (V1, ())]
        for version, context in versions:
            ask = Ask(reader, right.action, arn, context)
            had = allows(before, ask, lambda _: True)
            if had and (still is None or not still(ask, ask)):
                scope.append((name, version))
    if scope:
        why = (
            f"{reader} may lose {right.what}: the plan does not show the {where}"
            if still is None
            else f"{reader} loses {right.what} in the {where}"
        )
        needed = None if right.is_writing else tuple(scope)
        yield Risk(right.kind, address, arn, why, not right.is_writing, needed)
