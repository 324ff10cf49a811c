"""Both ways to KMS send the same requests and give the same answers."""

from __future__ import annotations

import json
import os
import threading

import pytest

from support.kms_standin import KmsStandin
from support.scripted_endpoint import Reply, ScriptedEndpoint
from support.transports import (
    ANSWER,
    REQUEST,
    Kind,
    Make,
    good,
)
from support.waiting import PATIENCE_SECONDS


def test_both_transports_open_what_the_other_wrapped(standin: KmsStandin, make: Make) -> None:
    arn, other = standin.create_key(), standin.create_key()
    boto, curl = (make(name, standin.endpoint_url) for name in ("boto3", "curl"))
    keys = [os.urandom(size) for size in (1, 16, 31, 32, 33, 4096)] * 5
    contexts = [{"dekctl:table": "encrypted_files", "dekctl:pk": f'"ü\n{i}'} for i in range(30)]
    for one, two in ((boto, curl), (curl, boto)):
        wrap = [
            {"KeyId": arn, "Plaintext": key, "EncryptionContext": context}
            for key, context in zip(keys, contexts, strict=True)
        ]
        wrapped = good(one.call_many("Encrypt", wrap))
        again = good(two.call_many("Encrypt", wrap))
        assert [set(answer) for answer in wrapped] == [set(answer) for answer in again]
        unwrap = [
            {"KeyId": arn, "CiphertextBlob": answer["CiphertextBlob"], "EncryptionContext": context}
            for answer, context in zip(wrapped, contexts, strict=True)
        ]
        opened = good(two.call_many("Decrypt", unwrap))
        assert [answer["Plaintext"] for answer in opened] == keys
        assert opened == good(one.call_many("Decrypt", unwrap))
        rewrap = [
            {
                "SourceKeyId": arn,
                "DestinationKeyId": other,
                "CiphertextBlob": request["CiphertextBlob"],
                "SourceEncryptionContext": request["EncryptionContext"],
                "DestinationEncryptionContext": {"new": "context"},
            }
            for request in unwrap
        ]
        moved = good(two.call_many("ReEncrypt", rewrap))
        moved_again = good(one.call_many("ReEncrypt", rewrap))
        for answer in (*moved, *moved_again):
            del answer["CiphertextBlob"]
        assert moved == moved_again


@pytest.mark.parametrize(
    "operation", ["DescribeKey", "GetKeyRotationStatus", "ListKeyRotations", "ListAliases"]
)
def test_answers_with_dates_and_lists_are_boto3s_too(
    standin: KmsStandin, make: Make, operation: str
) -> None:
    request = {"KeyId": standin.create_key("alias/" + operation)}
    answers = [
        good(make(name, standin.endpoint_url).call_many(operation, [request]))
        for name in ("boto3", "curl")
    ]
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    "body",
    [
        b'{"CiphertextBlob": "d3JhcHBlZA==", "KeyId": "arn:x", "NotInTheModel": {"a": 1}}',
        b'{"CiphertextBlob": "d3JhcHBlZA==", "KeyId": "arn:\\u00fc", "EncryptionAlgorithm": null}',
    ],
)
def test_unusual_answers_are_read_alike(make: Make, body: bytes) -> None:
    with ScriptedEndpoint(lambda _: Reply(200, body)) as endpoint:
        answers = [
            good(make(name, endpoint.url).call_many("Encrypt", [REQUEST]))
            for name in ("boto3", "curl")
        ]
    assert answers[0] == answers[1]


def test_both_transports_send_the_same_request(make: Make) -> None:
    with ScriptedEndpoint(lambda _: Reply(200, ANSWER)) as endpoint:
        for name in ("boto3", "curl"):
            good(make(name, endpoint.url).call_many("Encrypt", [REQUEST]))
        boto, curl = endpoint.seen
    assert json.loads(curl.body) == json.loads(boto.body)
    assert curl.path == boto.path
    for header in ("host", "content-type", "x-amz-target", "content-length"):
        assert curl.headers[header] == boto.headers[header]
    signed = curl.headers["authorization"].split("SignedHeaders=")[1].split(",")[0]
    assert signed in boto.headers["authorization"]


def test_answers_keep_the_order_of_the_requests_from_many_threads(
    standin: KmsStandin, make: Make, kind: Kind
) -> None:
    standin.set_latency(0.0, slow_share=0.3, slow_seconds=0.02)
    transport = make(kind, standin.endpoint_url, concurrency=16)
    arn = standin.create_key()
    failures: list[object] = []

    def work(thread: int) -> None:
        keys = [f"thread {thread} key {i}".encode() for i in range(60)]
        wrapped = good(
            transport.call_many("Encrypt", [{"KeyId": arn, "Plaintext": key} for key in keys])
        )
        opened = good(
            transport.call_many(
                "Decrypt",
                [{"KeyId": arn, "CiphertextBlob": answer["CiphertextBlob"]} for answer in wrapped],
            )
        )
        if [answer["Plaintext"] for answer in opened] != keys:
            failures.append(thread)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=PATIENCE_SECONDS)
    assert not failures
    assert not any(thread.is_alive() for thread in threads)


def test_no_requests_need_no_call(make: Make, kind: Kind) -> None:
    assert make(kind, "http://127.0.0.1:9").call_many("Encrypt", []) == []
