"""Plans about KEKs, aliases and the rights of the roles."""

from __future__ import annotations

import json
from typing import Any

from support.plan_kinds.edits import (
    ACCOUNT,
    ALIAS,
    KEK,
    OLD_KEK,
    STRANGER,
    TRAIL_KEY,
    Cases,
    Edit,
    acts,
    adds,
    allow,
    both,
    deletes,
    deny,
    drops_from_key,
    forgets,
    hides,
    key_policy,
    own,
    policy_of,
    replaces,
    replica,
    role_arn,
    role_of,
    says,
    sets,
    with_role,
)
from support.recorded_plans import (
    FIRST,
    PENDING,
    ROTATION,
    STATE_RM,
    Plan,
    change_of,
    edit,
    existing,
    recorded,
    statements,
)


def moved_to(address: str) -> Edit:
    """The alias moves to another present key."""

    def apply(plan: Plan) -> Plan:
        return edit(plan, ALIAS, target_key_id=change_of(plan, address)["before"]["key_id"])

    return apply


def recorded_as(name: str) -> Edit:
    return lambda _: recorded(name)


def without_outputs_key(plan: Plan) -> Plan:
    kept = [r for r in plan["resource_changes"] if not r["address"].endswith(OLD_KEK)]
    return plan | {"resource_changes": kept}


def deposed(plan: Plan) -> Plan:
    [kek] = [r for r in plan["resource_changes"] if r["address"].endswith(KEK)]
    change = {**kek["change"], "actions": ["delete"], "after": None}
    plan["resource_changes"].append({**kek, "deposed": "00000001", "change": change})
    return plan


def moved_into_module(plan: Plan) -> Plan:
    [kek] = [r for r in plan["resource_changes"] if r["address"].endswith(KEK)]
    kek["previous_address"], kek["address"] = kek["address"], f"module.new.{kek['address']}"
    return plan


def imported(plan: Plan) -> Plan:
    change_of(plan, KEK)["importing"] = {"id": "the-id"}
    return drops_from_key("app")(plan)


def expiring(plan: Plan) -> Plan:
    [kek] = [r for r in plan["resource_changes"] if r["address"].endswith(KEK)]
    kek["type"] = "aws_kms_external_key"
    return edit(plan, KEK, valid_to="2027-01-01T00:00:00Z")


KEKS: Cases = {
    "nothing changes": (lambda plan: plan, None),
    "the KEK gets another description": (sets(KEK, description="new"), None),
    "a third generation takes the alias": (recorded_as(ROTATION), None),
    "the first apply creates everything": (recorded_as(FIRST), None),
    "a key is pending deletion: Terraform dropped it": (recorded_as(PENDING), "lost"),
    "a key was removed from the state": (recorded_as(STATE_RM), "lost"),
    "a key of the last outputs is not in the plan": (without_outputs_key, "lost"),
    "the active KEK is deleted": (deletes(KEK), "delete"),
    "a retired KEK is deleted": (deletes(OLD_KEK), "delete"),
    "the KEK is replaced": (replaces(KEK), "delete"),
    "the KEK is replaced because something else is": (acts(KEK, "create", "delete"), "delete"),
    "what an earlier replacement of the KEK left is deleted": (deposed, "delete"),
    "a replica of the KEK in another Region is deleted": (replica(None, gone=True), "delete"),
    "the KEK moves into another module": (moved_into_module, None),
    "the KEK is imported under a policy that drops the app": (imported, "decrypt"),
    "imported key material expires": (expiring, "disable"),
    "the KEK is disabled": (sets(KEK, is_enabled=False), "disable"),
    "whether the KEK is enabled is not known": (hides(KEK, "is_enabled"), "disable"),
    "Terraform forgets the KEK": (forgets(KEK), "forget"),
    "the deletion window is shortened": (sets(KEK, deletion_window_in_days=7), "window"),
    "rotation ends": (sets(KEK, enable_key_rotation=False), "rotation"),
    "rotation is no longer set": (sets(KEK, enable_key_rotation=None), "rotation"),
    "rotation takes longer": (sets(KEK, rotation_period_in_days=2560), None),
    "Terraform forgets the alias": (forgets(ALIAS), None),
    "the alias takes another name": (replaces(ALIAS, name="alias/other"), "alias"),
    "the alias is deleted": (deletes(ALIAS), "alias"),
    "the alias moves to the retired KEK": (moved_to(OLD_KEK), "alias"),
    "the alias moves to the trail's key": (moved_to(TRAIL_KEY), "alias"),
    "the alias moves to a key that is not in the plan": (
        sets(ALIAS, target_key_id="11111111-2222-3333-4444-555555555555"),
        "alias",
    ),
}


def store_goes(plan: Plan) -> Plan:
    for address in (KEK,):
        change = change_of(plan, address)
        change["before"]["custom_key_store_id"] = "cks-1"
        change["after"]["custom_key_store_id"] = "cks-1"
    return existing(plan, "aws_kms_custom_key_store", {"id": "cks-1"}, None)


def asked_for_tag(plan: Plan) -> Plan:
    """The key policy's statements ask for a tag of the key, which the plan removes."""
    condition = {"StringEquals": {"aws:ResourceTag/Environment": "staging"}}
    change = change_of(plan, KEK)
    text = json.loads(change["before"]["policy"])
    text["Statement"].append(allow(role_arn("app"), "kms:Decrypt", Condition=condition))
    change["before"]["policy"] = change["after"]["policy"] = json.dumps(text)
    return edit(plan, KEK, tags_all={})


def federated(plan: Plan) -> Plan:
    """The key policy names the app's ARN, but as an identity provider."""

    def change(found: list[Any]) -> None:
        with_role("app")(found)
        found.append(allow({"Federated": role_arn("app")}, "kms:*"))

    return edit(plan, KEK, policy=statements(change))


def deferred(plan: Plan) -> Plan:
    return plan | {"deferred_changes": [{"reason": "provider_config_unknown"}]}


def provider(audience: list[str] | None) -> Edit:
    """The identity provider of the app's pods is deleted, or has only this audience."""
    values = {"arn": f"arn:aws:iam::{ACCOUNT}:oidc-provider/eks", "client_id_list": ["sts"]}
    statement = allow({"Federated": values["arn"]}, "sts:AssumeRoleWithWebIdentity")

    def apply(plan: Plan) -> Plan:
        role = change_of(plan, role_of("app"))
        text = statements(
            lambda found: found.append(own(statement) | {"Principal": statement["Principal"]})
        )
        for part in ("before", "after"):
            role[part]["assume_role_policy"] = text(role[part]["assume_role_policy"])
        after = None if audience is None else values | {"client_id_list": audience}
        return existing(plan, "aws_iam_openid_connect_provider", values, after)

    return apply


def sensitive(plan: Plan) -> Plan:
    plan = edit(plan, KEK, is_enabled=False)
    change_of(plan, KEK).update(before_sensitive=True, after_sensitive=True)
    return plan


PROFILE = {"name": "app", "arn": f"arn:aws:iam::{ACCOUNT}:instance-profile/app"}
APP_NAME = "dekctl-staging-app"
RIGHTS: Cases = {
    "the key policy drops the app": (drops_from_key("app"), "decrypt"),
    "the key policy of a retired KEK drops the app": (drops_from_key("app", OLD_KEK), "decrypt"),
    "the key policy drops the verifier": (drops_from_key("verifier"), "verify"),
    "the key policy drops the rewrapper": (drops_from_key("rewrapper"), "rewrap"),
    "the key policy drops the wrapper": (drops_from_key("wrapper"), "write"),
    "the key policy of the active KEK denies Encrypt": (says(KEK, deny("kms:Encrypt")), "write"),
    "the key policy of a retired KEK denies Encrypt": (says(OLD_KEK, deny("kms:Encrypt")), None),
    "the key policy denies Decrypt outside of a network": (
        says(KEK, deny("kms:Decrypt", Condition={"StringNotEquals": {"aws:SourceVpce": "vpce-1"}})),
        "decrypt",
    ),
    "the key policy is not known": (hides(KEK, "policy"), "decrypt"),
    "the key policy names the app as a federated identity": (federated, "decrypt"),
    "a tag goes that a key policy asks for": (asked_for_tag, "decrypt"),
    "a tag goes that no policy asks for": (sets(KEK, tags_all={}), None),
    "the app's own policy is deleted": (deletes(policy_of("app")), "decrypt"),
    "the app's own policy denies KMS": (
        says(policy_of("app"), own(deny("kms:*"))),
        "decrypt",
    ),
    "the verifier's own policy is deleted": (deletes(policy_of("verifier")), "verify"),
    "the wrapper's own policy is deleted": (deletes(policy_of("wrapper")), "write"),
    "the auditor's own policy is deleted": (deletes(policy_of("auditor")), None),
    "the app's role is deleted": (deletes(role_of("app")), "role"),
    "the wrapper's role is deleted": (deletes(role_of("wrapper")), "write"),
    "the verifier's role is deleted": (deletes(role_of("verifier")), "verify"),
    "nobody may assume the app's role": (
        sets(role_of("app"), assume_role_policy='{"Statement": []}'),
        "decrypt",
    ),
    "the app's role gets a permissions boundary": (
        sets(role_of("app"), permissions_boundary=f"arn:aws:iam::{ACCOUNT}:policy/b"),
        "decrypt",
    ),
    "the app's instance profile is deleted": (
        lambda p: existing(p, "aws_iam_instance_profile", {**PROFILE, "role": APP_NAME}, None),
        "role",
    ),
    "the app's instance profile takes another role": (
        lambda p: existing(
            p, "aws_iam_instance_profile", {**PROFILE, "role": APP_NAME}, {**PROFILE, "role": "x"}
        ),
        "role",
    ),
    "the app's pod identity is deleted": (
        lambda p: existing(
            p, "aws_eks_pod_identity_association", {"role_arn": role_arn("app")}, None
        ),
        "role",
    ),
    "the app's task takes another role": (
        lambda p: existing(
            p,
            "aws_ecs_task_definition",
            {"task_role_arn": role_arn("app")},
            {"task_role_arn": role_arn("other")},
        ),
        "role",
    ),
    "another pod identity is deleted": (
        lambda p: existing(p, "aws_eks_pod_identity_association", {"role_arn": STRANGER}, None),
        None,
    ),
    "the key's custom key store is deleted": (store_goes, "disable"),
    "another custom key store is deleted": (
        lambda p: existing(p, "aws_kms_custom_key_store", {"id": "cks-2"}, None),
        None,
    ),
    "a second resource overwrites the app's own policy": (
        adds(
            "aws_iam_role_policy",
            role=APP_NAME,
            name="dekctl",
            policy='{"Statement": []}',
        ),
        "decrypt",
    ),
    "another key policy beside the KEK's drops the app": (key_policy(with_role("app")), "decrypt"),
    "another key policy beside the KEK's is not known": (
        both(key_policy(), hides("aws_kms_key_policy.added", "policy")),
        "decrypt",
    ),
    "another key policy beside the KEK's says the same": (key_policy(), None),
    "a key policy is of a key that is not known": (
        both(key_policy(), hides("aws_kms_key_policy.added", "key_id")),
        "decrypt",
    ),
    "the app's role loses the policies that are not listed": (
        adds("aws_iam_role_policies_exclusive", role_name=APP_NAME, policy_names=[]),
        "decrypt",
    ),
    "the verifier's role gets a permissions boundary": (
        sets(role_of("verifier"), permissions_boundary=f"arn:aws:iam::{ACCOUNT}:policy/b"),
        "verify",
    ),
    "Terraform forgets the app's own policy": (forgets(policy_of("app")), None),
    "sessions of the app's role may last longer": (
        sets(role_of("app"), max_session_duration=7200),
        None,
    ),
    "the app's identity provider is deleted": (provider(None), "role"),
    "the app's identity provider loses its audience": (provider([]), "role"),
    "changes are deferred": (deferred, "incomplete"),
    "the plan is of a part (-target)": (lambda plan: plan | {"complete": False}, "incomplete"),
    "the plan shows a part and does not say so": (
        lambda plan: plan | {"resource_changes": []},
        "lost",
    ),
    "values are sensitive, and the KEK is disabled": (sensitive, "disable"),
    "nothing can be applied": (lambda plan: plan | {"applyable": False}, None),
}
