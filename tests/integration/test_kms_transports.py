"""Both ways to KMS, held against each other: same answers, same errors, same patience."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol

import pytest
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import CredentialRetrievalError
from botocore.session import Session

from dekctl.errors import KMSError, KMSRefusedError, KMSUnavailableError, RowRejectedError
from dekctl.kms.boto import BotoTransport
from dekctl.kms.limiter import RateLimiter
from dekctl.kms.retry import CancelledError, RetryPolicy
from support.kms_standin import CUT_AFTER, CUT_BEFORE, CUT_MIDDLE, NO_BODY, Fault, KmsStandin
from support.scripted_endpoint import Reply, ScriptedEndpoint, Seen, refusal

pytest.importorskip("pycurl")

from dekctl.kms.curl import CurlTransport

Kind = Literal["boto3", "curl"]
AnyTransport = BotoTransport | CurlTransport
QUICK = RetryPolicy(patience=20, first_contact=20, access_grace=0.3, base=0.01, longest=0.1)
ANSWER = json.dumps({"CiphertextBlob": "d3JhcHBlZA==", "KeyId": "arn:x"}).encode()
SECRET = b"key material 0123456789abcdef..."
REQUEST = {"KeyId": "alias/app-dek", "Plaintext": SECRET, "EncryptionContext": {"a": "b"}}


LOADER = Session().get_component("data_loader")


def new_session() -> Session:
    """A botocore session that does not read the API's model from disk once more."""
    session = Session()
    session.register_component("data_loader", LOADER)
    return session


class Make(Protocol):
    def __call__(self, kind: Kind, url: str, **options: Any) -> AnyTransport: ...


@pytest.fixture(scope="module")
def standin() -> Iterator[KmsStandin]:
    with KmsStandin.start(tls=True) as running:
        yield running


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, standin: KmsStandin) -> Iterator[None]:
    for name in [*os.environ]:
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    for name, value in standin.environment().items():
        if name != "AWS_ENDPOINT_URL":
            monkeypatch.setenv(name, value)
    yield
    standin.clear_faults()


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[AnyTransport] = []

    def connect(kind: Kind, url: str, **options: Any) -> AnyTransport:
        transport = CurlTransport if kind == "curl" else BotoTransport
        settings: dict[str, Any] = {"session": new_session(), "concurrency": 8, "policy": QUICK}
        settings.update(options)
        session = settings.pop("session")
        made.append(transport(session, region="us-east-1", endpoint_url=url, **settings))
        return made[-1]

    yield connect
    for transport in made:
        transport.close()


@pytest.fixture(params=["boto3", "curl"])
def kind(request: pytest.FixtureRequest) -> Kind:
    name: Kind = request.param
    return name


def good(answers: list[dict[str, Any] | KMSError]) -> list[dict[str, Any]]:
    """Return the answers without metadata; fail on any error."""
    for answer in answers:
        if isinstance(answer, KMSError):
            raise answer
    return [
        {name: value for name, value in answer.items() if name != "ResponseMetadata"}
        for answer in answers
        if isinstance(answer, dict)
    ]


def bad(answers: list[dict[str, Any] | KMSError]) -> list[KMSError]:
    assert all(isinstance(answer, KMSError) for answer in answers), "a call should have failed"
    return [answer for answer in answers if isinstance(answer, KMSError)]


# Answers


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
        thread.join(timeout=60)
    assert not failures
    assert not any(thread.is_alive() for thread in threads)


def test_no_requests_need_no_call(make: Make, kind: Kind) -> None:
    assert make(kind, "http://127.0.0.1:9").call_many("Encrypt", []) == []


# Errors


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


# Retries


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
        assert "the answer is not KMS's" in error.message
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
        assert 2 < len(endpoint.seen) < 200


def test_denied_calls_are_tried_for_the_grace_only(
    standin: KmsStandin, make: Make, kind: Kind
) -> None:
    arn = standin.create_key()
    nobody = standin.put_user("nobody", [])
    session = new_session()
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


# Rate and concurrency


def test_throttling_slows_the_calls_down(standin: KmsStandin, make: Make, kind: Kind) -> None:
    arn = standin.create_key()
    limiter = RateLimiter(None)
    transport = make(kind, standin.endpoint_url, limiter=limiter, concurrency=16)
    standin.set_faults(Fault("ThrottlingException", times=3, apis=("Encrypt",)))
    good(transport.call_many("Encrypt", [{"KeyId": arn, "Plaintext": b"x"}] * 20))
    snapshot = limiter.snapshot()
    assert snapshot.throttles == 3
    assert snapshot.rate is not None


def test_the_rate_is_never_exceeded(standin: KmsStandin, make: Make, kind: Kind) -> None:
    arn = standin.create_key()
    transport = make(kind, standin.endpoint_url, limiter=RateLimiter(50), concurrency=16)
    started = time.monotonic()
    good(transport.call_many("Encrypt", [{"KeyId": arn, "Plaintext": b"x"}] * 100))
    # Slower is the machine's affair, faster would be the limiter's fault.
    assert time.monotonic() - started >= (100 - 1) / 50


@pytest.mark.parametrize("concurrency", [1, 5])
def test_no_more_calls_are_in_flight_than_allowed(make: Make, kind: Kind, concurrency: int) -> None:
    def answer(_: Seen) -> Reply:
        time.sleep(0.01)
        return Reply(200, ANSWER)

    with ScriptedEndpoint(answer) as endpoint:
        good(make(kind, endpoint.url, concurrency=concurrency).call_many("Encrypt", [REQUEST] * 40))
        assert endpoint.most_at_once <= concurrency


def test_concurrency_changes_while_calls_run(make: Make) -> None:
    gate = threading.Semaphore(0)

    def answer(_: Seen) -> Reply:
        gate.acquire(timeout=20)
        return Reply(200, ANSWER)

    with ScriptedEndpoint(answer) as endpoint:
        transport = make("curl", endpoint.url, concurrency=2)
        assert isinstance(transport, CurlTransport)
        thread = threading.Thread(target=transport.call_many, args=("Encrypt", [REQUEST] * 40))
        thread.start()
        wait_for(lambda: len(endpoint.seen) == 2)
        transport.set_concurrency(6)
        wait_for(lambda: len(endpoint.seen) == 6)
        transport.set_concurrency(1)
        gate.release(6)
        wait_for(lambda: len(endpoint.seen) == 7)
        assert endpoint.most_at_once == 6
        gate.release(40)
        thread.join(timeout=20)
        assert not thread.is_alive()
        assert len(endpoint.seen) == 40


def test_concurrency_may_change_while_boto3_s_calls_are_handed_out(make: Make) -> None:
    class Slow(ThreadPoolExecutor):
        """A pool that is exchanged just as it takes up work, if that can be."""

        def submit(self, *args: Any, **options: Any) -> Any:
            thread = threading.Thread(target=transport.set_concurrency, args=(3,))
            thread.start()
            thread.join(timeout=0.2)
            threads.append(thread)
            return super().submit(*args, **options)

    threads: list[threading.Thread] = []
    with ScriptedEndpoint(lambda _: Reply(200, ANSWER)) as endpoint:
        made = make("boto3", endpoint.url, concurrency=2)
        assert isinstance(made, BotoTransport)
        transport = made
        transport._pool.shutdown()
        transport._pool = Slow(2)
        assert len(good(transport.call_many("Encrypt", [REQUEST] * 4))) == 4
        for thread in threads:
            thread.join(timeout=20)
        assert len(good(transport.call_many("Encrypt", [REQUEST] * 4))) == 4


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 20 seconds"
        time.sleep(0.005)


# Ends


@pytest.mark.parametrize("rate", [None, 0])
def test_cancelling_ends_the_waiting_at_once(make: Make, kind: Kind, rate: float | None) -> None:
    cancel = threading.Event()
    patient = RetryPolicy(patience=600, base=100, longest=100)
    with ScriptedEndpoint(lambda _: refusal(400, "ThrottlingException")) as endpoint:
        transport = make(
            kind, endpoint.url, cancel=cancel, limiter=RateLimiter(rate), policy=patient
        )
        threading.Timer(0.5, cancel.set).start()
        started = time.monotonic()
        answers = bad(transport.call_many("Encrypt", [REQUEST] * 30))
        assert time.monotonic() - started < 30, "the back-off of 100 seconds was waited for"
    assert all(isinstance(answer, CancelledError) for answer in answers)


def test_cancelling_gives_up_on_answers_that_do_not_come(make: Make, kind: Kind) -> None:
    cancel, hold = threading.Event(), threading.Event()

    def answer(_: Seen) -> Reply:
        hold.wait(20)
        return Reply(200, ANSWER)

    with ScriptedEndpoint(answer) as endpoint:
        transport = make(kind, endpoint.url, cancel=cancel)
        threading.Timer(0.2, cancel.set).start()
        answers = bad(transport.call_many("Encrypt", [REQUEST] * 30))
        hold.set()
    assert all(isinstance(answer, CancelledError) for answer in answers)


def test_a_closed_transport_refuses(standin: KmsStandin, make: Make, kind: Kind) -> None:
    transport = make(kind, standin.endpoint_url)
    transport.close()
    transport.close()
    with pytest.raises(KMSRefusedError, match="closed"):
        transport.call_many("Encrypt", [REQUEST])


def test_closing_ends_calls_that_wait(make: Make) -> None:
    transport = make("curl", "http://127.0.0.1:9", limiter=RateLimiter(0))
    errors: list[KMSError] = []

    def work() -> None:
        try:
            transport.call_many("Encrypt", [REQUEST])
        except KMSError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.1)
    transport.close()
    thread.join(timeout=20)
    assert [str(error) for error in errors] == ["the connection to KMS is closed"]


# Trust and credentials


def test_an_unknown_authority_is_not_trusted(
    standin: KmsStandin, make: Make, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE")
    calls: list[str] = []
    transport = make(kind, standin.endpoint_url, count=calls.append)
    error = bad(transport.call_many("Encrypt", [REQUEST]))[0]
    assert isinstance(error, KMSUnavailableError)
    assert "no trusted TLS connection" in str(error)
    assert len(calls) == 1, "trying again cannot help"


def test_a_certificate_for_another_name_is_not_trusted(standin: KmsStandin, make: Make) -> None:
    # libcurl itself knows that all names under localhost are this machine.
    url = standin.endpoint_url.replace("127.0.0.1", "another.localhost")
    error = bad(make("curl", url).call_many("Encrypt", [REQUEST]))[0]
    assert "no trusted TLS connection" in str(error)


def test_without_credentials_the_whole_call_fails(
    make: Make, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    with pytest.raises(KMSRefusedError, match="no AWS credentials") as caught:
        make(kind, "http://127.0.0.1:9").call_many("Encrypt", [REQUEST] * 20)
    assert caught.value.code == "NoCredentialsError"


def test_refreshed_credentials_are_used(make: Make, kind: Kind) -> None:
    made = 0

    def refresh() -> dict[str, str]:
        nonlocal made
        made += 1
        # The first ones are over at once, so that botocore has to ask for others.
        left = timedelta(seconds=1) if made == 1 else timedelta(hours=1)
        return {
            "access_key": f"AKID{made}",
            "secret_key": "secret",
            "token": f"token-{made}",
            "expiry_time": (datetime.now(UTC) + left).isoformat(),
        }

    session: Any = new_session()
    session._credentials = RefreshableCredentials.create_from_metadata(refresh(), refresh, "test")
    with ScriptedEndpoint(lambda _: Reply(200, ANSWER)) as endpoint:
        transport = make(kind, endpoint.url, session=session)
        good(transport.call_many("Encrypt", [REQUEST]))
        wait_for(
            lambda: (
                bool(good(transport.call_many("Encrypt", [REQUEST])))
                and endpoint.seen[-1].headers["x-amz-security-token"] == "token-2"
            )
        )
        assert "Credential=AKID2/" in endpoint.seen[-1].headers["authorization"]


@pytest.mark.parametrize("left", [timedelta(minutes=14), timedelta(minutes=5)])
def test_a_refresh_that_hangs_does_not_hold_up_calls_with_valid_credentials(
    make: Make, left: timedelta
) -> None:
    asked, stuck = threading.Event(), threading.Event()

    def refresh() -> dict[str, str]:
        asked.set()
        stuck.wait(20)
        raise CredentialRetrievalError(provider="test", error_msg="nobody answers")

    session: Any = new_session()
    expiry = datetime.now(UTC) + timedelta(hours=1)
    session._credentials = RefreshableCredentials("A", "B", "T", expiry, refresh, "test")
    with ScriptedEndpoint(lambda _: Reply(200, ANSWER)) as endpoint:
        transport = make("curl", endpoint.url, session=session)
        good(transport.call_many("Encrypt", [REQUEST]))
        session._credentials._expiry_time = datetime.now(UTC) + left
        started = time.monotonic()
        wait_for(lambda: bool(good(transport.call_many("Encrypt", [REQUEST]))) and asked.is_set())
        for _ in range(20):
            good(transport.call_many("Encrypt", [REQUEST] * 5))
        assert time.monotonic() - started < 5
        stuck.set()
        good(transport.call_many("Encrypt", [REQUEST] * 5))


def test_credentials_that_expired_and_are_not_refreshed_fail_the_call(make: Make) -> None:
    def refresh() -> dict[str, str]:
        raise CredentialRetrievalError(provider="test", error_msg="nobody answers")

    session: Any = new_session()
    expiry = datetime.now(UTC) - timedelta(seconds=1)
    session._credentials = RefreshableCredentials("A", "B", "T", expiry, refresh, "test")
    transport = make("curl", "http://127.0.0.1:9", session=session)
    with pytest.raises(KMSRefusedError, match="nobody answers"):
        transport.call_many("Encrypt", [REQUEST])


def test_a_wrong_clock_is_corrected_from_the_answer(make: Make) -> None:
    ahead = timedelta(hours=1)

    def answer(seen: Seen) -> Reply:
        now = datetime.now(UTC) + ahead
        signed = datetime.strptime(seen.headers["x-amz-date"], "%Y%m%dT%H%M%S%z")
        if abs(now - signed) > timedelta(minutes=5):
            date = now.strftime("%a, %d %b %Y %H:%M:%S GMT")
            body = refusal(400, "InvalidSignatureException", "Signature expired").body
            return Reply(400, body, {"Date": date})
        return Reply(200, ANSWER)

    with ScriptedEndpoint(answer) as endpoint:
        transport = make("curl", endpoint.url, concurrency=4)
        good(transport.call_many("Encrypt", [REQUEST] * 12))
        assert len(endpoint.seen) <= 12 + 4, "each call in flight may fail once, no more"


def test_a_wrong_signature_is_not_repaired_by_the_clock(make: Make, kind: Kind) -> None:
    with ScriptedEndpoint(lambda _: refusal(403, "InvalidSignatureException")) as endpoint:
        error = bad(make(kind, endpoint.url).call_many("Encrypt", [REQUEST]))[0]
        assert isinstance(error, KMSRefusedError)
        assert len(endpoint.seen) == 1


def test_the_proxy_of_the_environment_is_used(
    make: Make, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedEndpoint(lambda _: Reply(200, ANSWER)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        good(make(kind, "http://kms.example:1234").call_many("Encrypt", [REQUEST]))
        assert proxy.seen[0].path == "http://kms.example:1234/"
        assert proxy.seen[0].headers["host"] == "kms.example:1234"


# Secrets


def test_no_key_material_in_errors(make: Make, kind: Kind) -> None:
    texts: list[str] = []
    replies = [
        Reply(400, b'{"__type": "ValidationException"}'),
        Reply(400, b"not json"),
        Reply(200, b"not json"),
    ]
    for reply in replies:
        with ScriptedEndpoint(lambda _, reply=reply: reply) as endpoint:  # type: ignore[misc]
            policy = RetryPolicy(patience=0.1, first_contact=0.1)
            transport = make(kind, endpoint.url, policy=policy)
            for request in (REQUEST, {**REQUEST, "Plaintext": [SECRET]}):
                error = bad(transport.call_many("Encrypt", [request]))[0]
                texts += [str(error), repr(error), str(error.hint), repr(error.__context__)]
    encoded = base64.b64encode(SECRET).decode()
    assert not any(SECRET.decode() in text or encoded in text for text in texts)
