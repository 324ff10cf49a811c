"""Nothing grows: runs and reads in one process, with faults of KMS and lost connections.

Some rounds by default. By hand for half an hour: ``DEKCTL_SOAK_SECONDS=1800 make test
ARGS="-n 0 -s tests/acceptance/test_soak.py"``.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dekctl.config import load_config
from dekctl.errors import DekctlError
from dekctl.operations.rewrap import Rewrap
from dekctl.operations.verify import Verify
from dekctl.operations.wrap import Wrap
from dekctl.project import Project
from dekctl.reader import RowKeys
from dekctl.walk.options import RowOptions
from dekctl.walk.run import run_rows
from sandbox.postgres import PostgresServer
from support.app import AppDatabase
from support.cli import Dekctl
from support.kms_standin import Fault, KmsStandin

SECONDS = float(os.environ.get("DEKCTL_SOAK_SECONDS", "0"))
WARM_ROUNDS, ROUNDS = 2, 5
ROWS = 60
MEMORY_MB = 20
KMS_CONNECTIONS = 16
"""How many are open at a moment varies by so many."""
FAULTS = (
    Fault("ThrottlingException", 0.05),
    Fault("KMSInternalException", 0.02),
    Fault("cut-before", 0.02),
    Fault("cut-middle", 0.02),
    Fault("cut-after", 0.02),
)
VERBS = (Wrap(stale=True), Verify(), Rewrap(same_key=True))


class Held(NamedTuple):
    """What the process, and its sessions at the server, hold."""

    descriptors: int
    threads: int
    connections: int
    temporary_tables: int


pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="there is no /proc here")


def held(server: PostgresServer, name: str) -> Held:
    gc.collect()
    connections = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'"
    tables = "SELECT count(*) FROM pg_class WHERE relpersistence = 't' AND relkind = 'r'"
    return Held(
        sum(1 for _ in Path("/proc/self/fd").iterdir()),
        threading.active_count(),
        int(server.sql(connections)[0][0]),
        int(server.sql(tables, name)[0][0]),
    )


def megabytes() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


def test_nothing_grows(
    postgres_server: PostgresServer,
    postgres_database: AppDatabase,
    dekctl: Dekctl,
    make_app: Any,
    kms_standin: KmsStandin,
    environ: dict[str, str],
) -> None:
    dekctl.environ |= environ
    env = {"provider": "aws", "kek": kms_standin.create_key(), "region": kms_standin.region}
    app = make_app(postgres_database, rows=ROWS, env=env)
    dekctl.json("schema", "expand")
    config = load_config(dekctl.folder / "dekctl.toml", "test")
    name = str(postgres_database.engine.url.database)
    kms_standin.set_faults(*FAULTS)
    table, rounds, warm = app.now(), 0, 0.0
    most: Held | None = None
    started = time.monotonic()
    keys = RowKeys.from_config(config, deadline=30.0)
    with Project(config) as project:
        while rounds < ROUNDS or time.monotonic() - started < SECONDS:
            for verb in VERBS:
                done = run_rows(project, verb, RowOptions())
                assert done.counts.quarantined == 0
            with postgres_database.engine.connect() as connection:
                rows = [dict(r) for r in connection.execute(table.select()).mappings()]
            assert not [k for k in keys.read_many(rows) if isinstance(k, DekctlError)]
            postgres_database.engine.dispose()  # only dekctl's sessions are left
            now = held(postgres_server, name)
            postgres_server.sql(
                "SELECT pg_terminate_backend(min(pid)) FROM pg_stat_activity "
                f"WHERE datname = '{name}' AND state = 'idle'"
            )
            rounds += 1
            if rounds <= WARM_ROUNDS or time.monotonic() - started < SECONDS / 10:
                most = now if most is None else Held(*map(max, zip(most, now, strict=True)))
                warm = megabytes()
                continue
            assert most is not None
            more = [after - before for before, after in zip(most, now, strict=True)]
            assert max(more[1:]) <= 0, f"round {rounds}: {now}, {most} before"
            assert more[0] <= KMS_CONNECTIONS, f"round {rounds}: {now}, {most} before"
            assert megabytes() - warm < MEMORY_MB
    keys.close()
    sys.stdout.write(
        f"{rounds} rounds, {time.monotonic() - started:.0f} s; at most {most}; memory "
        f"{megabytes() - warm:+.1f} MB; faults {kms_standin.counters().errors}\n"
    )
