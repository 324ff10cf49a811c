"""Starts a server, waits until it is ready, and stops it for sure.

"For sure" means: at the end of the ``with`` block, at the exit of the interpreter, and on Linux
also when the owner is killed with SIGKILL.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Self

from sandbox.users import User

LOG_TAIL_BYTES = 2000
POLL_SECONDS = 0.02
KILL_SECONDS = 60.0


class SandboxError(RuntimeError):
    """A throw-away server did not start or stop; the message ends with the tail of its log."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago; someone else may still take it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ServerProcess:
    """One running server; use as a context manager or call :meth:`stop`."""

    def __init__(self, child: subprocess.Popen[bytes], log: Path, stop_signal: int) -> None:
        self._child = child
        self._owner = os.getpid()
        self._stop_signal = stop_signal
        self.log = log
        _running.add(self)

    @classmethod
    def start(
        cls,
        command: Sequence[str | Path],
        *,
        log: Path,
        ready: Callable[[int], bool],
        deadline: float = 180.0,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
        user: User | None = None,
        stop_signal: int = signal.SIGTERM,
        death_signal: int = signal.SIGKILL,
    ) -> Self:
        """Start ``command`` in a session of its own and wait until ``ready(pid)`` is true.

        Args:
            command: program and arguments; nothing secret, everybody can read them.
            log: file that stdout and stderr are appended to.
            ready: asked every 20 ms with the server's process id.
            deadline: seconds until a server that is not ready is stopped again.
            directory: working directory of the server.
            environment: the whole environment; that of the owner if None.
            user: who runs it; the owner's user if None.
            stop_signal: asks the server to end.
            death_signal: sent by Linux when the owner dies.

        Raises:
            SandboxError: it ended or was not ready in time. Nothing is left running.
        """
        child = _spawn(
            command,
            log=log,
            directory=directory,
            environment=environment,
            user=user,
            death_signal=death_signal,
        )
        server = cls(child, log, stop_signal)
        try:
            server._wait_until(ready, deadline)
        except BaseException:
            server.stop(grace=0)
            raise
        return server

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the server is still there."""
        if self._child.returncode is not None:
            return False
        if sys.platform == "darwin":
            return self._child.poll() is None
        # Looks without reaping: until then nobody else can get this process id, so the group that
        # `stop` kills is certainly ours.
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def stop(self, grace: float = 20.0, stop_signal: int | None = None) -> None:
        """Ask the server to end, and kill it and its group after ``grace`` seconds.

        Does nothing in a fork of the owner, or if the server is gone.

        Raises:
            SandboxError: it survived SIGKILL.
        """
        if os.getpid() != self._owner or self._child.returncode is not None:
            return
        _running.discard(self)
        if grace > 0 and self.running:
            os.kill(self.pid, stop_signal or self._stop_signal)
            self.wait(grace)
        # The group is killed even if its leader has ended: what the leader started may be there.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        try:
            self._child.wait(KILL_SECONDS)
        except subprocess.TimeoutExpired:
            raise SandboxError(f"process {self.pid} survived SIGKILL{self.log_tail()}") from None

    def wait(self, seconds: float) -> bool:
        """Wait for the server to end; False if it is still running after ``seconds``."""
        give_up = time.monotonic() + seconds
        while self.running:
            if time.monotonic() > give_up:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def log_tail(self) -> str:
        """The end of the log, introduced by a line that names the file."""
        try:
            text = self.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip()
        except OSError:
            return ""
        return f"\n--- {self.log}\n{text}" if text else f"\n--- {self.log} is empty"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait_until(self, ready: Callable[[int], bool], deadline: float) -> None:
        give_up = time.monotonic() + deadline
        while True:
            if not self.running:
                code = self._child.wait()
                raise SandboxError(f"{self._name} ended with code {code}{self.log_tail()}")
            if ready(self.pid):
                return
            if time.monotonic() > give_up:
                raise SandboxError(
                    f"{self._name} was not ready after {deadline:g} seconds{self.log_tail()}"
                )
            time.sleep(POLL_SECONDS)

    @property
    def _name(self) -> str:
        return self.log.stem


def run(
    command: Sequence[str | Path],
    *,
    log: Path,
    user: User | None = None,
    deadline: float = 300.0,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a command to its end, as ``user``, with the same guarantees as a server.

    Raises:
        SandboxError: it failed or took longer than ``deadline`` seconds.
    """
    child = _spawn(
        command,
        log=log,
        directory=directory,
        environment=environment,
        user=user,
        death_signal=signal.SIGKILL,
    )
    with ServerProcess(child, log, signal.SIGKILL) as process:
        if not process.wait(deadline):
            raise SandboxError(
                f"{command[0]} took longer than {deadline:g} seconds{process.log_tail()}"
            )
    if child.returncode:
        raise SandboxError(f"{command[0]} ended with code {child.returncode}{process.log_tail()}")


def exit_on_sigterm() -> None:
    """From now on, SIGTERM ends this program by way of its context managers, with code 143."""

    def end(*_: object) -> None:
        # A second one must not interrupt the cleaning up. Not SIG_IGN: children would inherit it.
        signal.signal(signal.SIGTERM, lambda *_: None)
        raise SystemExit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)


_running: weakref.WeakSet[ServerProcess] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    for server in list(_running):
        with contextlib.suppress(SandboxError):
            server.stop()


_Job = tuple[Callable[[], "subprocess.Popen[bytes]"], "Future[subprocess.Popen[bytes]]"]
_jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
_spawner: threading.Thread | None = None
_spawner_lock = threading.Lock()


def _spawn(
    command: Sequence[str | Path],
    *,
    log: Path,
    directory: Path | None,
    environment: Mapping[str, str] | None,
    user: User | None,
    death_signal: int,
) -> subprocess.Popen[bytes]:
    launcher = Path(__file__).with_name("launch.py")
    uid, gid = (user.uid, user.gid) if user else (-1, -1)
    numbers = (os.getpid(), int(death_signal), uid, gid)
    # -I and -S keep the launcher away from site-packages: it starts faster and needs nothing.
    argv = [sys.executable, "-I", "-S", str(launcher), *map(str, numbers), *map(str, command)]

    def popen() -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env=None if environment is None else dict(environment),
                start_new_session=True,
            )

    return _in_spawner_thread(popen)


def _in_spawner_thread(job: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    """Run ``job`` in a thread that lives as long as the process.

    Linux sends the death signal when the *thread* that made the child ends, so a child made by a
    worker thread would die with that thread.
    """
    global _spawner  # noqa: PLW0603  (one thread per process)
    result: Future[subprocess.Popen[bytes]] = Future()
    with _spawner_lock:
        if _spawner is None:
            _spawner = threading.Thread(target=_serve_jobs, name="sandbox-spawner", daemon=True)
            _spawner.start()
    _jobs.put((job, result))
    return result.result()


def _serve_jobs() -> None:
    while True:
        job, result = _jobs.get()
        try:
            result.set_result(job())
        except BaseException as error:
            result.set_exception(error)


def _forget_after_fork() -> None:
    # The thread does not exist in the fork, and the lock may be held there for ever.
    global _spawner, _spawner_lock, _jobs
    _spawner, _spawner_lock, _jobs = None, threading.Lock(), queue.SimpleQueue()


os.register_at_fork(after_in_child=_forget_after_fork)
