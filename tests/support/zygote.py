"""Starts dekctl processes in milliseconds: a process that has imported it once, and forks.

Each fork is a process of its own that can be killed with SIGKILL like any other; only the second
that Python needs to import everything is saved. That is what makes hundreds of kills affordable.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from support.waiting import PATIENCE_SECONDS

TESTS = Path(__file__).parents[1]
TOOLING = TESTS.parent / "tooling"


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code (negative: the signal), and what it said."""

    code: int
    stdout: str
    stderr: str


class Zygote:
    """The handle. Use as a context manager; whatever it started dies with it."""

    def __init__(self, folder: Path) -> None:
        """``folder`` takes the outputs of the processes."""
        self._folder = folder
        self.environ: dict[str, str] = {}
        """What every process gets besides what :meth:`start` is given."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.zygote"],
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "DEKCTL_"))},
                "PYTHONPATH": f"{TESTS}{os.pathsep}{TOOLING}",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._started = 0
        self._outputs: dict[int, Path] = {}

    def __enter__(self) -> Self:
        self._ask({"do": "hello"})
        return self

    def __exit__(self, *_: object) -> None:
        stdin, stdout = self._pipes()
        stdin.close()
        try:
            self._process.wait(timeout=PATIENCE_SECONDS)
        finally:
            self._process.kill()
            self._process.wait()
            stdout.close()

    def start(self, arguments: Sequence[str], environ: Mapping[str, str]) -> int:
        """Start ``dekctl arguments``. Returns its process id, to be given to :meth:`wait`."""
        self._started += 1
        output = self._folder / f"{self._started}"
        answer = self._ask(
            {
                "do": "start",
                "arguments": list(arguments),
                "environ": {**self.environ, **environ},
                "output": str(output),
            }
        )
        self._outputs[answer["pid"]] = output
        return int(answer["pid"])

    def wait(self, pid: int, seconds: float | None = None) -> Ended | None:
        """Wait for its end, at most so many seconds; None if it is still running then."""
        code = self._ask({"do": "wait", "pid": pid, "seconds": seconds})["code"]
        if code is None:
            return None
        output = self._outputs.pop(pid)
        texts = []
        for suffix in (".out", ".err"):
            file = output.with_suffix(suffix)
            texts.append(file.read_text(errors="replace"))
            file.unlink()
        return Ended(code, *texts)

    def _ask(self, command: dict[str, Any]) -> Any:
        stdin, stdout = self._pipes()
        print(json.dumps(command), file=stdin, flush=True)
        line = stdout.readline()
        assert line, "the process that starts dekctl has ended"
        return json.loads(line)

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout


# -- the other side --------------------------------------------------------------------------------


def _serve() -> None:
    import select  # noqa: PLC0415 - only this side needs it
    import signal  # noqa: PLC0415

    import alembic.command  # noqa: F401, PLC0415 - imported once, for all forks
    import psycopg  # noqa: F401, PLC0415

    from dekctl.cli.registry import load, names  # noqa: PLC0415
    from support.quick import share_what_libraries_make  # noqa: PLC0415

    share_what_libraries_make()
    for name in names():
        load(name)
    children: dict[int, int] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        answer: dict[str, Any] = {}
        if asked["do"] == "start":
            pid = os.fork()
            if pid == 0:
                _become(asked)
            children[pid] = os.pidfd_open(pid)
            answer["pid"] = pid
        elif asked["do"] == "wait":
            descriptor = children[asked["pid"]]
            ready, _, _ = select.select([descriptor], [], [], asked["seconds"])
            answer["code"] = None
            if ready:
                _, status = os.waitpid(asked["pid"], 0)
                answer["code"] = os.waitstatus_to_exitcode(status)
                os.close(children.pop(asked["pid"]))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def _become(asked: dict[str, Any]) -> None:
    """The fork: runs the command as the console script does."""
    from dekctl.cli.main import main as console_script  # noqa: PLC0415

    code = 1
    try:
        for number, suffix in ((1, ".out"), (2, ".err")):
            opened = os.open(asked["output"] + suffix, os.O_WRONLY | os.O_CREAT, 0o600)
            os.dup2(opened, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.update(asked["environ"])
        sys.argv = ["dekctl", *asked["arguments"]]
        console_script()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
