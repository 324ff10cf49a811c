"""The handle that a test holds: starts the stand-in's process and controls it."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
import ssl
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import boto3
from botocore.config import Config

from sandbox.process import ServerProcess

from .control import PATH, TOKEN_HEADER
from .faults import Fault
from .identity import ADMIN, Credentials, Grant
from .service import Settings
from .tls import make_certificates

if TYPE_CHECKING:
    from types_boto3_kms import KMSClient
    from types_boto3_sts import STSClient

TESTS = Path(__file__).parents[2]
TOOLING = TESTS.parent / "tooling"


@dataclass(frozen=True)
class Counters:
    """Numbers of calls since the last reset; a retried call counts each time.

    ``calls`` and ``succeeded`` are by API, ``principals`` by name, ``errors`` by error name or
    kind of fault.
    """

    calls: dict[str, int]
    succeeded: dict[str, int]
    principals: dict[str, int]
    errors: dict[str, int]


class KmsStandin:
    """A running stand-in for KMS and STS; a context manager."""

    def __init__(
        self, process: ServerProcess, folder: Path, config: dict[str, Any], port: int
    ) -> None:
        self._process = process
        self._folder = folder
        self._token: str = config["token"]
        self._settings = Settings(**config["settings"])
        self._clients: list[KMSClient | STSClient] = []
        self._session = boto3.Session(region_name=self._settings.region)
        self.port = port
        tls = config["server_certificate"] is not None
        self.ca_bundle: Path | None = folder / "ca.pem" if tls else None
        self.endpoint_url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        self.region = self._settings.region
        self.account = self._settings.account
        self.admin = Credentials(
            self._settings.admin_access_key, self._settings.admin_secret_key, ADMIN
        )

    @classmethod
    def start(
        cls,
        *,
        tls: bool = False,
        verify_signatures: bool = True,
        journal_size: int = 1000,
        static: bool = False,
    ) -> Self:
        """Start a stand-in with no keys on a free port of 127.0.0.1; ready in half a second.

        Args:
            tls: listen with a certificate of an authority made for this run (``ca_bundle``).
            verify_signatures: check SigV4; off, unknown access keys are the administrator's.
            journal_size: how many calls the journal holds.
            static: answer every call with ``{}``, to measure the network alone.
        """
        folder = Path(tempfile.mkdtemp(prefix="kms-standin-"))
        try:
            settings = Settings(
                admin_access_key="AKIA" + secrets.token_hex(8).upper(),
                admin_secret_key=secrets.token_urlsafe(30),
                verify_signatures=verify_signatures,
                journal_size=journal_size,
            )
            config: dict[str, Any] = {
                "settings": asdict(settings),
                "token": secrets.token_urlsafe(24),
                "static": static,
                "server_certificate": str(make_certificates(folder)[1]) if tls else None,
            }
            # The folder is ours alone (mode 0700); a command line could be read by everyone.
            (folder / "config.json").write_text(json.dumps(config))
            ready = folder / "ready.json"
            process = ServerProcess.start(
                [sys.executable, "-m", "support.kms_standin", folder],
                log=folder / "kms-standin.log",
                ready=lambda _: ready.exists(),
                environment=_environment(),
            )
            return cls(process, folder, config, json.loads(ready.read_text())["port"])
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def stop(self) -> None:
        """Stop the process; its keys are gone for good."""
        for client in self._clients:
            client.close()
        self._process.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id of the stand-in."""
        return self._process.pid

    # Clients

    def kms(self, credentials: Credentials | None = None, *, attempts: int = 1) -> KMSClient:
        """A boto3 client, of the administrator if nobody is named; closed with the stand-in."""
        who = credentials or self.admin
        client = self._session.client(
            "kms",
            endpoint_url=self.endpoint_url,
            verify=str(self.ca_bundle) if self.ca_bundle else None,
            config=_client_config(attempts),
            aws_access_key_id=who.access_key,
            aws_secret_access_key=who.secret_key,
            aws_session_token=who.token,
        )
        self._clients.append(client)
        return client

    def sts(self, credentials: Credentials | None = None) -> STSClient:
        """The same for STS."""
        who = credentials or self.admin
        client = self._session.client(
            "sts",
            endpoint_url=self.endpoint_url,
            verify=str(self.ca_bundle) if self.ca_bundle else None,
            config=_client_config(1),
            aws_access_key_id=who.access_key,
            aws_secret_access_key=who.secret_key,
            aws_session_token=who.token,
        )
        self._clients.append(client)
        return client

    def environment(self, credentials: Credentials | None = None) -> dict[str, str]:
        """Environment variables that send AWS clients of another process here."""
        who = credentials or self.admin
        variables = {
            "AWS_ACCESS_KEY_ID": who.access_key,
            "AWS_SECRET_ACCESS_KEY": who.secret_key,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_REGION": self.region,
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        if who.token is not None:
            variables["AWS_SESSION_TOKEN"] = who.token
        if self.ca_bundle is not None:
            variables["AWS_CA_BUNDLE"] = str(self.ca_bundle)
        return variables

    def create_key(self, alias: str | None = None) -> str:
        """Make a key, and an alias for it, and return its ARN."""
        kms = self._admin_kms
        arn = kms.create_key()["KeyMetadata"]["Arn"]
        if alias is not None:
            kms.create_alias(AliasName=alias, TargetKeyId=arn)
        return arn

    @cached_property
    def _admin_kms(self) -> KMSClient:
        return self.kms()

    # Identity

    def put_user(self, name: str, grants: Iterable[Grant] | None) -> Credentials:
        """Make a user with these grants (None: all), or change them; a new access key of it."""
        self._put(name, "user", grants)
        return Credentials(**self._command("access_key", name=name))

    def put_role(self, name: str, grants: Iterable[Grant] | None) -> str:
        """Make a role with these grants (None: all), or change them; its ARN."""
        return self._put(name, "role", grants)

    def deny(self, principal: str, *actions: str, key: str = "*") -> None:
        """Refuse the actions to a principal from now on, whatever its grants say."""
        self._command("deny", name=principal, deny=asdict(Grant(actions, (key,))))

    def clear_denies(self) -> None:
        """Take back all that ``deny`` did."""
        self._command("clear_denies")

    def expire_sessions(self) -> None:
        """Let all temporary credentials be expired from now on."""
        self._command("expire_sessions")

    def destroy_key(self, key_id: str) -> None:
        """Let a key be gone for good, as after its deletion's waiting time."""
        self._command("destroy_key", key_id=key_id)

    # Faults

    def set_faults(self, *faults: Fault, seed: int = 0) -> None:
        """Let these faults strike from now on, instead of those before; none: no faults."""
        self._command("set_faults", faults=[asdict(fault) for fault in faults], seed=seed)

    def set_quota(self, rate: float | None, *, burst: float | None = None) -> None:
        """Throttle cryptographic calls above ``rate`` a second; None: no limit.

        ``burst`` calls may come at once; a tenth of the rate if None.
        """
        self._command("set_quota", rate=rate, burst=burst)

    def set_latency(
        self, seconds: float, *, slow_share: float = 0.0, slow_seconds: float = 0.0
    ) -> None:
        """Answer after ``seconds``, and a share of the calls after ``slow_seconds``."""
        self._command(
            "set_latency", seconds=seconds, slow_share=slow_share, slow_seconds=slow_seconds
        )

    def clear_faults(self) -> None:
        """No faults, no quota, no latency, no denies."""
        self.set_faults()
        self.set_quota(None)
        self.set_latency(0.0)
        self.clear_denies()

    # What happened

    def counters(self) -> Counters:
        """The counters since the last reset."""
        return Counters(**self._command("counters"))

    def journal(self) -> list[dict[str, Any]]:
        """The last calls, oldest first.

        Each has time, api, principal, session, source_identity, key, context, destination_key,
        destination_context, error.
        """
        calls: list[dict[str, Any]] = self._command("journal")
        return calls

    def reset_counters(self) -> None:
        """Set the counters to zero and empty the journal."""
        self._command("reset_counters")

    def _put(self, name: str, kind: str, grants: Iterable[Grant] | None) -> str:
        given = None if grants is None else [asdict(grant) for grant in grants]
        arn: str = self._command("put_principal", name=name, kind=kind, grants=given)
        return arn

    def _command(self, command: str, **arguments: Any) -> Any:
        connection: http.client.HTTPConnection
        if self.ca_bundle is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        else:
            context = ssl.create_default_context(cafile=str(self.ca_bundle))
            connection = http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=30, context=context
            )
        try:
            body = json.dumps({"command": command, "arguments": arguments})
            connection.request("POST", PATH, body, {TOKEN_HEADER: self._token})
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if "error" in answer:
            raise ValueError(f"{command}: {answer['error']}")
        return answer["result"]


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {**kept, "PYTHONPATH": os.pathsep.join((str(TESTS), str(TOOLING)))}


def _client_config(attempts: int) -> Config:
    return Config(
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=10,
        read_timeout=30,
        # A proxy in the environment must not get what is meant for loopback.
        proxies={},
    )
