"""Signatures, hosts and endpoints, held against botocore's own."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.credentials import ReadOnlyCredentials
from botocore.session import Session

from dekctl.kms.aws.session import create_client
from dekctl.kms.aws.sigv4 import Signer, host_header
from dekctl.kms.aws.transport import TransportOptions

pytest.importorskip("pycurl")

from dekctl.kms.aws.curl.handle import Service, proxy_for

MOMENT = dt.datetime(2026, 2, 28, 23, 59, 58, tzinfo=dt.timezone.utc)  # noqa: UP017
BODY = b'{"KeyId": "alias/app-dek", "Plaintext": "c2VjcmV0"}'
LONG_TERM = ReadOnlyCredentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCY", None)
SESSION = ReadOnlyCredentials("ASIAEXAMPLE", "another/secret", "a-session-token//+==")


class Clock:
    def __init__(self) -> None:
        self.now = MOMENT

    def __call__(self) -> float:
        return self.now.timestamp()


def botocore_authorization(
    monkeypatch: pytest.MonkeyPatch,
    moment: dt.datetime,
    url: str,
    region: str,
    credentials: ReadOnlyCredentials,
) -> str:
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_: moment)
    headers = {
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Target": "TrentService.Encrypt",
        "User-Agent": "not signed",
    }
    request = AWSRequest(method="POST", url=url, data=BODY, headers=headers)
    botocore.auth.SigV4Auth(credentials, "kms", region).add_auth(request)
    authorization = request.headers["Authorization"]
    assert isinstance(authorization, str)
    return authorization


def our_headers(signer: Signer, credentials: ReadOnlyCredentials) -> dict[str, str]:
    lines = signer.headers("TrentService.Encrypt", BODY, credentials)
    return dict(line.split(": ", 1) for line in lines)


@pytest.mark.parametrize("credentials", [LONG_TERM, SESSION], ids=["long-term", "session"])
@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://kms.us-east-1.amazonaws.com", "us-east-1"),
        ("https://kms-fips.us-gov-west-1.amazonaws.com/", "us-gov-west-1"),
        ("http://127.0.0.1:4566", "eu-central-1"),
        ("http://[::1]:4566/", "eu-central-1"),
        ("https://Proxy.Example:443/some//path/../kms~", "eu-west-3"),
    ],
)
def test_signature_is_botocores(
    monkeypatch: pytest.MonkeyPatch, url: str, region: str, credentials: ReadOnlyCredentials
) -> None:
    expected = botocore_authorization(monkeypatch, MOMENT, url, region, credentials)
    headers = our_headers(Signer(url, region, clock=MOMENT.timestamp), credentials)
    assert headers["authorization"] == expected
    assert headers.get("x-amz-security-token") == credentials.token


def test_cached_parts_follow_the_clock_the_day_and_the_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, region = "https://kms.us-east-1.amazonaws.com", "us-east-1"
    clock = Clock()
    signer = Signer(url, region, clock=clock)
    for seconds, credentials in [(0, LONG_TERM), (1, SESSION), (1, LONG_TERM), (3, LONG_TERM)]:
        clock.now = MOMENT + dt.timedelta(seconds=seconds)  # the last one is on the next day
        expected = botocore_authorization(monkeypatch, clock.now, url, region, credentials)
        assert our_headers(signer, credentials)["authorization"] == expected


def test_skew_moves_the_signing_time() -> None:
    signer = Signer("https://kms.us-east-1.amazonaws.com", "us-east-1", clock=MOMENT.timestamp)
    signer.skew = -3600.0
    assert our_headers(signer, LONG_TERM)["x-amz-date"] == "20260228T225958Z"


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://kms.us-east-1.amazonaws.com/", "kms.us-east-1.amazonaws.com"),
        ("https://LOCALHOST:443", "localhost"),
        ("http://localhost:80", "localhost"),
        ("http://localhost:443", "localhost:443"),
        ("http://[::1]:4566", "[::1]:4566"),
    ],
)
def test_host_header_names_no_default_port(url: str, host: str) -> None:
    assert host_header(url) == host


def sent_by_botocore(client: Any) -> tuple[str, str]:
    """Return the URL and the Region that botocore really uses for a call."""
    caught: list[Any] = []

    def answer(request: Any, **_: Any) -> Any:
        caught.append(request)
        response: Any = AWSResponse(request.url, 200, HTTPHeaders(), None)
        response._content = b"{}"
        return response

    client.meta.events.register("before-send.kms", answer)
    client.generate_random(NumberOfBytes=1)
    scope = caught[0].headers["Authorization"].decode().split("Credential=")[1].split("/")
    return caught[0].url, scope[2]


@pytest.mark.parametrize(
    ("environment", "region", "endpoint_url"),
    [
        ({}, "us-east-1", None),
        ({"AWS_USE_FIPS_ENDPOINT": "true"}, "us-east-1", None),
        ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "eu-west-1", None),
        ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "us-iso-east-1", None),
        ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "us-isob-east-1", None),
        ({"AWS_ENDPOINT_URL_KMS": "https://vpce-1.kms.vpce.amazonaws.com"}, "eu-west-1", None),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:4566/"}, "eu-west-1", None),
        ({"AWS_DEFAULT_REGION": "ap-south-2"}, None, None),
        ({}, "cn-north-1", None),
        ({}, "us-east-1-fips", None),
        ({}, "eu-west-1", "https://kms.example/prefix"),
    ],
)
def test_endpoint_and_region_are_those_that_botocore_uses(
    aws_environment: Callable[..., Session],
    environment: dict[str, str],
    region: str | None,
    endpoint_url: str | None,
) -> None:
    session = aws_environment(**environment)
    client = create_client(session, TransportOptions(region=region, endpoint_url=endpoint_url))
    service = Service.of(client, session)
    url, signing_region = sent_by_botocore(client)
    assert service.url.removesuffix("/") == url.removesuffix("/")
    assert service.region == signing_region


def test_ca_bundle_is_botocores(aws_environment: Callable[..., Session]) -> None:
    def bundle(**environment: str) -> str:
        session = aws_environment(**environment)
        options = TransportOptions(region="us-east-1", endpoint_url=None)
        return Service.of(create_client(session, options), session).ca_bundle

    assert bundle(AWS_CA_BUNDLE="/a.pem", REQUESTS_CA_BUNDLE="/b.pem") == "/a.pem"
    assert bundle(REQUESTS_CA_BUNDLE="/b.pem") == "/b.pem"
    assert bundle().endswith("cacert.pem")


def test_proxy_is_the_environments(aws_environment: Callable[..., Session]) -> None:
    aws_environment(HTTPS_PROXY="http://proxy.example:3128", NO_PROXY="inside.example")
    assert proxy_for("https://kms.us-east-1.amazonaws.com") == "http://proxy.example:3128"
    assert proxy_for("https://kms.inside.example") == ""
    assert proxy_for("http://kms.us-east-1.amazonaws.com") == ""


@pytest.fixture
def aws_environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Session]:
    """Makes sessions in an environment of nothing but fake credentials and what is given."""

    def session(**environment: str) -> Session:
        for name in [
            *(f"AWS_{rest}" for rest in ("CA_BUNDLE", "PROFILE", "REGION", "DEFAULT_REGION")),
            *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS", "REQUESTS_CA_BUNDLE"),
            *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
            *("ALL_PROXY", "all_proxy"),
        ]:
            monkeypatch.delenv(name, raising=False)
        fixed = {
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_CONFIG_FILE": "/nonexistent",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        for name, value in {**fixed, **environment}.items():
            monkeypatch.setenv(name, value)
        return Session()

    return session
