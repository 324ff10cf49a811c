"""Runs ``dekctl`` as a user types it: as a process, or faster within this one.

Whatever a command prints is searched for key material, in every test.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from click.testing import CliRunner

from dekctl.cli.main import cli
from support.app import Application
from support.secrets import assert_hidden
from support.waiting import PATIENCE_SECONDS, wait_until

TOOLING = Path(__file__).parents[2] / "tooling"


@dataclass(frozen=True)
class Result:
    """How a command ended, and what it said."""

    command: str
    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on stdout."""
        value = json.loads(self.stdout)
        assert isinstance(value, dict)
        return value

    def expect(self, exit_code: int) -> Result:
        """Fail unless it ended with this code. Returns itself."""
        assert self.exit_code == exit_code, (
            f"{self.command} ended with {self.exit_code}, not {exit_code}:\n"
            f"{self.stdout}{self.stderr}"
        )
        return self


@dataclass
class Dekctl:
    """dekctl in a folder with a ``dekctl.toml``."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict, repr=False)
    hidden: list[bytes] = field(default_factory=list, repr=False)
    """Keys that no output may show, besides those of ``applications``."""
    applications: list[Application] = field(default_factory=list)
    _stderr: dict[int, IO[bytes]] = field(default_factory=dict, repr=False)

    def configure(self, text: str) -> None:
        """Write ``dekctl.toml``."""
        (self.folder / "dekctl.toml").write_text(text, encoding="utf-8")

    def use_env_kek(self) -> bytes:
        """Make a KEK for the env provider and return it."""
        kek = secrets.token_bytes(32)
        old = [self.environ[k] for k in ("DEKCTL_KEK", "DEKCTL_OLD_KEKS") if k in self.environ]
        self.environ["DEKCTL_KEK"] = base64.b64encode(kek).decode()
        if old:
            self.environ["DEKCTL_OLD_KEKS"] = ",".join(old)
        self.hidden.append(kek)
        return kek

    def __call__(self, *arguments: str) -> Result:
        """Run a command within this process."""
        # Not as an option: hints would repeat it.
        file = {"DEKCTL_CONFIG": str(self.folder / "dekctl.toml")}
        runner = CliRunner(env={**self._clean(), **file})
        done = runner.invoke(cli, list(arguments), prog_name="dekctl", catch_exceptions=False)
        return self._checked(arguments, done.exit_code, done.stdout, done.stderr)

    def json(self, *arguments: str, expect: int = 0) -> dict[str, Any]:
        """Run a command with ``--json``; its result."""
        return self("--json", *arguments).expect(expect).json

    def process(self, *arguments: str) -> Result:
        """Run a command as a process of its own and wait for it."""
        child = self.start(*arguments)
        return self.finish(child, arguments)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command as a process of its own; hand it to :meth:`finish`."""
        stderr = tempfile.TemporaryFile()  # noqa: SIM115 - :meth:`finish` closes it
        child = subprocess.Popen(
            [sys.executable, "-m", "dekctl", *arguments],
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        self._stderr[child.pid] = stderr
        return child

    def wait_until_said(self, child: subprocess.Popen[str], text: str) -> None:
        """Wait until a started command has printed ``text`` on stderr."""
        wait_until(lambda: text in _content(self._stderr[child.pid]), child)

    def finish(self, child: subprocess.Popen[str], arguments: Iterable[str] = ()) -> Result:
        """Wait for a started command."""
        try:
            stdout, _ = child.communicate(timeout=PATIENCE_SECONDS)
        finally:
            child.kill()
            child.communicate()
            with self._stderr.pop(child.pid) as file:
                stderr = _content(file)
        return self._checked(arguments, child.returncode, stdout, stderr)

    def all_keys(self) -> list[bytes]:
        """Every key that nothing may show."""
        return [*self.hidden, *(dek for app in self.applications for dek in app.deks.values())]

    def _clean(self) -> Mapping[str, str | None]:
        """Our variables, and none of the tester's own."""
        outside = [k for k in os.environ if k.startswith(("AWS_", "DEKCTL_"))]
        return {**dict.fromkeys(outside), **self.environ}

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "DEKCTL_"))}
        return {**kept, "PYTHONPATH": str(TOOLING), "PYTHONWARNINGS": "error", **self.environ}

    def _checked(
        self, arguments: Iterable[str], exit_code: int, stdout: str, stderr: str
    ) -> Result:
        command = " ".join(("dekctl", *arguments))
        keys = [key for key in self.all_keys() if len(key) >= 16]
        assert_hidden(stdout, keys, f"the output of {command}")
        assert_hidden(stderr, keys, f"what {command} says on stderr")
        return Result(command, exit_code, stdout, stderr)


def _content(file: IO[bytes]) -> str:
    """What a process has written so far; its own position in the file stays where it is."""
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode()
