"""Policy evaluation, as far as `guard` relies on it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dekctl.guard.iam import ANY, Ask, allows, parse_policy, statements_of_data

APP = "arn:aws:iam::123456789012:role/app"
KEY = "arn:aws:kms:us-east-1:123456789012:key/k1"
ROW = (("dekctl:table", "encrypted_files"), ("dekctl:pk", ANY))


def decides(
    statement: dict[str, Any], *, context: tuple[tuple[str, str], ...] = ROW, new: bool = True
) -> bool:
    """Whether a policy of this one statement lets the app decrypt; doubts count against it."""
    base = {"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*", "Principal": {"AWS": APP}}
    statements = parse_policy(json.dumps({"Statement": {**base, **statement}}))
    return allows(statements, Ask(APP, "kms:Decrypt", KEY, context), lambda _: not new)


BOUND = {
    "StringEquals": {"kms:EncryptionContext:dekctl:table": "encrypted_files"},
    "ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["dekctl:table", "dekctl:pk"]},
    "Null": {"kms:EncryptionContextKeys": "false", "kms:EncryptionContext:dekctl:pk": "false"},
}


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ({}, True),
        ({"Action": ["kms:Encrypt", "KMS:de*"]}, True),
        ({"Action": "kms:Encrypt"}, False),
        ({"Resource": "arn:aws:kms:*:123456789012:key/k?"}, True),
        ({"Resource": KEY + "2"}, False),
        ({"Principal": "*"}, True),
        ({"Principal": {"AWS": "arn:aws:iam::123456789012:root"}}, True),
        ({"Principal": {"AWS": "arn:aws:iam::210987654321:root"}}, False),
        ({"Condition": BOUND}, True),
        ({"Condition": {"StringEquals": {"kms:EncryptionContext:dekctl:table": "x"}}}, False),
        ({"Condition": {"StringLike": {"kms:EncryptionContext:dekctl:table": "enc*"}}}, True),
        ({"Condition": {"StringEquals": {"kms:EncryptionContext:dekctl:pk": "7"}}}, False),
        ({"Condition": {"Null": {"kms:EncryptionContextKeys": "true"}}}, False),
        ({"Condition": {"Null": {"kms:ViaService": "true"}}}, True),
        ({"Condition": {"StringNotEquals": {"aws:PrincipalArn": APP}}}, False),
        ({"Condition": {"StringNotEqualsIfExists": {"kms:ViaService": "s3"}}}, True),
    ],
)
def test_a_statement_allows_what_it_covers(statement: dict[str, Any], allowed: bool) -> None:
    assert decides(statement) is allowed


def test_a_bound_statement_lets_no_request_without_a_context_through() -> None:
    assert not decides({"Condition": BOUND}, context=())
    assert decides({"Condition": {"Null": {"kms:EncryptionContextKeys": "true"}}}, context=())


@pytest.mark.parametrize("test", ["IpAddress", "StringEquals"])
def test_a_doubt_counts_for_what_was_there_before_and_against_what_is_new(test: str) -> None:
    doubtful = {"Condition": {test: {"aws:SourceIp": "10.0.0.0/8"}}}
    assert decides(doubtful, new=False)
    assert not decides(doubtful, new=True)


def test_a_deny_wins() -> None:
    text = json.dumps(
        {
            "Statement": [
                {"Effect": "Allow", "Action": "kms:*", "Resource": "*", "Principal": "*"},
                {"Effect": "Deny", "NotAction": "kms:Encrypt", "Resource": "*", "Principal": "*"},
            ]
        }
    )
    assert not allows(parse_policy(text), Ask(APP, "kms:Decrypt", KEY, ROW), lambda _: True)
    assert allows(parse_policy(text), Ask(APP, "kms:Encrypt", KEY, ROW), lambda _: False)


def test_a_document_that_is_not_rendered_yet_reads_like_a_rendered_one() -> None:
    document = {
        "statement": [
            {
                "actions": ["kms:Decrypt"],
                "effect": None,
                "resources": [KEY, None],  # the second key does not exist yet
                "principals": [],
                "condition": [
                    {
                        "test": "StringEquals",
                        "variable": "kms:EncryptionContext:dekctl:table",
                        "values": ["encrypted_files"],
                    }
                ],
            }
        ]
    }
    statements = statements_of_data(document)
    assert allows(statements, Ask(APP, "kms:Decrypt", KEY, ROW), lambda _: False)
    assert not allows(statements, Ask(APP, "kms:Decrypt", KEY + "2", ROW), lambda _: False)
