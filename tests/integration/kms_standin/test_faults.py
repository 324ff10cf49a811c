"""The KMS stand-in fails when it is told to, and as often; over HTTP and over TLS."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    SSLError,
)

from support.kms_standin import CUT_AFTER, CUT_BEFORE, CUT_MIDDLE, NO_BODY, Fault, KmsStandin
from support.kms_standin.asking import DEK, error_of, refusal, status_of, wrapped
from support.waiting import eventually


@pytest.fixture(scope="module", params=["http", "tls"])
def shared(request: pytest.FixtureRequest) -> Iterator[KmsStandin]:
    with KmsStandin.start(tls=request.param == "tls") as running:
        yield running


# Errors


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("ThrottlingException", 400),
        ("KMSInternalException", 500),
        ("DependencyTimeoutException", 503),
        ("KeyUnavailableException", 500),
    ],
)
def test_an_error_strikes_as_often_as_asked(
    standin: KmsStandin, kms: Any, kek: str, kind: str, status: int
) -> None:
    standin.set_faults(Fault(kind, times=2))
    assert refusal(lambda: kms.encrypt(KeyId=kek, Plaintext=DEK)) == kind
    assert status_of(lambda: kms.encrypt(KeyId=kek, Plaintext=DEK)) == status
    wrapped(kms, kek)
    assert standin.counters().errors == {kind: 2}
    assert standin.counters().calls == {"Encrypt": 3}
    assert standin.counters().succeeded == {"Encrypt": 1}


def test_a_503_can_come_without_a_body(standin: KmsStandin, kms: Any, kek: str) -> None:
    standin.set_faults(Fault(NO_BODY))
    error = error_of(lambda: kms.encrypt(KeyId=kek, Plaintext=DEK))
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert error.response["Error"]["Code"] == "503"


def test_boto3_gets_over_faults_by_retrying(standin: KmsStandin, kek: str) -> None:
    standin.set_faults(Fault("KMSInternalException", times=1), Fault(CUT_BEFORE, times=1))
    patient = standin.kms(attempts=5)
    assert patient.encrypt(KeyId=kek, Plaintext=DEK)["KeyId"] == kek
    assert standin.counters().calls == {"Encrypt": 3}


def test_a_fault_can_be_for_some_calls_only(standin: KmsStandin, kms: Any, kek: str) -> None:
    someone = standin.kms(standin.put_user("someone", None))
    standin.set_faults(Fault("KMSInternalException", apis=("Decrypt",), principals=("someone",)))
    blob = wrapped(someone, kek)
    assert refusal(lambda: someone.decrypt(CiphertextBlob=blob)) == "KMSInternalException"
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == DEK


def outcomes(kms: Any, kek: str, calls: int) -> list[bool]:
    results = []
    for _ in range(calls):
        try:
            wrapped(kms, kek)
            results.append(True)
        except ClientError:
            results.append(False)
    return results


def test_chance_follows_the_seed(standin: KmsStandin, kms: Any, kek: str) -> None:
    runs = []
    for seed in (1, 1, 2):
        standin.set_faults(Fault("KMSInternalException", probability=0.5), seed=seed)
        runs.append(outcomes(kms, kek, 40))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert 5 < sum(runs[0]) < 35


def test_faults_can_be_taken_back(standin: KmsStandin, kms: Any, kek: str) -> None:
    standin.set_faults(Fault("KMSInternalException"))
    standin.set_quota(0.001)
    standin.set_latency(60.0)
    standin.deny("standin-admin", "kms:Encrypt")
    standin.clear_faults()
    assert outcomes(kms, kek, 5) == [True] * 5


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown fault 'Nonsense'"):
        Fault("Nonsense")


# Throttling and latency


def test_calls_above_the_quota_are_throttled(standin: KmsStandin, kms: Any, kek: str) -> None:
    standin.set_quota(0.01, burst=3)
    assert outcomes(kms, kek, 5) == [True, True, True, False, False]
    assert standin.counters().errors == {"ThrottlingException": 2}
    kms.describe_key(KeyId=kek)  # not a call of that quota


def test_the_quota_fills_up_again(standin: KmsStandin, kms: Any, kek: str) -> None:
    standin.set_quota(2.0, burst=1)
    assert outcomes(kms, kek, 1) == [True]
    time.sleep(0.6)
    assert outcomes(kms, kek, 1) == [True]


def test_an_answer_comes_late(standin: KmsStandin, kms: Any, kek: str) -> None:
    standin.set_latency(0.2)
    started = time.monotonic()
    wrapped(kms, kek)
    assert time.monotonic() - started >= 0.195


def test_late_answers_do_not_wait_for_each_other(standin: KmsStandin, kek: str) -> None:
    standin.set_latency(1.0)
    connections = [connect(standin) for _ in range(60)]
    started = time.monotonic()
    for connection in connections:
        connection.sendall(raw_request(standin))
    for connection in connections:
        assert read_answer(connection).startswith(b"HTTP/1.1 400")
        connection.close()
    assert time.monotonic() - started < 60  # one after another they would take longer


def test_some_answers_are_slow(standin: KmsStandin, kms: Any, kek: str) -> None:
    standin.set_latency(0.0, slow_share=1.0, slow_seconds=0.2)
    started = time.monotonic()
    wrapped(kms, kek)
    assert time.monotonic() - started >= 0.195


# Cut connections


@pytest.mark.parametrize(("kind", "done"), [(CUT_BEFORE, False), (CUT_AFTER, True)])
def test_a_connection_is_cut_without_an_answer(
    standin: KmsStandin, kms: Any, kek: str, kind: str, done: bool
) -> None:
    standin.set_faults(Fault(kind, times=1))
    with pytest.raises((ConnectionClosedError, EndpointConnectionError)):
        kms.disable_key(KeyId=kek)
    assert standin.counters().errors == {kind: 1}
    state = kms.describe_key(KeyId=kek)["KeyMetadata"]["KeyState"]
    assert state == ("Disabled" if done else "Enabled")


def test_an_answer_is_cut_in_the_middle(standin: KmsStandin, kms: Any, kek: str) -> None:
    received: list[tuple[int, int]] = []

    def look(response_dict: dict[str, Any], **_: object) -> None:
        promised = int(response_dict["headers"]["Content-Length"])
        received.append((len(response_dict["body"]), promised))

    kms.meta.events.register("before-parse.kms.Encrypt", look)
    standin.set_faults(Fault(CUT_MIDDLE, times=1))
    # botocore takes half a body for an answer without members: callers have to look for them.
    assert "CiphertextBlob" not in kms.encrypt(KeyId=kek, Plaintext=DEK)
    [(came, promised)] = received
    assert 0 < came < promised
    [call] = standin.journal()
    assert (call["key"], call["error"]) == (kek, CUT_MIDDLE)


# HTTP


def connect(standin: KmsStandin) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", standin.port), timeout=30)
    if standin.ca_bundle is None:
        return plain
    context = ssl.create_default_context(cafile=str(standin.ca_bundle))
    return context.wrap_socket(plain, server_hostname="127.0.0.1")


def raw_request(standin: KmsStandin, *, more: str = "", target: str = "/") -> bytes:
    body = json.dumps({"KeyId": "alias/nobody"})
    return (
        f"POST {target} HTTP/1.1\r\nHost: 127.0.0.1:{standin.port}\r\n{more}"
        f"X-Amz-Target: TrentService.DescribeKey\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def read_answer(connection: socket.socket) -> bytes:
    """One answer, or what came until the connection was closed."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65_536)
        if not piece:
            return data
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65_536)
    assert len(body) == length, "two answers came where one was read"
    return head + b"\r\n\r\n" + body


def test_a_connection_serves_many_requests_in_any_pieces(standin: KmsStandin) -> None:
    with connect(standin) as connection:
        request = raw_request(standin)
        for cut in range(1, len(request), 40):
            connection.sendall(request[:cut])
            connection.sendall(request[cut:])
            assert b"MissingAuthenticationToken" in read_answer(connection)


@pytest.mark.parametrize("latency", [0.0, 0.05])
def test_pipelined_requests_are_answered_in_order(standin: KmsStandin, latency: float) -> None:
    standin.set_latency(latency)
    with connect(standin) as connection:
        connection.sendall(raw_request(standin) + raw_request(standin) + raw_request(standin))
        received = b""
        while received.count(b"MissingAuthenticationToken") < 3:
            piece = connection.recv(65_536)
            assert piece, "the connection was closed before three answers"
            received += piece
    numbers = [
        int(line.rpartition(b"-")[2], 16)
        for line in received.split(b"\r\n")
        if line.startswith(b"x-amzn-RequestId")
    ]
    assert numbers == list(range(numbers[0], numbers[0] + 3))


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"501"),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400"),
    ],
)
def test_what_no_aws_client_sends_is_refused(
    standin: KmsStandin, sent: bytes, status: bytes
) -> None:
    with connect(standin) as connection:
        connection.sendall(sent)
        assert read_answer(connection).split(b" ")[1] == status
        assert connection.recv(1) == b""


def test_connection_close_is_honoured(standin: KmsStandin) -> None:
    with connect(standin) as connection:
        connection.sendall(raw_request(standin, more="Connection: close\r\n"))
        read_answer(connection)
        assert connection.recv(1) == b""


def test_a_request_it_cannot_digest_does_not_stop_it() -> None:
    with KmsStandin.start(verify_signatures=False) as standin, connect(standin) as connection:
        head = "POST / HTTP/1.1\r\nX-Amz-Target: TrentService.Encrypt\r\nAuthorization: x\r\n"
        body = "[" * 100_000  # deeper than the JSON reader can go
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        assert read_answer(connection).split(b" ")[1] == b"500"
        assert standin.kms().list_keys()["Keys"] == []


def test_a_context_may_hold_any_text(standin: KmsStandin, kms: Any, kek: str) -> None:
    context = {"ключ": '\u0000 " \\ 🔑', "lone": "\ud800"}
    blob = wrapped(kms, kek, context)
    opened = kms.decrypt(CiphertextBlob=blob, EncryptionContext=context)
    assert opened["Plaintext"] == DEK
    assert standin.journal()[-1]["context"] == context


def test_nobody_controls_it_without_the_token(standin: KmsStandin) -> None:
    for token in ("", "x-standin-token: guess\r\n"):
        with connect(standin) as connection:
            connection.sendall(raw_request(standin, more=token, target="/_standin"))
            assert read_answer(connection).split(b" ")[1] == b"404"


def test_an_unknown_operation_is_refused(standin: KmsStandin, kms: Any) -> None:
    code = refusal(lambda: kms.create_grant(KeyId="x", GranteePrincipal="y", Operations=[]))
    assert code == "UnknownOperationException"


# TLS


def test_tls_is_verified_against_the_authority_of_the_run() -> None:
    with KmsStandin.start(tls=True) as standin, KmsStandin.start(tls=True) as other:
        assert standin.kms().list_keys()["Keys"] == []
        own, standin.ca_bundle = standin.ca_bundle, other.ca_bundle
        stranger = standin.kms()
        with pytest.raises(SSLError):
            stranger.list_keys()
        standin.ca_bundle = own


def test_other_processes_are_sent_here_by_the_environment(
    standin: KmsStandin, kek: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    boto3 = pytest.importorskip("boto3")
    for name, value in standin.environment().items():
        monkeypatch.setenv(name, value)
    client = boto3.Session().client("kms")
    assert client.describe_key(KeyId=kek)["KeyMetadata"]["Arn"] == kek
    client.close()


def test_nothing_is_left_after_stop() -> None:
    standin = KmsStandin.start(tls=True)
    bundle = standin.ca_bundle
    assert bundle is not None
    standin.stop()
    assert not bundle.exists()

    def refused() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", standin.port)) != 0

    assert eventually(refused)
