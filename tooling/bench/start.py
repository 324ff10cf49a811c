"""What a command takes that has little to do: ``python -m bench.start``.

The table is a small one in SQLite with a local KEK, so that only dekctl's own start is measured.
"""

from __future__ import annotations

import base64
import os
import shlex
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BEGIN, END = "<!-- start:begin -->", "<!-- start:end -->"
TIMES = 7
ROWS = 2_500
"""Enough for each of four workers to get a range."""
COMMANDS = {
    "--version": 0.35,
    "--help": None,
    "status": 0.8,
    "wrap": None,
    "wrap --workers 4": None,
}
"""With the seconds that it may take on the clock, where there is such a target."""


def measure() -> str:
    """Medians of each command's whole process and of its children; a Markdown table."""
    lines = [
        "| command | processor time, s | on the clock, s | wanted on the clock, s |",
        "|---|---:|---:|---:|",
    ]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        environment = _prepare(Path(folder))
        _run("migrate", folder, environment)  # the rows are wrapped: wrap has nothing left to do
        for command, wanted in COMMANDS.items():
            _run(command, folder, environment)  # warm
            found = [_run(command, folder, environment) for _ in range(TIMES)]
            cpu, clock = (statistics.median(each) for each in zip(*found, strict=True))
            limit = f"{wanted:g}" if wanted is not None else ""
            lines.append(f"| `dekctl {command}` | {cpu:.2f} | {clock:.2f} | {limit} |")
    return "\n".join(lines)


def _prepare(folder: Path) -> dict[str, str]:
    """Make the table and its configuration. Returns the environment of the commands."""
    with sqlite3.connect(folder / "rows.db") as rows:
        rows.execute("CREATE TABLE encrypted_files (id INTEGER PRIMARY KEY, encryption_key BLOB)")
        keys = [(os.urandom(32),) for _ in range(ROWS)]
        rows.executemany("INSERT INTO encrypted_files (encryption_key) VALUES (?)", keys)
    rows.close()
    (folder / "dekctl.toml").write_text(
        '[env.bench]\ndatabase_url = "sqlite:///rows.db"\nprovider = "env"\n', encoding="utf-8"
    )
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return {
        **kept,
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
        "DEKCTL_KEK": base64.b64encode(os.urandom(32)).decode(),
        "DEKCTL_PROCESSORS": "5",
    }


def _run(command: str, folder: str, environment: dict[str, str]) -> tuple[float, float]:
    """Run a command. Returns its processor seconds and its seconds on the clock."""
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "dekctl", *shlex.split(command)],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"dekctl {command} ended with {process.returncode}")
    return used.ru_utime + used.ru_stime, time.monotonic() - began


if __name__ == "__main__":
    sys.stdout.write(measure() + "\n")
