"""AWS KMS inside an application: its logs, its forked workers, and how long it waits."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import boto3
import pytest

from dekctl.kms import AWSKMS
from dekctl.kms.connect import TransportKind
from support.kms_standin import KmsStandin
from support.secrets import assert_hidden

CONTEXT = {"dekctl:table": "files", "dekctl:pk": "7"}


@pytest.fixture(params=["boto3", "curl"])
def transport(request: pytest.FixtureRequest) -> TransportKind:
    if request.param == "curl":
        pytest.importorskip("pycurl")
    kind: TransportKind = request.param
    return kind


@pytest.fixture
def provider(
    environ: dict[str, str], kms_standin: KmsStandin, transport: TransportKind
) -> Iterator[AWSKMS]:
    made = AWSKMS(kms_standin.create_key(), transport=transport, concurrency=2)
    yield made
    made.close()


def test_an_application_that_logs_everything_logs_no_key(
    provider: AWSKMS, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    dek = os.urandom(32)
    assert provider.unwrap(provider.wrap(dek, CONTEXT), CONTEXT) == dek
    issued, wrapped = provider.generate(32, CONTEXT)
    assert provider.unwrap(wrapped.blob, CONTEXT) == issued.plaintext
    request = {"KeyId": provider.key_id, "Plaintext": dek}
    provider.call(
        "Decrypt", {"CiphertextBlob": provider.call("Encrypt", request)["CiphertextBlob"]}
    )
    assert_hidden(caplog.text, [dek, issued.plaintext], "the log")

    caplog.clear()
    boto3.client("kms").list_keys()
    assert "Response body" in caplog.text, "the application's own calls are logged as before"
