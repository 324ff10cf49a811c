"""Data keys never cross a network in clear text, wherever the endpoint is set, unless allowed."""

from __future__ import annotations

from pathlib import Path

import boto3
import pytest

from dekctl.errors import KMSError, UsageError
from dekctl.kms import AWSKMS
from dekctl.kms.aws.assume_role import assumed_session
from dekctl.kms.aws.session import is_plain_http
from dekctl.kms.aws.transport import TransportKind
from support.app import AppDatabase
from support.cli import Dekctl

# Nothing answers there: TEST-NET-1 of RFC 5737.
PLAIN = "http://192.0.2.7:4566"
KEK = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"


def set_in_file(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    file = folder / "aws-config"
    file.write_text(text)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))


@pytest.fixture(params=["kms variable", "variable", "profile", "services", "argument"])
def endpoint(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str | None:
    """Each place where an endpoint can be set; the argument where it is that."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not a secret")
    match request.param:
        case "kms variable":
            monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", PLAIN)
        case "variable":
            monkeypatch.setenv("AWS_ENDPOINT_URL", PLAIN)
        case "profile":
            set_in_file(tmp_path, monkeypatch, f"[default]\nendpoint_url = {PLAIN}\n")
        case "services":
            text = f"[default]\nservices = here\n[services here]\nkms =\n  endpoint_url = {PLAIN}\n"
            set_in_file(tmp_path, monkeypatch, text)
        case _:
            return PLAIN
    return None


@pytest.mark.parametrize("transport", ["boto3", "curl"])
def test_the_library_refuses_a_plain_endpoint_wherever_it_is_set(
    endpoint: str | None, transport: TransportKind
) -> None:
    if transport == "curl":
        pytest.importorskip("pycurl")
    kms = AWSKMS(KEK, region="us-east-1", endpoint_url=endpoint, transport=transport)
    with pytest.raises(UsageError, match="clear text"):
        kms.wrap(bytes(range(32)))
    with pytest.raises(UsageError, match="clear text"):
        kms.describe(KEK)
    kms.close()


def test_what_is_allowed_is_called(endpoint: str | None) -> None:
    kms = AWSKMS(KEK, region="us-east-1", endpoint_url=endpoint, allow_plain_http=True)
    assert kms.endpoint == PLAIN
    kms.close()


@pytest.mark.parametrize("transport", ["boto3", "curl"])
@pytest.mark.parametrize("place", ["STS variable", "profile", "argument"])
def test_no_role_is_assumed_over_plain_http(
    place: str, transport: TransportKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if transport == "curl":
        pytest.importorskip("pycurl")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not a secret")
    if place == "STS variable":
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", PLAIN)
    elif place == "profile":
        text = f"[default]\nservices = here\n[services here]\nsts =\n  endpoint_url = {PLAIN}\n"
        set_in_file(tmp_path, monkeypatch, text)
    session = assumed_session(
        boto3.Session(),
        "arn:aws:iam::111122223333:role/wrapper",
        region="us-east-1",
        endpoint_url=PLAIN if place == "argument" else None,
    )
    kms = AWSKMS(
        KEK,
        region="us-east-1",
        endpoint_url="https://192.0.2.7",
        session=session,
        transport=transport,
    )
    with pytest.raises(UsageError, match=f"{PLAIN} is plain HTTP"):
        kms.wrap(bytes(range(32)))
    kms.close()


def test_every_command_refuses_it_and_one_setting_allows_it(
    sqlite_database: AppDatabase, dekctl: Dekctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite_database.sql(
        "CREATE TABLE encrypted_files (id INTEGER PRIMARY KEY, encryption_key BLOB)"
    )
    dek = bytes(range(32))
    dekctl.hidden.append(dek)
    sqlite_database.sql("INSERT INTO encrypted_files VALUES (1, :dek)", dek=dek)
    config = (
        f'[env.test]\ndatabase_url = "{sqlite_database.url}"\nprovider = "aws"\n'
        f'kek = "{KEK}"\nregion = "us-east-1"\n'
    )
    dekctl.configure(config)
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "not a secret"),
        ("AWS_ENDPOINT_URL_KMS", PLAIN),
    ):
        dekctl.environ[name] = value
    dekctl.json("schema", "expand")
    said = dekctl("wrap").expect(2).stderr
    assert f"{PLAIN} is plain HTTP" in said
    assert "allow_plain_http = true" in said
    checks = {check["check"]: check for check in dekctl.json("doctor", expect=2)["checks"]}
    assert not checks["endpoint"]["ok"]

    dekctl.configure(config + "allow_plain_http = true\n")
    unreachable = KMSError("not reached in this test")

    def fail(*_: object) -> None:
        raise unreachable

    monkeypatch.setattr(AWSKMS, "call", fail)
    monkeypatch.setattr(AWSKMS, "wrap_many", fail)
    assert "not reached" in dekctl("wrap").expect(5).stderr
    checks = {check["check"]: check for check in dekctl.json("doctor", expect=5)["checks"]}
    assert checks["endpoint"]["ok"]
    assert "clear text" in checks["endpoint"]["detail"]


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("https://kms.us-east-1.amazonaws.com", False),
        ("http://127.0.0.1:4566", False),
        ("http://127.8.9.1", False),
        ("http://[::1]:4566", False),
        ("http://localhost:4566", False),
        ("http://localhost.example.com", True),
        ("http://localstack:4566", True),
        ("http://10.0.0.1", True),
        ("HTTP://0.0.0.0", True),
    ],
)
def test_only_this_machine_is_no_network(url: str, plain: bool) -> None:
    assert is_plain_http(url) is plain
