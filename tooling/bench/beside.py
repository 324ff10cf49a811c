"""An application and a standby beside a run, on PostgreSQL: ``python -m bench.beside``.

The application sends 200 statements per second, each at its due time; how long a statement takes
counts from then, so that one that waits for its connection is not left out. The run takes all it
can get: keys are wrapped by a KEK in its process.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import queue
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from bench.lab import ROWS, TABLE
from sandbox.postgres import PostgresServer

BEGIN, END = "<!-- beside:begin -->", "<!-- beside:end -->"
RATE = 200
ROWS_OF_TABLE = 300_000
CONNECTIONS = 8
ALONE_SECONDS = 10.0
LOOK_SECONDS = 0.1
LAG = (
    "SELECT coalesce(max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)), 0) "
    "FROM pg_stat_replication"
)
HOLD_BACK_MB = 16


class Application:
    """Reads a row, or writes one, at each due time, until it is told to stop."""

    def __init__(self, dsn: str, rows: int) -> None:
        self._dsn, self._rows = dsn, rows
        self._due: queue.SimpleQueue[float | None] = queue.SimpleQueue()
        self.milliseconds: list[float] = []

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Send statements while the block lasts."""
        stopped = threading.Event()
        workers = [threading.Thread(target=self._work) for _ in range(CONNECTIONS)]
        clock = threading.Thread(target=self._tick, args=(stopped,))
        for thread in (*workers, clock):
            thread.start()
        try:
            yield
        finally:
            stopped.set()
            for thread in (clock, *workers):
                thread.join()

    def _tick(self, stopped: threading.Event) -> None:
        due = time.perf_counter()
        while not stopped.wait(max(0.0, due - time.perf_counter())):
            self._due.put(due)
            due += 1 / RATE
        for _ in range(CONNECTIONS):
            self._due.put(None)

    def _work(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while (due := self._due.get()) is not None:
                row = random.randint(1, self._rows)  # noqa: S311 - no secret
                if row % 2:
                    sql = "UPDATE encrypted_files SET size = size + 1 WHERE id = %s"
                else:
                    sql = "SELECT encryption_key FROM encrypted_files WHERE id = %s"
                connection.execute(sql, (row,))
                self.milliseconds.append((time.perf_counter() - due) * 1000)


class Standby:
    """Looks how far the standby is behind while the block lasts, in MB of WAL."""

    def __init__(self, primary: PostgresServer) -> None:
        self._primary = primary
        self.megabytes: list[float] = []

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Look ten times a second."""
        stopped = threading.Event()

        def look() -> None:
            while not stopped.wait(LOOK_SECONDS):
                self.megabytes.append(float(self._primary.sql(LAG)[0][0]) / 1e6)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()


def measure(rows: int) -> str:
    """Measure without and with the row trigger, and with ``--hold-back``; a Markdown table."""
    lines = [
        "| | statements | median, ms | p99, ms | standby behind, MB, at most | rows/s of wrap |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    with (
        tempfile.TemporaryDirectory() as folder,
        PostgresServer.start(settings={"wal_level": "replica"}) as primary,
        primary.start_standby(),
    ):
        for number, trigger in enumerate((False, True)):
            url = primary.create_database(f"beside{number}")
            dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
            name = "with the row trigger" if trigger else "without the row trigger"
            primary.sql(TABLE, f"beside{number}")
            primary.sql(ROWS.format(first=1, last=rows), f"beside{number}")
            run = _Run(Path(folder), url)
            run("schema", "expand", *([] if trigger else ["--without-trigger"]))
            alone, standby = Application(dsn, rows), Standby(primary)
            with standby.watched(), alone.at_work():
                time.sleep(ALONE_SECONDS)
            lines.append(_line(f"alone, {name}", alone, standby, None))
            for verb, extra in (("wrap", ()), ("scrub", _HELD_BACK)):
                if verb == "scrub":
                    run("verify")
                beside, standby = Application(dsn, rows), Standby(primary)
                with standby.watched(), beside.at_work():
                    result = run(verb, *extra)
                speed = result["changed"] / result["seconds"]
                held = ", --hold-back" if extra else ""
                lines.append(_line(f"beside {verb}{held}, {name}", beside, standby, speed))
    return "\n".join(lines)


_HELD_BACK = (
    "--yes",
    "--hold-back",
    f"{LAG.replace('SELECT', f'SELECT {HOLD_BACK_MB * 10**6} <')}",
)


class _Run:
    """Runs a command of dekctl on a database; returns its result."""

    def __init__(self, folder: Path, url: str) -> None:
        self._config = folder / "dekctl.toml"
        self._config.write_text(
            f"[env.bench]\ndatabase_url = {json.dumps(url)}\nprovider = 'env'\n"
        )
        kek = base64.b64encode(os.urandom(32)).decode()
        self._environment = {**os.environ, "DEKCTL_KEK": kek}

    def __call__(self, *arguments: str) -> dict[str, float]:
        done = subprocess.run(
            [sys.executable, "-m", "dekctl", "--config", self._config, "--json", *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
        result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
        return result


def _line(name: str, application: Application, standby: Standby, rate: float | None) -> str:
    found = application.milliseconds
    p99 = statistics.quantiles(found, n=100)[98]
    speed = f"{rate:,.0f}" if rate is not None else ""
    return (
        f"| {name} | {len(found):,} | {statistics.median(found):.1f} | {p99:.1f} "
        f"| {max(standby.megabytes):.1f} | {speed} |"
    )


if __name__ == "__main__":
    sys.stdout.write(measure(int(sys.argv[1]) if sys.argv[1:] else ROWS_OF_TABLE) + "\n")
