"""Errors of drivers, botocore, files and terminals are told as what they are, and are no bugs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from dekctl.errors import DekctlError, KMSRefusedError, UsageError
from dekctl.kms.aws.provider import AWSKMS
from support.app import AppDatabase
from support.cli import Dekctl, Result

ROLE = "role_arn = arn:aws:iam::123456789012:role/x\n"
CREDENTIALS = {
    "the process prints something else": "credential_process = echo Welcome",
    "the process prints too little": "credential_process = echo '{\"Version\": 1}'",
    "the process is not there": "credential_process = no-such-program --json",
    "the process fails": "credential_process = sh -c 'echo no session >&2; exit 3'",
    "the process gives expired ones": "credential_process = echo '"
    '{"Version":1,"AccessKeyId":"a","SecretAccessKey":"b","SessionToken":"c",'
    '"Expiration":"2020-01-01T00:00:00Z"}\'',
    "the process gives no date": "credential_process = echo '"
    '{"Version":1,"AccessKeyId":"a","SecretAccessKey":"b","SessionToken":"c",'
    '"Expiration":"never"}\'',
    "the token's file is gone": f"{ROLE}web_identity_token_file = /nowhere/token",
    "MFA without a terminal": f"{ROLE}source_profile = q\nmfa_serial = arn:aws:iam::1:mfa/u\n"
    "[profile q]\naws_access_key_id = a\naws_secret_access_key = b",
    "SSO without a login": "sso_session = s\nsso_account_id = 1\nsso_role_name = R\n"
    "[sso-session s]\nsso_start_url = https://x.awsapps.com/start\nsso_region = us-east-1",
    "a source profile that is not there": f"{ROLE}source_profile = nobody",
    "a source of a kind that is unknown": f"{ROLE}credential_source = Nowhere",
}


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the only AWS profile there is."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "aws"
    settings = {
        "HOME": tmp_path,
        "AWS_CONFIG_FILE": file,
        "AWS_SHARED_CREDENTIALS_FILE": tmp_path / "none",
        "AWS_PROFILE": "p",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, str(value))
    # No test may ask the person who runs it for a code.
    monkeypatch.setattr("getpass.getpass", _no_terminal)
    return file


def _no_terminal(*_: object) -> str:
    raise EOFError


@pytest.mark.parametrize("transport", ["boto3", "auto"])
@pytest.mark.parametrize("case", CREDENTIALS)
def test_credentials_that_cannot_be_had(profile: Path, case: str, transport: Any) -> None:
    profile.write_text(f"[profile p]\n{CREDENTIALS[case]}\n")
    with pytest.raises(DekctlError) as caught:
        AWSKMS(
            key_id="alias/x",
            region="us-east-1",
            endpoint_url="http://127.0.0.1:9",
            transport=transport,
        ).wrap(b"K" * 32)
    assert isinstance(caught.value, KMSRefusedError | UsageError)
    assert re.search("credential|profile|AWS configuration", caught.value.message)
    assert "\n" not in caught.value.message
    assert "endpoint" not in str(caught.value.hint)


def test_credentials_that_cannot_be_had_end_a_command_with_5(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, profile: Path
) -> None:
    env = {"provider": "aws", "kek": "alias/x", "region": "us-east-1"}
    make_app(sqlite_database, rows=2, env={**env, "endpoint_url": "http://127.0.0.1:9"})
    profile.write_text("[profile p]\ncredential_process = no-such-program\n")
    dekctl.environ |= {name: v for name, v in os.environ.items() if name.startswith("AWS_")}
    dekctl("schema", "expand").expect(0)
    for command in ("wrap", "doctor"):
        result = dekctl(command)
        assert result.exit_code != 1
        assert "no-such-program" in result.stdout + result.stderr
        assert "bug" not in result.stderr


class Refusing(BaseHTTPRequestHandler):
    """A proxy that wants to know who asks."""

    def _refuse(self) -> None:
        self.send_response(407)
        self.send_header("Proxy-Authenticate", "Basic")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_CONNECT = _refuse  # noqa: N815 - the names of the base class

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Such a proxy, which the environment names."""
    server = HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_port}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("transport", ["boto3", "auto"])
def test_a_proxy_that_wants_a_password(proxy: None, scheme: str, transport: Any) -> None:
    with pytest.raises(KMSRefusedError) as caught:
        AWSKMS(
            key_id="alias/x",
            region="us-east-1",
            endpoint_url=f"{scheme}://kms.example.invalid",
            allow_plain_http=True,
            transport=transport,
        ).wrap(b"K" * 32)
    assert "proxy asks for a user and a password (407)" in caught.value.message
    assert "HTTPS_PROXY" in str(caught.value.hint)


# -- the database's URL --------------------------------------------------------------------------

ASYNC = {
    "sqlite": ("sqlite+aiosqlite", ""),
    "postgresql": ("postgresql+asyncpg", "?ssl=disable&prepared_statement_cache_size=0"),
    "mariadb": ("mysql+aiomysql", "?charset=utf8mb4&echo=true"),
}


def test_the_url_of_an_asyncio_application_works(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(app_database, rows=3)
    driver, options = ASYNC[app_database.kind]
    url = driver + app_database.url[app_database.url.index("://") :] + options
    dekctl.configure(f'[env.test]\ndatabase_url = "{url}"\nprovider = "env"\n')
    assert dekctl.json("migrate")["changed"] == 3


@pytest.mark.parametrize("url", ["postgresql://u@127.0.0.1:1/x", "mysql://u@127.0.0.1:1/x"])
def test_an_option_that_the_driver_does_not_know_is_named(dekctl: Dekctl, url: str) -> None:
    dekctl.configure(f'[env.test]\ndatabase_url = "{url}?use_pool=1"\nprovider = "env"\n')
    result = dekctl("status").expect(2)
    assert "'use_pool'" in result.stderr


# -- files and terminals -------------------------------------------------------------------------


def quarantined(database: AppDatabase, dekctl: Dekctl) -> None:
    """A table with a row whose key only UTF-8 can show, and that cannot be wrapped."""
    database.sql("CREATE TABLE encrypted_files (id TEXT PRIMARY KEY, encryption_key BLOB)")
    for pk, dek in (("ключ-1", b"short"), ("ключ-2", b"K" * 32)):
        database.sql("INSERT INTO encrypted_files VALUES (:pk, :dek)", pk=pk, dek=dek)
    dekctl.configure(f'[env.test]\ndatabase_url = "{database.url}"\nprovider = "env"\n')


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii", "utf-8"])
def test_a_terminal_of_any_encoding(
    sqlite_database: AppDatabase, dekctl: Dekctl, encoding: str
) -> None:
    quarantined(sqlite_database, dekctl)
    dekctl.environ["PYTHONIOENCODING"] = encoding
    migrated = in_shell(dekctl, "dekctl migrate --retry-quarantined", encoding).expect(4)
    status = in_shell(dekctl, "dekctl status", encoding).expect(0)
    for shown in (migrated.stdout, status.stdout):
        assert ("ключ-1" if encoding in ("utf-8", "ascii") else "\\u043a") in shown


def in_shell(dekctl: Dekctl, line: str, encoding: str = "utf-8") -> Result:
    """Run a line of a shell."""
    done = subprocess.run(
        ["sh", "-c", line.replace("dekctl", f"{sys.executable} -m dekctl")],
        cwd=dekctl.folder,
        env=dekctl._environment(),
        capture_output=True,
        check=False,
    )
    # click itself takes UTF-8 where the terminal is said to be ASCII.
    decode = "utf-8" if encoding == "ascii" else encoding
    return Result(line, done.returncode, done.stdout.decode(decode), done.stderr.decode(decode))


@pytest.mark.parametrize("option", ["", "--json"])
def test_a_pipe_that_nobody_reads(
    sqlite_database: AppDatabase, dekctl: Dekctl, option: str
) -> None:
    quarantined(sqlite_database, dekctl)
    line = f"(dekctl {option} migrate; echo $? >code) | true; cat code"
    result = in_shell(dekctl, line)
    assert result.stdout.strip() == "4"
    assert "Error" not in result.stderr
    assert "bug" not in result.stderr


def test_a_full_disk(sqlite_database: AppDatabase, dekctl: Dekctl) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    quarantined(sqlite_database, dekctl)
    result = in_shell(dekctl, "dekctl status >/dev/full").expect(1)
    assert "error: cannot write to stdout: No space left on device" in result.stderr
    assert "bug" not in result.stderr


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_configuration_with_a_byte_order_mark(
    sqlite_database: AppDatabase, dekctl: Dekctl, encoding: str
) -> None:
    quarantined(sqlite_database, dekctl)
    file = dekctl.folder / "dekctl.toml"
    file.write_text(file.read_text(encoding="utf-8"), encoding=encoding)
    dekctl("status").expect(0)


def test_a_configuration_that_is_not_utf_8_is_named(dekctl: Dekctl) -> None:
    (dekctl.folder / "dekctl.toml").write_text("[env.test]", encoding="utf-16")
    assert "dekctl.toml is not UTF-8" in dekctl("status").expect(2).stderr
