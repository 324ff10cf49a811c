"""A KMS stand-in and both ways to it."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from botocore.session import Session

from dekctl.kms.aws.boto import BotoTransport
from dekctl.kms.aws.transport import TransportOptions
from support.kms_standin import KmsStandin
from support.transports import QUICK, Kind, Make

if TYPE_CHECKING:
    from support.transports import AnyTransport

HAS_PYCURL = importlib.util.find_spec("pycurl") is not None
collect_ignore_glob = [] if HAS_PYCURL else ["test_*.py"]


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
    from dekctl.kms.aws.curl.transport import CurlTransport  # noqa: PLC0415 - pycurl is optional

    made: list[AnyTransport] = []

    def connect(kind: Kind, url: str, **options: Any) -> AnyTransport:
        transport = CurlTransport if kind == "curl" else BotoTransport
        session = options.pop("session", None) or Session()
        settings: dict[str, Any] = {"concurrency": 8, "policy": QUICK, **options}
        told = TransportOptions(region="us-east-1", endpoint_url=url, **settings)
        made.append(transport(session, told))
        return made[-1]

    yield connect
    for transport in made:
        transport.close()


@pytest.fixture(params=["boto3", "curl"])
def kind(request: pytest.FixtureRequest) -> Kind:
    name: Kind = request.param
    return name
