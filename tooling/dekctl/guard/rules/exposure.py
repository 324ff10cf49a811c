"""KEKs that the plan opens to somebody who has no business with them: by policy, grant or role."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dekctl.config.roles import Role
from dekctl.guard.iam import ANY, AWS, Ask, Statement, allows, parse_policy, trust_statements
from dekctl.guard.identity_policies import identity_policies
from dekctl.guard.kms_keys import KEYS, is_kek, key_by_id, present_keys
from dekctl.guard.needs import ELSEWHERE, newly_allowed, strangers
from dekctl.guard.risk import Inputs, Risk, RiskKind, context_of_rows
from dekctl.guard.terraform_plan import ResourceChange, TerraformPlan
from dekctl.kek_id import is_same_kek
from dekctl.kms.context import BRANCH, TABLE

KINDS = (
    RiskKind(
        "exposure",
        "lets somebody else decrypt, re-encrypt, delete or take over a KEK: by its policy, by a "
        "grant, by a role's policy or by a role that anybody may assume",
        "always",
    ),
)
TASKS: dict[Role, frozenset[str]] = {
    Role.APP: frozenset({"Decrypt"}),
    Role.VERIFIER: frozenset({"Decrypt"}),
    Role.REWRAPPER: frozenset({"ReEncryptFrom"}),
    Role.KEY_ADMIN: frozenset({"DisableKey", "ScheduleKeyDeletion"}),
}
"""What each role may have of the actions below."""
USES = ("Decrypt", "ReEncryptFrom")
CONTROLS = (
    "CreateGrant",
    "PutKeyPolicy",
    "ReplicateKey",  # whoever makes a replica writes its policy
    "ScheduleKeyDeletion",
    "DisableKey",
    "DeleteImportedKeyMaterial",
)
OPENING = {"Decrypt", "ReEncryptFrom", "CreateGrant"}
"""Operations of a grant that hand the key material's use to its grantee."""
UNSURE = ("kms:ViaService", "aws:ViaAWSService", "kms:GrantIsForAWSResource")
"""Condition keys that an application's request never carries, but a stranger's may."""


def find(inputs: Inputs) -> Iterator[Risk]:
    """Everybody whom the plan lets in."""
    plan = inputs.plan
    yield from _by_key_policy(inputs)
    for key in present_keys(plan):
        if _matters(plan, key.was("arn")):
            yield from _by_role_policy(inputs, key)
    yield from _by_grant(plan)
    yield from _by_trust(plan)


def _risk(change: ResourceChange, kek: str | None, detail: str) -> Risk:
    return Risk("exposure", change.address, kek, detail, if_needed=False)


def _by_key_policy(inputs: Inputs) -> Iterator[Risk]:
    plan = inputs.plan
    keks = [key for key in present_keys(plan) if _matters(plan, key.was("arn"))]
    today = [s for key in keks for s in parse_policy(key.was("policy") or "{}")]
    for change in _becoming_keks(plan, keks):
        if after := plan.policy_after(change):
            yield from _opened(inputs, change, change.was("arn"), today, after)
    for change in plan.of(*KEYS, "aws_kms_key_policy"):
        key = key_by_id(plan, change.was("key_id") or change.will("key_id"))
        # A new replica opens the same key material, and is compared with its primary key.
        key = key or key_by_id(plan, change.will("primary_key_arn"))
        arn = key.was("arn") if key else None
        text = change.was("policy") or (key.was("policy") if key else None)
        after = plan.policy_after(change)
        if change.goes or after is None or change.actions == ("no-op",):
            continue
        if arn is None:
            # A new key: everybody else is compared with nothing, so only everybody counts.
            yield from _opened(inputs, change, None, (), after, only=("anybody",))
        elif _matters(plan, arn) and text != change.will("policy"):
            before = parse_policy(text) if text else ()
            yield from _opened(inputs, change, arn, before, after)


def _becoming_keks(plan: TerraformPlan, keks: Sequence[ResourceChange]) -> Iterator[ResourceChange]:
    """Keys that the plan makes KEKs: a new generation, or another key that takes the alias."""
    blocks = {(kek.module, kek.type, kek.name) for kek in keks}
    for change in plan.of(*KEYS):
        if change.before is None and (change.module, change.type, change.name) in blocks:
            yield change
    for alias in plan.of("aws_kms_alias"):
        target = key_by_id(plan, alias.will("target_key_id"))
        if target and target not in keks and key_by_id(plan, alias.was("target_key_id")) in keks:
            yield target


def _opened(
    inputs: Inputs,
    change: ResourceChange,
    arn: str | None,
    before: Sequence[Statement],
    after: Sequence[Statement],
    only: Sequence[str] = (),
) -> Iterator[Risk]:
    outputs = inputs.plan.outputs
    account = outputs.account_id if outputs else (arn.split(":")[4] if arn else None)
    told: set[str] = set()
    for kind, name, who in strangers(account, after):
        if only and who not in only:
            continue
        allowed = _task_of(inputs.plan, name) if kind == AWS else frozenset()
        found = [
            action
            for action in (*USES, *CONTROLS)
            if action not in allowed
            and action not in told
            and any(
                newly_allowed(before, after, ask)
                for ask in _asks(inputs, kind, name, action, arn or "*")
            )
        ]
        if who == "anybody":
            told |= set(found)
        if found:
            yield _risk(change, arn, f"the key policy allows {who} {', '.join(found)}")


def _asks(inputs: Inputs, kind: str, name: str, action: str, arn: str) -> Iterator[Ask]:
    contexts: list[tuple[tuple[str, str], ...]] = [()]
    if action in USES:
        for table in inputs.context_names:
            contexts += [context_of_rows(table), ((TABLE, table), (BRANCH, ANY))]
    for context in contexts:
        yield Ask(name, f"kms:{action}", arn, context, kind=kind, unsure=UNSURE)


def _task_of(plan: TerraformPlan, arn: str | None) -> frozenset[str]:
    """What the role of this ARN may have."""
    for role, role_arn in (plan.outputs.roles if plan.outputs else {}).items():
        if role_arn == arn:
            return TASKS.get(Role(role), frozenset())
    return frozenset()


def _matters(plan: TerraformPlan, arn: str) -> bool:
    """Whether a key is a KEK; without outputs, every key that no trail uses may be one."""
    if plan.outputs is None:
        return is_kek(plan, arn)
    return any(is_same_kek(generation.arn, arn) for generation in plan.outputs.all_generations)


def _by_role_policy(inputs: Inputs, key: ResourceChange) -> Iterator[Risk]:
    """Where the key policy leaves the decision to the account, a role's policy opens the key."""
    plan, arn = inputs.plan, key.was("arn")
    policy = plan.policy_after(key)
    account = arn.split(":")[4]
    if policy is None or account == ELSEWHERE:
        return
    for change, who, before, after in identity_policies(plan):
        name = f"arn:aws:iam::{account}:{who}"
        found = [
            action
            for action in (*USES, *CONTROLS)
            if action not in _task_of(plan, name)
            and any(
                allows(policy, ask, lambda _: True) and newly_allowed(before, after, ask)
                for ask in _asks(inputs, AWS, name, action, arn)
            )
        ]
        if found:
            yield _risk(change, arn, f"a policy of the {who} allows {', '.join(found)} on it")


def _by_grant(plan: TerraformPlan) -> Iterator[Risk]:
    for change in plan.of("aws_kms_grant"):
        key = key_by_id(plan, change.was("key_id") or change.will("key_id"))
        arn = key.was("arn") if key else None
        if arn is not None and not _matters(plan, arn):
            continue
        changed = change.goes or change.will("operations") != change.was("operations")
        who = change.was("grantee_principal")
        if change.before is not None and changed and _task_of(plan, who):
            detail = f"a grant is revoked or changed, by which {who} may use it"
            yield Risk("decrypt", change.address, arn, detail)
        if change.goes or change.actions == ("no-op",):
            continue
        grantee = change.will("grantee_principal")
        granted = set(change.will("operations") or ())
        if change.is_unknown("operations"):
            granted = OPENING
        if operations := granted & OPENING - _task_of(plan, grantee):
            who = grantee or "somebody whom the plan does not show"
            yield _risk(change, arn, f"a grant allows {who} {', '.join(sorted(operations))}")


def _by_trust(plan: TerraformPlan) -> Iterator[Risk]:
    """A role that decrypts and that anybody may assume."""
    roles = plan.outputs.roles if plan.outputs else {}
    mine = {arn for role, arn in roles.items() if TASKS.get(Role(role))}
    for change in plan.of("aws_iam_role"):
        text = change.will("assume_role_policy")
        if change.was("arn") not in mine or not text or text == change.was("assume_role_policy"):
            continue
        before = trust_statements(change.was("assume_role_policy"))
        after = trust_statements(text)
        for action in ("sts:AssumeRole", "sts:AssumeRoleWithWebIdentity"):
            for kind, name, who in strangers(None, after):
                if who != "anybody" and name != "*":
                    continue
                ask = Ask(name, action, change.was("arn"), kind=kind)
                if newly_allowed(before, after, ask):
                    detail = f"anybody may assume {change.was('arn')}, which may use KEKs"
                    yield _risk(change, None, detail)
                    return
        for statement in set(after) - set(before):
            if _is_for_any_subject(statement):
                who = ", ".join(principal.name for principal in statement.principals or ())
                detail = f"every identity of {who} may assume {change.was('arn')}: no condition"
                yield _risk(change, None, f"{detail} asks for its subject (`:sub`)")


def _is_for_any_subject(statement: Statement) -> bool:
    """Whether a web identity provider's every identity is trusted, as with GitHub's without `sub`.

    Amazon Cognito tells its identity pools apart by `aud`.
    """
    federated = [p for p in statement.principals or () if p.kind == "Federated"]
    asked = [
        values
        for _, variable, values in statement.conditions
        if variable.lower().endswith((":sub", "cognito-identity.amazonaws.com:aud"))
    ]
    return (
        statement.effect == "Allow"
        and bool(federated)
        and "sts:AssumeRoleWithWebIdentity" in statement.actions
        and not any("*" not in values for values in asked)
    )
