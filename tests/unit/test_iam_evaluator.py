"""The evaluator itself: what AWS documents about policies, one rule a test."""

from __future__ import annotations

from typing import Any

import pytest

from support.iam import Request, UnknownPolicyError, is_allowed, kms_request

ROLE = "arn:aws:iam::111122223333:role/app"
KEY = "arn:aws:kms:eu-central-1:111122223333:key/1"
TO_ACCOUNT = {"AWS": "arn:aws:iam::111122223333:root"}
BOUND = {
    "ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["dekctl:table"]},
    "Null": {"kms:EncryptionContextKeys": "false"},
}


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(**more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*"} | more


def decrypt(context: dict[str, str] | None = None) -> Request:
    return kms_request(ROLE, "kms:Decrypt", KEY, context)


def test_nothing_is_allowed_by_default() -> None:
    assert not is_allowed(decrypt(), identity=None, key_policy=policy())


def test_a_key_policy_that_names_the_caller_is_enough() -> None:
    key_policy = policy(allow(Principal={"AWS": ROLE}))
    assert is_allowed(decrypt(), identity=None, key_policy=key_policy)


def test_an_identity_policy_alone_is_not_enough() -> None:
    assert not is_allowed(decrypt(), identity=policy(allow()), key_policy=policy())


def test_a_key_policy_for_the_account_hands_over_to_the_identity_policy() -> None:
    key_policy = policy(allow(Principal=TO_ACCOUNT))
    assert is_allowed(decrypt(), identity=policy(allow()), key_policy=key_policy)
    assert not is_allowed(decrypt(), identity=None, key_policy=key_policy)


def test_a_deny_wins_wherever_it_stands() -> None:
    yes = policy(allow(Principal={"AWS": ROLE}))
    no = policy(allow(Principal={"AWS": ROLE}), allow(Effect="Deny", Principal={"AWS": "*"}))
    assert not is_allowed(decrypt(), identity=policy(allow(Effect="Deny")), key_policy=yes)
    assert not is_allowed(decrypt(), identity=policy(allow()), key_policy=no)


def test_another_accounts_principal_does_not_match() -> None:
    key_policy = policy(allow(Principal={"AWS": "arn:aws:iam::444455556666:root"}))
    assert not is_allowed(decrypt(), identity=policy(allow()), key_policy=key_policy)


def test_for_all_values_alone_admits_a_request_without_the_key() -> None:
    loose = {"ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["dekctl:table"]}}
    key_policy = policy(allow(Principal={"AWS": ROLE}, Condition=loose))
    assert is_allowed(decrypt(), identity=None, key_policy=key_policy)


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ({"dekctl:table": "files"}, True),
        ({"dekctl:table": "files", "other": "x"}, False),
        (None, False),
    ],
)
def test_null_closes_what_for_all_values_leaves_open(
    context: dict[str, str] | None, expected: bool
) -> None:
    key_policy = policy(allow(Principal={"AWS": ROLE}, Condition=BOUND))
    assert is_allowed(decrypt(context), identity=None, key_policy=key_policy) is expected


def test_actions_match_without_regard_to_case_and_with_patterns() -> None:
    key_policy = policy(allow(Action="KMS:dec*", Principal={"AWS": ROLE}))
    assert is_allowed(decrypt(), identity=None, key_policy=key_policy)


def test_resources_match_exactly_or_by_pattern() -> None:
    key_policy = policy(allow(Principal=TO_ACCOUNT))
    assert is_allowed(decrypt(), identity=policy(allow(Resource=KEY)), key_policy=key_policy)
    other = policy(allow(Resource=KEY + "2"))
    assert not is_allowed(decrypt(), identity=other, key_policy=key_policy)


UNKNOWN = {
    "an operator": allow(Condition={"StringNotEquals": {"aws:x": "y"}}),
    "an operator with IfExists": allow(Condition={"StringEqualsIfExists": {"aws:x": "y"}}),
    "a quantified Null": allow(Condition={"ForAnyValue:Null": {"aws:x": "true"}}),
    "Null, neither true nor false": allow(Condition={"Null": {"aws:x": "banana"}}),
    "Bool, neither true nor false": allow(Condition={"Bool": {"aws:x": "banana"}}),
    "Bool of two values": allow(Condition={"Bool": {"aws:x": ["true", "false"]}}),
    "two numbers": allow(Condition={"NumericLessThan": {"aws:x": ["1", "2"]}}),
    "a pattern that is no ARN": allow(Condition={"ArnLike": {"aws:PrincipalArn": "*role/x"}}),
    "a policy variable": allow(Condition={"StringLike": {"aws:x": "${aws:PrincipalArn}"}}),
    "a policy variable in the resource": allow(Resource="arn:aws:kms:*:*:key/${aws:username}"),
    "an element": allow(NotAction="kms:Decrypt"),
    "an effect": allow(Effect="Perhaps"),
    "a federated principal": allow(Principal={"Federated": "x"}),
    "a session": allow(Principal={"AWS": "arn:aws:sts::111122223333:assumed-role/app/dekctl"}),
    "a pattern for a principal": allow(Principal={"AWS": "arn:aws:iam::111122223333:role/*"}),
    "brackets": allow(Resource="arn:[x]"),
}


@pytest.mark.parametrize("effect", ["Allow", "Deny"])
@pytest.mark.parametrize("action", ["kms:Decrypt", "kms:Encrypt"])
@pytest.mark.parametrize("what", UNKNOWN)
def test_what_is_not_known_is_an_error_even_where_it_does_not_apply(
    what: str, action: str, effect: str
) -> None:
    statement = {"Principal": {"AWS": ROLE}} | UNKNOWN[what] | {"Action": action}
    if what != "an effect":
        statement["Effect"] = effect
    with pytest.raises(UnknownPolicyError):
        is_allowed(decrypt(), identity=None, key_policy=policy(statement))


def test_a_wildcard_of_an_arn_does_not_reach_over_a_colon() -> None:
    def matches(pattern: str) -> bool:
        condition = {"ArnLike": {"aws:PrincipalArn": pattern}}
        document = policy(allow(Principal={"AWS": ROLE}, Condition=condition))
        return is_allowed(decrypt(), identity=None, key_policy=document)

    assert matches("arn:*:iam::111122223333:role/*")
    assert not matches("arn:aws:*:*:*:role/x")


@pytest.mark.parametrize(("days", "expected"), [("7", False), ("30", True)])
def test_conditions_of_one_kms_call_count(days: str, expected: bool) -> None:
    action = "kms:ScheduleKeyDeletion"
    short = {"NumericLessThan": {"kms:ScheduleKeyDeletionPendingWindowInDays": "30"}}
    key_policy = policy(
        allow(Action=action, Principal={"AWS": ROLE}),
        allow(Effect="Deny", Action=action, Principal="*", Condition=short),
    )
    request = kms_request(ROLE, action, KEY, None, ScheduleKeyDeletionPendingWindowInDays=days)
    assert is_allowed(request, identity=None, key_policy=key_policy) is expected
