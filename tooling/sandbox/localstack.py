"""LocalStack as AWS: by Docker where an engine answers, else in a virtual environment."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Self

from sandbox.localstack_venv import CACHE, NAMED, SERVE, ensure_venv, find_python
from sandbox.process import SandboxError, ServerProcess, free_port
from sandbox.sockets import is_loopback, listening_addresses

IMAGE = "localstack/localstack:4.14.0"  # the last community release that needs no account token
SERVICES = ("cloudwatch", "events", "iam", "kms", "logs", "s3", "sns", "sts")
DOCKER_ANSWERS_SECONDS = 5.0
HOST_READY_SECONDS = 90.0
DOCKER_READY_SECONDS = 600.0  # the first start pulls the image

SETTINGS = {
    "SERVICES": ",".join(SERVICES),
    "DISABLE_EVENTS": "1",  # no usage statistics to its makers
    "SKIP_SSL_CERT_DOWNLOAD": "1",
    # Its default CloudWatch forgets the tags of a new alarm: a second plan would never be empty.
    "PROVIDER_OVERRIDE_CLOUDWATCH": "v1",
}


class LocalStackServer:
    """A running LocalStack on 127.0.0.1; use as a context manager or call :meth:`stop`."""

    def __init__(self, directory: Path, port: int, *, temporary: bool) -> None:
        self.directory = directory
        self.port = port
        self._temporary = temporary
        self._process: ServerProcess | None = None
        self._container: str | None = None

    @staticmethod
    def find() -> tuple[str | None, str]:
        """``docker`` or a Python interpreter to run it with, or None and the reason and a hint.

        A named interpreter (``LOCALSTACK_PYTHON``) goes before Docker.
        """
        if NAMED not in os.environ and _docker_answers():
            return "docker", ""
        python, reason = find_python()
        if python is None:
            reason = (
                f"Docker is not available, and {reason}\n"
                "hint: start Docker, or install Python 3.13 or 3.12 with venv "
                "(Debian, Ubuntu: apt-get install python3-venv), "
                f"or name an interpreter: {NAMED}=/path/to/python3.13"
            )
        return python, reason

    @classmethod
    def start(
        cls,
        directory: Path | None = None,
        *,
        port: int | None = None,
        cache: Path = CACHE,
        progress: Callable[[str], None] | None = None,
    ) -> Self:
        """Start it: some five seconds, and at the first time a minute or two for the installation.

        Args:
            directory: holds its log, its state and all its files; a temporary folder if None.
            port: TCP port on 127.0.0.1; a free one if None.
            cache: folder that keeps the installed packages for the next time.
            progress: called with one line before something that takes long.

        Raises:
            SandboxError: nothing to run it with, the installation failed, it did not start, or
                it can be reached from outside this machine. Nothing is left running.
        """
        runner, reason = cls.find()
        if runner is None:
            raise SandboxError(reason)
        if port is not None and _in_use(port):
            raise SandboxError(f"port {port} of 127.0.0.1 is taken\nhint: name another one")
        temporary = directory is None
        folder = Path(tempfile.mkdtemp(prefix="sandbox-localstack-")) if temporary else directory
        assert folder is not None
        folder.mkdir(parents=True, exist_ok=True)
        server = cls(folder.resolve(), port or free_port(), temporary=temporary)
        try:
            if runner == "docker":
                server._launch_container(progress)
            else:
                server._launch_python(ensure_venv(runner, cache=cache, progress=progress))
        except BaseException:
            server.stop()
            raise
        return server

    @property
    def endpoint_url(self) -> str:
        """What AWS clients and Terraform take as their endpoint."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.directory / "localstack.log"

    @property
    def pid(self) -> int:
        """Process id of the server (of Docker's client, where it runs in a container)."""
        if self._process is None:
            raise SandboxError("LocalStack is stopped")
        return self._process.pid

    def stop(self) -> None:
        """Stop the server and remove its folder if it is temporary."""
        if self._process is not None:
            self._process.stop()
            self._process = None
        if self._container is not None:
            # It is gone if Docker's client could pass the signal on; this is for when it could not.
            _docker("rm", "--force", self._container, seconds=60)
            self._container = None
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _launch_python(self, python: Path) -> None:
        home, temporary, state = (self.directory / name for name in ("home", "tmp", "state"))
        for folder in (home, temporary, state):
            folder.mkdir(exist_ok=True)
        environment = {
            **SETTINGS,
            "PATH": os.defpath,
            "HOME": str(home),
            "TMPDIR": str(temporary),
            "FILESYSTEM_ROOT": str(state),
            "GATEWAY_LISTEN": f"127.0.0.1:{self.port}",
            # The default server, twisted, ignores the address and listens on all of them.
            "GATEWAY_SERVER": "hypercorn",
            "LOCALSTACK_HOST": f"127.0.0.1:{self.port}",
            "DNS_ADDRESS": "0",  # no DNS server
            # In a container of somebody else it would take itself for its own image.
            "OVERRIDE_IN_DOCKER": "0",
        }
        self._process = ServerProcess.start(
            [python, SERVE],
            log=self.log,
            ready=lambda pid: self._listens(pid) and self._is_healthy(),
            deadline=HOST_READY_SECONDS,
            directory=self.directory,
            environment=environment,
        )
        outside = [where for where in listening_addresses(self.pid) if not is_loopback(where)]
        if outside:
            raise SandboxError(
                f"LocalStack listens on {', '.join(outside)}, not only on loopback; it was stopped"
            )

    def _listens(self, pid: int) -> bool:
        # Another server may have taken the port meanwhile; its answers must not be taken for ours.
        return any(where.endswith(f":{self.port}") for where in listening_addresses(pid))

    def _launch_container(self, progress: Callable[[str], None] | None) -> None:
        if progress and not _docker("image", "inspect", IMAGE):
            progress(f"pulling {IMAGE}, once")
        self._container = f"dekctl-localstack-{os.getpid()}-{self.port}"
        settings = {**SETTINGS, "LOCALSTACK_HOST": f"127.0.0.1:{self.port}"}
        self._process = ServerProcess.start(
            [
                *("docker", "run", "--rm", "--name", self._container),
                *("--publish", f"127.0.0.1:{self.port}:4566"),
                *(f"--env={name}={value}" for name, value in settings.items()),
                IMAGE,
            ],
            log=self.log,
            ready=lambda _pid: self._is_healthy(),
            deadline=DOCKER_READY_SECONDS,
            directory=self.directory,
            # Docker's client hands SIGTERM on to the container. SIGKILL would end the client alone.
            death_signal=signal.SIGTERM,
        )

    def _is_healthy(self) -> bool:
        # A proxy in the environment must not get what is meant for loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"{self.endpoint_url}/_localstack/health", timeout=10) as answer:
                services = json.load(answer)["services"]
        except (OSError, ValueError, KeyError):
            return False
        return all(services.get(name) in ("available", "running") for name in SERVICES)


def _in_use(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _docker_answers() -> bool:
    return shutil.which("docker") is not None and _docker("info")


def _docker(*arguments: str, seconds: float = DOCKER_ANSWERS_SECONDS) -> bool:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            ["docker", *arguments], capture_output=True, timeout=seconds, check=False
        )
        return done.returncode == 0
    return False
