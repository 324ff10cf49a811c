"""``--cluster``: a Dask cluster of real processes on loopback, one of them killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sandbox.process import ServerProcess
from support.app import AppDatabase
from support.cli import TOOLING, Dekctl
from support.kms_standin import KmsStandin

pytest.importorskip("distributed", reason="the extra `cluster` is not installed")

ROWS = 1500
PATIENCE_SECONDS = 60


@dataclass
class Cluster:
    """A scheduler and its workers."""

    address: str
    workers: list[ServerProcess]


@contextlib.contextmanager
def cluster(folder: Path, environ: dict[str, str], workers: int) -> Iterator[Cluster]:
    file = folder / "scheduler.json"
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "DEKCTL_"))}
    environment = {**kept, **environ, "PYTHONPATH": str(TOOLING)}
    with contextlib.ExitStack() as stack:

        def start(name: str, module: str, ready: Any, *options: str) -> ServerProcess:
            process = ServerProcess.start(
                [
                    sys.executable,
                    "-m",
                    f"distributed.cli.{module}",
                    "--host",
                    "127.0.0.1",
                    *options,
                ],
                log=folder / f"{name}.log",
                ready=ready,
                environment=environment,
            )
            stack.callback(process.stop)
            return process

        options = ("--scheduler-file", str(file), "--no-dashboard")
        start("scheduler", "dask_scheduler", lambda _: file.exists(), "--port", "0", *options)
        started = []
        for number in range(workers):
            log = folder / f"worker-{number}.log"
            started.append(
                start(
                    f"worker-{number}",
                    "dask_worker",
                    lambda _, log=log: "Registered to" in log.read_text(),
                    *options,
                    "--nthreads",
                    "1",
                    "--no-nanny",
                    "--local-directory",
                    str(folder),
                )
            )
        yield Cluster(json.loads(file.read_text())["address"], started)


def test_a_cluster_does_every_row_though_a_worker_is_killed(
    postgres_database: AppDatabase,
    dekctl: Dekctl,
    make_app: Any,
    kms_standin: KmsStandin,
    tmp_path: Path,
) -> None:
    dekctl.environ |= kms_standin.environment()
    env = {"provider": "aws", "kek": kms_standin.create_key(), "region": kms_standin.region}
    make_app(postgres_database, rows=ROWS, env=env)
    dekctl.json("schema", "expand")

    def wrapped() -> int:
        query = "SELECT count(*) FROM encrypted_files WHERE wrapped_key IS NOT NULL"
        return int(postgres_database.sql(query)[0][0])

    with cluster(tmp_path, dekctl.environ, 2) as dask:
        # A low rate makes the ranges small and the run long enough to be hit in the middle.
        child = dekctl.start(
            "--json", "wrap", "--cluster", dask.address, "--rate", "300", "--batch-size", "100"
        )
        end = time.monotonic() + PATIENCE_SECONDS
        while wrapped() < 200:
            assert child.poll() is None, "dekctl ended before it was expected to"
            assert time.monotonic() < end, "the cluster wraps nothing"
            time.sleep(0.05)
        os.kill(dask.workers[0].pid, signal.SIGKILL)

        done = dekctl.finish(child).expect(0).json
        assert done["quarantined"] == 0
        assert wrapped() == ROWS
        assert [run["state"] for run in dekctl.json("status")["runs"]] == ["finished"]

        done = dekctl.process("--json", "verify", "--cluster", dask.address).expect(0).json
        assert (done["verified"], done["kms_calls"]) == (ROWS, {"Decrypt": ROWS})


def test_an_address_where_nobody_answers_is_a_usage_error(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dekctl.walk.cluster.CONNECT_SECONDS", 1)
    make_app(sqlite_database, rows=1)
    dekctl.json("schema", "expand")
    done = dekctl("wrap", "--cluster", "tcp://127.0.0.1:1").expect(2)
    assert "no Dask scheduler answers" in done.stderr
