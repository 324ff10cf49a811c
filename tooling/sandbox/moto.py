"""moto's server, as AWS for the demo and the tests."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

from sandbox.process import SandboxError, ServerProcess, free_port

PORT_ATTEMPTS = 3


class MotoServer:
    """A running moto server on 127.0.0.1."""

    def __init__(self, directory: Path, *, temporary: bool, port: int | None = None) -> None:
        self.directory = directory
        self._temporary = temporary
        self._process: ServerProcess | None = None
        self._free_choice = port is None
        self.port = port or free_port()

    @staticmethod
    def find() -> tuple[str | None, str]:
        """The interpreter that has moto's server, or None and the reason why there is none."""
        missing = [name for name in ("moto", "flask") if importlib.util.find_spec(name) is None]
        if missing:
            return None, "moto's server is not installed (pip install 'moto[server]')"
        return sys.executable, ""

    @classmethod
    def start(cls, directory: Path | None = None, port: int | None = None) -> Self:
        """Start the server; takes two or three seconds.

        Args:
            directory: where its log goes; a temporary folder if None.
            port: where it listens; a free port if None.

        Raises:
            SandboxError: not installed, or it did not start.
        """
        python, reason = cls.find()
        if python is None:
            raise SandboxError(reason)
        if directory is None:
            folder = Path(tempfile.mkdtemp(prefix="sandbox-moto-"))
            server = cls(folder, temporary=True, port=port)
        else:
            directory.mkdir(parents=True, exist_ok=True)
            server = cls(directory, temporary=False, port=port)
        try:
            server._launch(python)
        except BaseException:
            server.stop()
            raise
        return server

    @property
    def endpoint_url(self) -> str:
        """What AWS clients take as their endpoint."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.directory / "moto.log"

    @property
    def pid(self) -> int:
        """Process id of the server."""
        if self._process is None:
            raise SandboxError("the moto server is stopped")
        return self._process.pid

    def reset(self) -> None:
        """Forget all resources; also the tags that moto keeps of deleted ones."""
        self._request("POST", "/moto-api/reset")

    def stop(self) -> None:
        """Stop the server and remove its folder if it is temporary."""
        if self._process is not None:
            self._process.stop()
            self._process = None
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _launch(self, python: str) -> None:
        for attempt in range(PORT_ATTEMPTS):
            try:
                self._process = ServerProcess.start(
                    [python, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
                    log=self.log,
                    ready=self._is_ready,
                    directory=self.directory,
                    # AWS settings of the owner would send moto's own clients somewhere.
                    environment={k: v for k, v in os.environ.items() if not k.startswith("AWS_")},
                )
            except SandboxError:
                # Between the choice of a free port and its use another process may take it.
                taken = "in use" in self.log.read_text()
                if attempt + 1 == PORT_ATTEMPTS or not taken or not self._free_choice:
                    raise
                self.port = free_port()
            else:
                return

    def _is_ready(self, _pid: int) -> bool:
        try:
            self._request("GET", "/moto-api/data.json")
        except OSError:
            return False
        return True

    def _request(self, method: str, path: str) -> None:
        request = urllib.request.Request(self.endpoint_url + path, method=method)  # noqa: S310
        # A proxy in the environment must not get what is meant for loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as answer:
            answer.read()
