"""Runs one contestant in a process of its own and measures it from outside."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LOOK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run. ``seconds`` is the work alone, ``cpu_seconds`` the process from start to end."""

    name: str
    rows: int
    seconds: float
    cpu_seconds: float
    peak_mb: float
    first_line_seconds: float | None
    result: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds

    @property
    def per_cpu_second(self) -> float:
        """Rows for each second of the client's processor time, start of the process included."""
        return self.rows / self.cpu_seconds


def run(
    name: str,
    command: Sequence[str],
    rows: int,
    environment: Mapping[str, str],
) -> Measurement:
    """Run a contestant: a program whose last line on stdout is JSON.

    Its ``seconds`` count where it tells them, else the time from start to end.

    Raises:
        RuntimeError: it failed; the message has what it said.
    """
    started = time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(environment)
    ) as process:
        said: list[str] = []
        first: list[float] = []
        peak = [0.0]
        threads = [
            threading.Thread(target=_listen, args=(process, said, first)),
            threading.Thread(target=_watch, args=(process.pid, peak)),
        ]
        for thread in threads:
            thread.start()
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        elapsed = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        for thread in threads:
            thread.join()
    if process.returncode:
        raise RuntimeError(f"{name} ended with {process.returncode}:\n{output}\n{''.join(said)}")
    result = json.loads(output.strip().splitlines()[-1])
    return Measurement(
        name=name,
        rows=rows,
        seconds=float(result.get("seconds", elapsed)),
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_mb=peak[0],
        first_line_seconds=first[0] - started if first else None,
        result=result,
    )


def _listen(process: subprocess.Popen[str], said: list[str], first: list[float]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if not first:
            first.append(time.monotonic())
        said.append(line)


def _watch(pid: int, peak: list[float]) -> None:
    """Follow the largest resident set of the process and its children, in MB.

    Not from getrusage: there a child starts with the size of whoever started it.
    """
    while True:
        sizes = [_high_water(p) for p in (pid, *_children(pid))]
        if sizes[0] is None:
            return
        peak[0] = max(peak[0], *(size for size in sizes if size is not None))
        time.sleep(LOOK_SECONDS)


def _children(pid: int) -> list[int]:
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _high_water(pid: int) -> float | None:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return None  # a zombie has no memory
