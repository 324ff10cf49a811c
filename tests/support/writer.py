"""The application as a process of its own, writing while dekctl is killed beside it.

It keeps the oracle: :meth:`BusyWriter.stop` hands it over, through a pipe and never a file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Literal

from support.oracle import Oracle, dump, load

TESTS = Path(__file__).parents[1]
TOOLING = TESTS.parent / "tooling"
PAUSE_SECONDS = 0.01

Mode = Literal["idle", "legacy", "modern", "current"]
"""``legacy`` inserts, re-keys and deletes the old way; ``current`` does so through the library;
``modern`` too, and still re-keys a row the old way now and then."""


class BusyWriter:
    """The handle. Use as a context manager; the process ends with it."""

    def __init__(self, url: str, environ: Mapping[str, str], rows: int, seed: int) -> None:
        """Make the table with so many rows; write nothing else before :meth:`mode` says so."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.writer"],
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "DEKCTL_"))},
                "PYTHONPATH": f"{TESTS}{os.pathsep}{TOOLING}",
                **environ,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._say(json.dumps({"url": url, "rows": rows, "seed": seed}))

    def __enter__(self) -> BusyWriter:
        return self

    def __exit__(self, *_: object) -> None:
        stdin, stdout = self._pipes()
        self._process.kill()
        self._process.wait()
        stdin.close()
        stdout.close()

    def mode(self, mode: Mode) -> int:
        """Write like this from now on. Returns the number of writes so far, all committed."""
        return int(self._say(mode))

    def oracle(self) -> Oracle:
        """Stop writing, and tell what every row's key is."""
        return load(self._say("oracle"))

    def standby(self) -> None:
        """Let a standby have what is committed now; the writer waits for that."""
        self._say("standby")

    def fail_over(self) -> bool:
        """Let the standby take over: what anybody has written since is lost, the writer's too.

        Returns whether it did; it does not where tables or columns came or went.
        """
        return self._say("fail over").strip() == "done"

    def settled(self) -> None:
        """Tell the writer that ``wrap --stale`` has seen every row while it was idle."""
        self._say("settled")

    def _say(self, line: str) -> str:
        stdin, stdout = self._pipes()
        print(line, file=stdin, flush=True)
        answer = stdout.readline()
        assert answer, "the writer has ended"
        return answer

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout


def _main() -> None:
    import sqlalchemy as sa  # noqa: PLC0415 - only this side needs these

    from dekctl.kms import EnvKMS  # noqa: PLC0415
    from support.failover import Standby  # noqa: PLC0415
    from support.oracle import TABLE, Writer  # noqa: PLC0415

    start = json.loads(sys.stdin.readline())
    options = {"timeout": 30} if start["url"].startswith("sqlite") else {}
    engine = sa.create_engine(start["url"], connect_args=options)
    writer = Writer(engine, Oracle(), seed=start["seed"])
    writer.provider = EnvKMS()
    writer.create_table()
    writer.insert(start["rows"])
    mode: list[str] = ["idle"]
    busy = threading.Lock()
    failed: list[BaseException] = []
    standby, known_then = Standby(engine, TABLE), writer.oracle.copy()

    def write() -> None:
        pause = threading.Event()
        while not pause.wait(PAUSE_SECONDS):
            with busy:
                try:
                    _write_once(writer, mode[0])
                except sa.exc.OperationalError:
                    pass  # a deadlock or a lock: this application tries something else next
                except BaseException as error:
                    failed.append(error)
                    return

    threading.Thread(target=write, daemon=True).start()
    _answer("ready")
    for line in sys.stdin:
        with busy:
            word = line.strip()
            if failed:
                raise failed[0]
            if word == "oracle":
                mode[0] = "idle"
                answer = dump(writer.oracle)
            elif word == "standby":
                standby.follow()
                known_then, answer = writer.oracle.copy(), "done"
            elif word == "fail over":
                answer = "no"
                if standby.take_over():
                    writer.oracle.become(known_then)
                    answer = "done"
            elif word == "settled":
                writer.oracle.legacy.clear()
                answer = ""
            else:
                mode[0] = word
                answer = str(writer.writes)
        _answer(answer or "ok")


def _answer(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _write_once(writer: object, mode: str) -> None:
    from support.oracle import Writer  # noqa: PLC0415

    assert isinstance(writer, Writer)
    if mode == "idle":
        return
    dice = writer.random.random()
    if mode == "legacy":
        if dice < 0.5:
            writer.insert()
        elif dice < 0.8:
            writer.rekey()
        else:
            writer.delete()
    elif dice < 0.4:
        writer.issue(new=True)
    elif dice < 0.7:
        writer.issue()
    elif dice < 0.75 and mode == "modern":
        writer.rekey()  # an old version that still runs beside the new one
    else:
        writer.delete()


if __name__ == "__main__":
    _main()
