"""The KMS stand-in knows who calls: grants, roles, signatures, counters and the journal."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import boto3
import botocore.auth
import pytest
from botocore.awsrequest import AWSPreparedRequest

from support.kms_standin import Credentials, Grant, KmsStandin
from support.kms_standin.asking import CONTEXT, DEK, error_of, refusal, wrapped

# Who may do what


def user(standin: KmsStandin, *grants: Grant) -> Any:
    return standin.kms(standin.put_user("someone", grants))


def test_a_grant_is_for_its_action_and_key_alone(standin: KmsStandin, kms: Any, kek: str) -> None:
    other = standin.create_key()
    someone = user(standin, Grant(("kms:Encrypt",), (kek,)))
    blob = someone.encrypt(KeyId=kek, Plaintext=DEK)["CiphertextBlob"]
    for denied in (
        lambda: someone.encrypt(KeyId=other, Plaintext=DEK),
        lambda: someone.decrypt(KeyId=kek, CiphertextBlob=blob),
        lambda: someone.decrypt(CiphertextBlob=blob),
        lambda: someone.describe_key(KeyId=kek),
        lambda: someone.disable_key(KeyId=kek),
        someone.list_keys,
        someone.create_key,
    ):
        assert refusal(denied) == "AccessDeniedException"


def test_a_grant_can_ask_for_a_context(standin: KmsStandin, kek: str) -> None:
    someone = user(standin, Grant(("kms:Encrypt",), (kek,), {"dekctl:table": "encrypted_files"}))
    someone.encrypt(KeyId=kek, Plaintext=DEK, EncryptionContext=CONTEXT)
    for context in ({}, {"dekctl:table": "users", "dekctl:pk": "1"}):
        code = refusal(
            lambda: someone.encrypt(KeyId=kek, Plaintext=DEK, EncryptionContext=context)  # noqa: B023
        )
        assert code == "AccessDeniedException"


def test_a_right_can_be_taken_away_and_given_back(standin: KmsStandin, kek: str) -> None:
    someone = user(standin, Grant(("kms:*",)))
    someone.encrypt(KeyId=kek, Plaintext=DEK)
    standin.deny("someone", "kms:Encrypt", key=kek)
    code = refusal(lambda: someone.encrypt(KeyId=kek, Plaintext=DEK))
    assert code == "AccessDeniedException"
    someone.encrypt(KeyId=standin.create_key(), Plaintext=DEK)
    standin.clear_denies()
    someone.encrypt(KeyId=kek, Plaintext=DEK)


def test_a_role_is_assumed_through_sts(standin: KmsStandin, kms: Any, kek: str) -> None:
    role = standin.put_role("wrapper", [Grant(("kms:Encrypt",), (kek,))])
    session = standin.sts().assume_role(RoleArn=role, RoleSessionName="run-1", DurationSeconds=900)
    keys = session["Credentials"]
    assert keys["Expiration"].timestamp() == pytest.approx(time.time() + 900, abs=300)
    wrapper = Credentials(
        keys["AccessKeyId"], keys["SecretAccessKey"], "wrapper", keys["SessionToken"]
    )
    arn = standin.sts(wrapper).get_caller_identity()["Arn"]
    assert arn == f"arn:aws:sts::{standin.account}:assumed-role/wrapper/run-1"
    client = standin.kms(wrapper)
    blob = client.encrypt(KeyId=kek, Plaintext=DEK)["CiphertextBlob"]
    code = refusal(lambda: client.decrypt(KeyId=kek, CiphertextBlob=blob))
    assert code == "AccessDeniedException"
    standin.expire_sessions()
    code = refusal(lambda: client.encrypt(KeyId=kek, Plaintext=DEK))
    assert code == "ExpiredTokenException"
    assert refusal(standin.sts(wrapper).get_caller_identity) == "ExpiredToken"


def test_a_role_is_assumed_only_by_who_may(standin: KmsStandin) -> None:
    role = standin.put_role("auditor", [])
    arguments = {"RoleArn": role, "RoleSessionName": "run-1"}
    stranger: Any = standin.sts(standin.put_user("stranger", []))
    assert refusal(lambda: stranger.assume_role(**arguments)) == "AccessDenied"
    friend: Any = standin.sts(standin.put_user("friend", [Grant(("sts:AssumeRole",), (role,))]))
    assert friend.assume_role(**arguments)["Credentials"]["SessionToken"]
    admin: Any = standin.sts()
    arguments["RoleArn"] = role + "-not-there"
    assert refusal(lambda: admin.assume_role(**arguments)) == "AccessDenied"


# What is written down


def test_calls_are_counted_by_api_principal_and_error(
    standin: KmsStandin, kms: Any, kek: str
) -> None:
    someone = user(standin, Grant(("kms:Encrypt",)))
    standin.reset_counters()
    blob = wrapped(someone, kek)
    refusal(lambda: someone.decrypt(CiphertextBlob=blob))
    kms.decrypt(CiphertextBlob=blob)
    counters = standin.counters()
    assert counters.calls == {"Encrypt": 1, "Decrypt": 2}
    assert counters.succeeded == {"Encrypt": 1, "Decrypt": 1}
    assert counters.principals == {"someone": 2, "standin-admin": 1}
    assert counters.errors == {"AccessDeniedException": 1}
    standin.reset_counters()
    assert standin.counters().calls == {}


def test_the_journal_names_key_and_context_but_no_plaintext(
    standin: KmsStandin, kms: Any, kek: str
) -> None:
    standin.reset_counters()
    wrapped(kms, kek, CONTEXT)
    journal = standin.journal()
    [call] = journal
    assert (call["api"], call["principal"], call["error"]) == ("Encrypt", "standin-admin", None)
    assert (call["key"], call["context"]) == (kek, CONTEXT)
    assert set(call) == {
        "api",
        "context",
        "destination_context",
        "destination_key",
        "error",
        "key",
        "principal",
        "session",
        "source_identity",
        "time",
    }


def test_the_journal_keeps_the_last_calls() -> None:
    with KmsStandin.start(journal_size=3) as standin:
        keys = [standin.create_key() for _ in range(5)]
        assert [call["key"] for call in standin.journal()] == keys[-3:]
        assert standin.counters().calls == {"CreateKey": 5}


# Signatures


def altered(
    standin: KmsStandin, who: Credentials, change: Callable[[AWSPreparedRequest], None]
) -> Any:
    """A client whose requests are changed after they were signed."""
    client = standin.kms(who)

    def change_it(request: AWSPreparedRequest, **_: object) -> None:
        change(request)

    client.meta.events.register("before-send.kms", change_it)
    return client


def set_header(name: str, value: str) -> Callable[[AWSPreparedRequest], None]:
    def change(request: AWSPreparedRequest) -> None:
        request.headers[name] = value

    return change


def replace_in_body(old: bytes, new: bytes) -> Callable[[AWSPreparedRequest], None]:
    def change(request: AWSPreparedRequest) -> None:
        assert isinstance(request.body, bytes)
        assert old in request.body
        request.body = request.body.replace(old, new)

    return change


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (replace_in_body(b'"KeyId"', b'"keyid"'), "InvalidSignatureException"),
        (set_header("X-Amz-Target", "TrentService.CreateKey"), "InvalidSignatureException"),
        (set_header("Host", "kms.us-east-1.amazonaws.com"), "InvalidSignatureException"),
        (set_header("X-Amz-Date", "20200101T000000Z"), "InvalidSignatureException"),
        (set_header("X-Amz-Unsigned", "1"), "InvalidSignatureException"),
        (set_header("Authorization", "Basic eDp5"), "IncompleteSignatureException"),
        (set_header("X-Amz-Security-Token", "forged"), "UnrecognizedClientException"),
    ],
    ids=["body", "target", "host", "date", "unsigned header", "other scheme", "token"],
)
def test_a_request_changed_after_signing_is_refused(
    standin: KmsStandin, kek: str, change: Callable[[AWSPreparedRequest], None], expected: str
) -> None:
    client = altered(standin, standin.admin, change)
    assert refusal(lambda: client.describe_key(KeyId=kek)) == expected
    assert standin.counters().errors == {expected: 1}
    assert standin.counters().principals["unknown"] == 1


def test_a_request_without_signature_is_refused(standin: KmsStandin, kek: str) -> None:
    def remove(request: AWSPreparedRequest) -> None:
        del request.headers["Authorization"]

    client = altered(standin, standin.admin, remove)
    code = refusal(lambda: client.describe_key(KeyId=kek))
    assert code == "MissingAuthenticationTokenException"


def test_a_wrong_secret_or_an_unknown_key_is_refused(standin: KmsStandin, kek: str) -> None:
    wrong = standin.kms(replace(standin.admin, secret_key="wrong"))
    assert refusal(lambda: wrong.describe_key(KeyId=kek)) == "InvalidSignatureException"
    unknown = standin.kms(replace(standin.admin, access_key="AKIAUNKNOWNUNKNOWN12"))
    assert refusal(lambda: unknown.describe_key(KeyId=kek)) == "UnrecognizedClientException"
    sts = standin.sts(replace(standin.admin, secret_key="wrong"))
    assert refusal(sts.get_caller_identity) == "SignatureDoesNotMatch"


@pytest.mark.parametrize(("minutes", "words"), [(-6, "expired"), (6, "not yet current")])
def test_a_clock_that_is_wrong_is_noticed(
    standin: KmsStandin, kek: str, minutes: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=minutes)
    client = standin.kms()
    # botocore asks this function for the moment that it signs.
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_: now.replace(tzinfo=None))
    error = error_of(lambda: client.describe_key(KeyId=kek))
    assert error.response["Error"]["Code"] == "InvalidSignatureException"
    assert words in error.response["Error"]["Message"]


def test_another_region_is_refused(standin: KmsStandin, kek: str) -> None:
    session = boto3.Session(
        aws_access_key_id=standin.admin.access_key,
        aws_secret_access_key=standin.admin.secret_key,
        region_name="eu-west-1",
    )
    client = session.client("kms", endpoint_url=standin.endpoint_url)
    assert refusal(lambda: client.describe_key(KeyId=kek)) == "InvalidSignatureException"
    client.close()


def test_signatures_can_be_left_unchecked() -> None:
    with KmsStandin.start(verify_signatures=False) as standin:
        someone = standin.put_user("someone", [])
        stranger = Credentials("AKIASTRANGER", "nothing", "")
        key = standin.kms(stranger).create_key()["KeyMetadata"]["Arn"]
        known = standin.kms(replace(someone, secret_key="nothing"))
        code = refusal(lambda: known.describe_key(KeyId=key))
        assert code == "AccessDeniedException"
