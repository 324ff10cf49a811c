"""Both ways to KMS trust the same certificates, credentials and clocks, and show no key."""

from __future__ import annotations

import base64
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import CredentialRetrievalError
from botocore.session import Session

from dekctl.errors import KMSRefusedError, KMSUnavailableError
from dekctl.kms.aws.retry import RetryPolicy
from support.kms_standin import KmsStandin
from support.scripted_endpoint import Reply, ScriptedEndpoint, Seen, refusal
from support.transports import (
    ANSWER,
    REQUEST,
    SECRET,
    Kind,
    Make,
    bad,
    good,
)
from support.waiting import PATIENCE_SECONDS, wait_until


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

    session: Any = Session()
    session._credentials = RefreshableCredentials.create_from_metadata(refresh(), refresh, "test")
    with ScriptedEndpoint(lambda _: Reply(200, ANSWER)) as endpoint:
        transport = make(kind, endpoint.url, session=session)
        good(transport.call_many("Encrypt", [REQUEST]))
        wait_until(
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
        stuck.wait(PATIENCE_SECONDS)
        raise CredentialRetrievalError(provider="test", error_msg="nobody answers")

    session: Any = Session()
    expiry = datetime.now(UTC) + timedelta(hours=1)
    session._credentials = RefreshableCredentials("A", "B", "T", expiry, refresh, "test")
    with ScriptedEndpoint(lambda _: Reply(200, ANSWER)) as endpoint:
        transport = make("curl", endpoint.url, session=session)
        good(transport.call_many("Encrypt", [REQUEST]))
        session._credentials._expiry_time = datetime.now(UTC) + left
        started = time.monotonic()
        wait_until(lambda: bool(good(transport.call_many("Encrypt", [REQUEST]))) and asked.is_set())
        for _ in range(20):
            good(transport.call_many("Encrypt", [REQUEST] * 5))
        assert time.monotonic() - started < PATIENCE_SECONDS / 2
        stuck.set()
        good(transport.call_many("Encrypt", [REQUEST] * 5))


def test_credentials_that_expired_and_are_not_refreshed_fail_the_call(make: Make) -> None:
    def refresh() -> dict[str, str]:
        raise CredentialRetrievalError(provider="test", error_msg="nobody answers")

    session: Any = Session()
    expiry = datetime.now(UTC) - timedelta(seconds=1)
    session._credentials = RefreshableCredentials("A", "B", "T", expiry, refresh, "test")
    transport = make("curl", "http://127.0.0.1:9", session=session)
    with pytest.raises(KMSUnavailableError, match="nobody answers"):
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
        transport = make(kind, "http://kms.example:1234", allow_plain_http=True)
        good(transport.call_many("Encrypt", [REQUEST]))
        assert proxy.seen[0].path == "http://kms.example:1234/"
        assert proxy.seen[0].headers["host"] == "kms.example:1234"


def test_no_key_material_in_errors(make: Make, kind: Kind) -> None:
    texts: list[str] = []
    replies = [
        Reply(400, b'{"__type": "ValidationException"}'),
        Reply(400, b"not json"),
        Reply(200, b"not json"),
    ]
    for reply in replies:
        with ScriptedEndpoint(lambda _, reply=reply: reply) as endpoint:  # type: ignore[misc]  # a lambda has no types
            policy = RetryPolicy(patience=0.1, first_contact=0.1)
            transport = make(kind, endpoint.url, policy=policy)
            for request in (REQUEST, {**REQUEST, "Plaintext": [SECRET]}):
                error = bad(transport.call_many("Encrypt", [request]))[0]
                texts += [str(error), repr(error), str(error.hint), repr(error.__context__)]
    encoded = base64.b64encode(SECRET).decode()
    assert not any(SECRET.decode() in text or encoded in text for text in texts)
