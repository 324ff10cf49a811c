"""``make up`` and ``make down``: an emulator that outlives the command that started it.

A keeper process of its own session holds the server and stops it when it is told to; its process
id is in ``keeper.pid`` of the folder. ``make down`` stops it; what the emulator held is gone then.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from sandbox.localstack import LocalStackServer
from sandbox.moto import MotoServer

START_SECONDS = 600
"""LocalStack's first start installs it."""


def main() -> int:
    """Parse ``up|down|hold ENV --port N --directory DIR``. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="sandbox.keep")
    parser.add_argument("action", choices=["up", "down", "hold"])
    parser.add_argument("env", choices=["local", "localstack"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    given = parser.parse_args()
    action = {"up": up, "down": down, "hold": hold}[given.action]
    return action(given.env, given.port, given.directory)


def up(env: str, port: int, directory: Path) -> int:
    """Start the emulator and return once it answers."""
    if _keeper(directory) is not None:
        _say(f"{env} is already up on http://127.0.0.1:{port}")
        return 0
    directory.mkdir(parents=True, exist_ok=True)
    ready = directory / "ready"
    ready.unlink(missing_ok=True)
    log = directory / "keeper.log"
    with log.open("wb") as output:
        options = ["--port", str(port), "--directory", str(directory)]
        keeper = subprocess.Popen(
            [sys.executable, "-m", "sandbox.keep", "hold", env, *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    (directory / "keeper.pid").write_text(str(keeper.pid))
    deadline = time.monotonic() + START_SECONDS
    while not ready.exists():
        if keeper.poll() is not None or time.monotonic() > deadline:
            _say(f"error: {env} did not start\n{log.read_text()[-2000:]}")
            return 1
        time.sleep(0.1)
    _say(f"{env} is up on http://127.0.0.1:{port}; stop it with: make down ENV={env}")
    return 0


def down(env: str, _port: int, directory: Path) -> int:
    """Stop the emulator and wait until it is gone."""
    keeper = _keeper(directory)
    if keeper is None:
        _say(f"{env} is not up")
        return 0
    os.kill(keeper, signal.SIGTERM)
    deadline = time.monotonic() + 60
    while _keeper(directory) is not None and time.monotonic() < deadline:
        time.sleep(0.1)
    (directory / "keeper.pid").unlink(missing_ok=True)
    _say(f"{env} is down; its KEKs are gone, and keys wrapped by them cannot be decrypted any more")
    return 0


def hold(env: str, port: int, directory: Path) -> int:
    """Be the keeper: run the server until SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server: AbstractContextManager[Any]
    if env == "local":
        server = MotoServer.start(directory / "moto", port=port)
    else:
        server = LocalStackServer.start(directory / "server", port=port)
    with server:
        (directory / "ready").touch()
        stop.wait()
    return 0


def _keeper(directory: Path) -> int | None:
    """Process id of a living keeper."""
    try:
        pid = int((directory / "keeper.pid").read_text())
        command = Path(f"/proc/{pid}/cmdline")
        if command.parent.parent.exists() and b"sandbox.keep" not in command.read_bytes():
            return None
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    return pid


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
