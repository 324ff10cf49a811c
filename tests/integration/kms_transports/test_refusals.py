"""Both ways to KMS give errors the same names, and have the same patience with them."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from botocore.session import Session

from dekctl.errors import KMSError, KMSRefusedError, KMSUnavailableError, RowRejectedError
from dekctl.kms.aws.retry import RetryPolicy
from support.kms_standin import CUT_AFTER, CUT_BEFORE, CUT_MIDDLE, NO_BODY, Fault, KmsStandin
from support.scripted_endpoint import Reply, ScriptedEndpoint, refusal
from support.transports import (
    ANSWER,
    REQUEST,
    SECRET,
    Kind,
    Make,
    bad,
    good,
)


def test_refusals_are_the_same_by_both(standin: KmsStandin, make: Make) -> None:
    kms = standin.kms()
    arn, disabled, leaving = (standin.create_key() for _ in range(3))
    blob = kms.encrypt(KeyId=disabled, Plaintext=b"x")["CiphertextBlob"]
    kms.disable_key(KeyId=disabled)
    kms.schedule_key_deletion(KeyId=leaving, PendingWindowInDays=7)
    cases: list[tuple[str, dict[str, Any], type[KMSError], str]] = [
        ("Decrypt", {"CiphertextBlob": b"no"}, RowRejectedError, "InvalidCiphertextException"),
        ("Decrypt", {"CiphertextBlob": blob}, KMSRefusedError, "IncorrectKeyException"),
        ("Encrypt", {"KeyId": disabled}, KMSRefusedError, "DisabledException"),
        ("Encrypt", {"KeyId": leaving}, KMSRefusedError, "KMSInvalidStateException"),
        ("Encrypt", {"KeyId": "alias/nowhere"}, KMSRefusedError, "NotFoundException"),
        ("Encrypt", {"Plaintext": b""}, KMSRefusedError, "ValidationException"),
        ("Encrypt", {"Plaintext": bytes(4097)}, KMSRefusedError, "ValidationException"),
        ("Encrypt", {"DryRun": True}, KMSRefusedError, "DryRunOperationException"),
    ]
    transports = [make(name, standin.endpoint_url) for name in ("boto3", "curl")]
    for operation, parameters, kind, code in cases:
        request = {"KeyId": arn, **parameters}
        if operation == "Encrypt":
            request.setdefault("Plaintext", SECRET)
        errors = [bad(each.call_many(operation, [request]))[0] for each in transports]
        assert [type(error) for error in errors] == [kind, kind]
        assert [error.code for error in errors] == [code, code]
        assert str(errors[0]) == str(errors[1])


def test_one_bad_row_leaves_the_others_alone(standin: KmsStandin, make: Make, kind: Kind) -> None:
    arn = standin.create_key()
    transport = make(kind, standin.endpoint_url)
    blob = standin.kms().encrypt(KeyId=arn, Plaintext=SECRET)["CiphertextBlob"]
    requests = [{"KeyId": arn, "CiphertextBlob": blob} for _ in range(9)]
    requests[4]["CiphertextBlob"] = b"damaged" * 20
    answers = transport.call_many("Decrypt", requests)
    assert isinstance(answers.pop(4), RowRejectedError)
    assert [answer["Plaintext"] for answer in good(answers)] == [SECRET] * 8


@pytest.mark.parametrize(
    "reply",
    [
        Reply(403, b""),
        Reply(400, b"<html>not KMS</html>"),
        Reply(400, b'{"__type": "com.amazonaws.kms#DisabledException:http://x", "Message": "m"}'),
        Reply(400, b'{"__type": "DisabledException", "message": null}'),
        Reply(413, b'{"message": "too large"}'),
        Reply(307, b"", {"Location": "http://127.0.0.1:9/"}),
    ],
)
def test_odd_refusals_have_the_name_that_botocore_gives_them(make: Make, reply: Reply) -> None:
    codes = []
    with ScriptedEndpoint(lambda _: reply) as endpoint:
        for name in ("boto3", "curl"):
            error = bad(make(name, endpoint.url).call_many("Encrypt", [REQUEST]))[0]
            codes.append((error.code, type(error)))
    assert codes[0] == codes[1]
    assert codes[0][0]


def test_error_type_header_stands_in_for_a_body_without_a_name(make: Make) -> None:
    headers = {"x-amzn-ErrorType": "DisabledException:http://internal.amazon.com/coral/"}
    with ScriptedEndpoint(lambda _: Reply(400, b"", headers)) as endpoint:
        error = bad(make("curl", endpoint.url).call_many("Encrypt", [REQUEST]))[0]
    assert error.code == "DisabledException"


@pytest.mark.parametrize(
    "fault",
    [
        "ThrottlingException",
        "KMSInternalException",
        "DependencyTimeoutException",
        "KeyUnavailableException",
        NO_BODY,
        CUT_BEFORE,
        CUT_MIDDLE,
        CUT_AFTER,
    ],
)
def test_passing_faults_are_overcome(
    standin: KmsStandin, make: Make, kind: Kind, fault: str
) -> None:
    arn = standin.create_key()
    calls: Counter[str] = Counter()
    transport = make(kind, standin.endpoint_url, count=lambda name: calls.update([name]))
    standin.set_faults(Fault(fault, times=5, apis=("Encrypt",)))
    requests = [{"KeyId": arn, "Plaintext": bytes([i])} for i in range(20)]
    answers = good(transport.call_many("Encrypt", requests))
    opened = good(
        transport.call_many(
            "Decrypt", [{"KeyId": arn, "CiphertextBlob": a["CiphertextBlob"]} for a in answers]
        )
    )
    assert [answer["Plaintext"] for answer in opened] == [bytes([i]) for i in range(20)]
    # boto3 may put a connection that was cut back among the good ones, and fail on it once more.
    assert 20 < calls["Encrypt"] <= 30


def test_a_cut_answer_is_never_taken_for_a_whole_one(make: Make, kind: Kind) -> None:
    short = Reply(200, ANSWER[:-10], {"Connection": "close"})
    replies = [Reply(cut=True), short, Reply(200, b""), Reply(200, b"null"), Reply(200, b"{}")]
    with ScriptedEndpoint(lambda _: replies.pop(0) if replies else Reply(200, ANSWER)) as endpoint:
        answers = good(make(kind, endpoint.url).call_many("Encrypt", [REQUEST]))
    assert answers == [{"CiphertextBlob": b"wrapped", "KeyId": "arn:x"}]
    assert not replies


HERE = "arn:aws:kms:us-east-1:111122223333:key/1"


REPLICAS = [f"arn:aws:kms:{region}:111122223333:key/mrk-1" for region in ("us-east-1", "eu-west-1")]


@pytest.mark.parametrize(
    ("operation", "request_", "answer"),
    [
        ("Encrypt", REQUEST, {"KeyId": HERE}),
        ("Encrypt", REQUEST, {"KeyId": HERE, "CiphertextBlob": ""}),
        ("Encrypt", REQUEST, {"KeyId": HERE, "CiphertextBlob": "AA!!AA=="}),
        ("Encrypt", REQUEST, {"CiphertextBlob": "AAAA"}),
        ("Encrypt", REQUEST, {"CiphertextBlob": "AAAA", "KeyId": ""}),
        ("Encrypt", REQUEST | {"KeyId": HERE}, {"CiphertextBlob": "AAAA", "KeyId": HERE + "2"}),
        ("ReEncrypt", {"DestinationKeyId": HERE}, {"CiphertextBlob": "AAAA", "KeyId": HERE + "2"}),
        ("ReEncrypt", {"DestinationKeyId": HERE}, {"CiphertextBlob": "", "KeyId": HERE}),
        ("Decrypt", {"KeyId": HERE}, {"Plaintext": "", "KeyId": HERE}),
        (
            "GenerateDataKey",
            {"KeyId": HERE, "NumberOfBytes": 32},
            {"Plaintext": "AAAA", "CiphertextBlob": "AAAA", "KeyId": HERE},
        ),
    ],
)
def test_an_answer_that_cannot_be_kmss_is_never_passed_on(
    make: Make, kind: Kind, operation: str, request_: dict[str, Any], answer: dict[str, str]
) -> None:
    policy = RetryPolicy(patience=0.1, base=0.01, longest=0.05)
    with ScriptedEndpoint(lambda _: Reply(200, json.dumps(answer).encode())) as endpoint:
        transport = make(kind, endpoint.url, policy=policy)
        [error] = bad(transport.call_many(operation, [request_]))
        assert isinstance(error, KMSUnavailableError)
        assert "not a valid KMS response" in error.message
        assert len(endpoint.seen) > 1, "it was not tried again"


def test_a_replica_of_a_multi_region_key_is_that_key(make: Make, kind: Kind) -> None:
    body = json.dumps({"CiphertextBlob": "AAAA", "KeyId": REPLICAS[0]}).encode()
    with ScriptedEndpoint(lambda _: Reply(200, body)) as endpoint:
        transport = make(kind, endpoint.url)
        assert good(transport.call_many("Encrypt", [REQUEST | {"KeyId": REPLICAS[1]}]))


def test_patience_ends(make: Make, kind: Kind) -> None:
    policy = RetryPolicy(patience=0.5, base=0.01, longest=0.05)
    with ScriptedEndpoint(lambda _: refusal(400, "ThrottlingException")) as endpoint:
        transport = make(kind, endpoint.url, policy=policy)
        error = bad(transport.call_many("Encrypt", [REQUEST]))[0]
        assert isinstance(error, KMSUnavailableError)
        assert error.code == "ThrottlingException"
        assert 1 < len(endpoint.seen) < 200


def test_denied_calls_are_tried_for_the_grace_only(
    standin: KmsStandin, make: Make, kind: Kind
) -> None:
    arn = standin.create_key()
    nobody = standin.put_user("nobody", [])
    session = Session()
    session.set_credentials(nobody.access_key, nobody.secret_key)
    standin.reset_counters()
    transport = make(kind, standin.endpoint_url, session=session)
    error = bad(transport.call_many("Encrypt", [{"KeyId": arn, "Plaintext": b"x"}]))[0]
    assert error.code == "AccessDeniedException"
    assert standin.counters().calls["Encrypt"] > 1, "IAM needs a moment to spread: try again"


def test_rights_that_arrive_within_the_grace_are_enough(make: Make, kind: Kind) -> None:
    replies = [refusal(400, "AccessDeniedException")] * 3
    with ScriptedEndpoint(lambda _: replies.pop() if replies else Reply(200, ANSWER)) as endpoint:
        transport = make(kind, endpoint.url, policy=RetryPolicy(access_grace=20, base=0.01))
        good(transport.call_many("Encrypt", [REQUEST]))


def test_an_endpoint_that_is_not_there_is_given_up_early(make: Make, kind: Kind) -> None:
    policy = RetryPolicy(patience=600, first_contact=0.5, base=0.01)
    error = bad(make(kind, "http://127.0.0.1:9", policy=policy).call_many("Encrypt", [REQUEST]))[0]
    assert isinstance(error, KMSUnavailableError)
    assert error.code is None
    assert "127.0.0.1" in str(error)
