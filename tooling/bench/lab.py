"""Where the benchmark runs: a throw-away PostgreSQL and a KMS stand-in that answers over TLS.

The stand-in does not check signatures here (the clients still make them): it has to be faster than
what is measured.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Self

from sandbox.postgres import PostgresServer
from support.kms_standin import KmsStandin

ALIAS = "alias/bench"
TABLE = """CREATE TABLE encrypted_files (
    id bigint PRIMARY KEY, filename text NOT NULL, size bigint NOT NULL, encryption_key bytea)"""
ROWS = """INSERT INTO encrypted_files
    SELECT i, 'file-' || i || '.bin', i::bigint * 1000, sha256(convert_to('seed' || i, 'UTF8'))
    FROM generate_series({first}, {last}) AS i"""
ROWS_A_STATEMENT = 1_000_000


class Lab:
    """The servers, and one table at a time."""

    def __init__(self, latency: float) -> None:
        """Start the servers. ``latency`` is how many seconds KMS takes for an answer."""
        self.latency = latency
        with contextlib.ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
            # The default of 4 KB of planning memory and the like is what users have; keep it.
            self.postgres = stack.enter_context(PostgresServer.start())
            self.kms = stack.enter_context(KmsStandin.start(tls=True, verify_signatures=False))
            self._stack = stack.pop_all()
        self.kek = self.kms.create_key(ALIAS)
        self.kms.set_latency(latency)
        self.url = ""
        self._made = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def config(self) -> Path:
        """The configuration for the table that was made last."""
        return self.folder / "dekctl.toml"

    def environment(self) -> dict[str, str]:
        """What a contestant's process needs to find the servers."""
        tooling = Path(__file__).parents[1]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        kept.pop("PYTHONDONTWRITEBYTECODE", None)  # modules are compiled once, as for everyone
        return {
            **kept,
            "PYTHONPYCACHEPREFIX": str(self.folder / "bytecode"),
            **self.kms.environment(),
            "PYTHONPATH": os.pathsep.join((str(tooling), str(tooling.parent / "tests"))),
            "BENCH_DATABASE_URL": self.url,
            "BENCH_KEK": self.kek,
        }

    def python(self, *arguments: str) -> list[str]:
        """A command line that runs Python as this one does."""
        return [sys.executable, *arguments]

    def dekctl(self, *arguments: str) -> list[str]:
        """A command line of dekctl on the table that was made last."""
        return self.python("-m", "dekctl", "--config", str(self.config), "--json", *arguments)

    def new_table(self, rows: int, *, wrapping: str = "V2") -> None:
        """A new database with the seed's table of so many rows; the one before is dropped."""
        if self._made:
            self.postgres.sql(f"DROP DATABASE bench{self._made} WITH (FORCE)")
        self._made += 1
        name = f"bench{self._made}"
        self.url = self.postgres.create_database(name)
        self.postgres.sql(TABLE, name)
        for first in range(1, rows + 1, ROWS_A_STATEMENT):
            last = min(rows, first + ROWS_A_STATEMENT - 1)
            self.postgres.sql(ROWS.format(first=first, last=last), name)
        self.postgres.sql("VACUUM ANALYZE encrypted_files", name)
        self.postgres.sql("CHECKPOINT", name)
        self.write_config(wrapping)

    def write_config(self, wrapping: str) -> None:
        """Write dekctl's configuration for the table that was made last."""
        table = f'[table]\nwrapping = "{wrapping}"\n' if wrapping != "V2" else ""
        self.config.write_text(
            f'{table}[env.bench]\ndatabase_url = "env:BENCH_DATABASE_URL"\nkek = "{self.kek}"\n'
        )
