"""``--cluster``: a Dask cluster of real processes on loopback, one of them killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.app import AppDatabase
from support.cli import Dekctl
from support.dask_cluster import Cluster, cluster
from support.kms_standin import KmsStandin
from support.waiting import wait_until

pytest.importorskip("distributed", reason="the extra `cluster` is not installed")

ROWS = 1500


@dataclass
class Job:
    """A table to wrap on a cluster."""

    dekctl: Dekctl
    database: AppDatabase

    def wrapped(self) -> int:
        query = "SELECT count(*) FROM encrypted_files WHERE wrapped_key IS NOT NULL"
        return int(self.database.sql(query)[0][0])

    def start(self, dask: Cluster, rate: int, rows: int) -> subprocess.Popen[str]:
        """Begin, and come back when so many rows are wrapped."""
        child = self.dekctl.start(
            "--json", "wrap", "--cluster", dask.address, "--rate", str(rate), "--batch-size", "50"
        )
        wait_until(lambda: self.wrapped() >= rows, child)
        return child


@pytest.fixture
def job(
    postgres_database: AppDatabase, dekctl: Dekctl, make_app: Any, kms_standin: KmsStandin
) -> Job:
    dekctl.environ |= kms_standin.environment()
    env = {"provider": "aws", "kek": kms_standin.create_key(), "region": kms_standin.region}
    make_app(postgres_database, rows=ROWS, env=env)
    dekctl.json("schema", "expand")
    return Job(dekctl, postgres_database)


def test_a_cluster_does_every_row_though_a_worker_is_killed_and_one_joins_late(
    job: Job, dekctl: Dekctl, tmp_path: Path
) -> None:
    with cluster(tmp_path, dekctl.environ, 3, tls=True) as dask:
        assert dask.address.startswith("tls://")
        # A low rate makes the ranges small and the run long enough to be hit in the middle.
        child = job.start(dask, rate=300, rows=200)
        os.kill(dask.workers[0].pid, signal.SIGKILL)
        dask.start_worker()

        done = dekctl.finish(child).expect(0).json
        assert done["quarantined"] == 0
        assert job.wrapped() == ROWS
        assert [run["state"] for run in dekctl.json("status")["runs"]] == ["finished"]

        done = dekctl.process("--json", "verify", "--cluster", dask.address).expect(0).json
        assert (done["verified"], done["kms_calls"]) == (ROWS, {"Decrypt": ROWS})


def test_who_shows_no_certificate_is_refused(
    job: Job, dekctl: Dekctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dekctl.walk.processes.limits.CONNECT_SECONDS", 2)
    environ = dict(dekctl.environ)
    with cluster(tmp_path, environ, 1, tls=True) as dask:
        plain = dask.address.replace("tls://", "tcp://")
        module = [sys.executable, "-m", "distributed.cli.dask_worker"]
        options = ["--no-nanny", "--death-timeout", "3", "--local-directory", str(tmp_path)]
        worker = subprocess.run(
            [*module, plain, *options], capture_output=True, text=True, timeout=120, check=False
        )
        assert "Waiting to connect to" in worker.stderr
        assert "Registered to" not in worker.stderr
        assert "no Dask scheduler answers" in dekctl("wrap", "--cluster", plain).expect(2).stderr
        assert job.wrapped() == 0
        dekctl.environ |= environ
        dekctl.process("wrap", "--cluster", dask.address).expect(0)


def test_workers_that_join_do_not_lift_the_rate(
    job: Job, dekctl: Dekctl, kms_standin: KmsStandin, tmp_path: Path
) -> None:
    with cluster(tmp_path, dekctl.environ, 1) as dask:
        child = job.start(dask, rate=100, rows=50)
        for _ in range(3):
            dask.start_worker()
        for _ in range(3):
            # The clock runs before the first count until after the second: a busy machine makes
            # the rate look lower, never higher. Unshared, it would be 400.
            started = time.monotonic()
            before = kms_standin.counters().calls["Encrypt"]
            time.sleep(1)
            made = kms_standin.counters().calls["Encrypt"] - before
            assert made / (time.monotonic() - started) < 180
        child.send_signal(signal.SIGINT)
        dekctl.finish(child).expect(130)


def test_a_worker_with_several_threads_counts_each_call_once(
    job: Job, dekctl: Dekctl, tmp_path: Path
) -> None:
    with cluster(tmp_path, dekctl.environ, 1, threads=2) as dask:
        done = dekctl.process("--json", "wrap", "--cluster", dask.address).expect(0).json
        assert done["kms_calls"] == {"Encrypt": ROWS}


def test_without_workers_the_run_says_so_and_waits_for_one(
    job: Job, dekctl: Dekctl, tmp_path: Path
) -> None:
    with cluster(tmp_path, dekctl.environ, 1) as dask:
        child = job.start(dask, rate=1000, rows=50)
        os.kill(dask.workers[0].pid, signal.SIGKILL)
        dekctl.wait_until_said(child, "has no workers left")
        dask.start_worker()
        done = dekctl.finish(child).expect(0)
        assert job.wrapped() == ROWS
        assert "has workers again" in done.stderr


def test_a_lost_scheduler_is_told_with_the_way_on(job: Job, dekctl: Dekctl, tmp_path: Path) -> None:
    with cluster(tmp_path, dekctl.environ, 1) as dask:
        child = job.start(dask, rate=200, rows=50)
        os.kill(dask.scheduler.pid, signal.SIGKILL)
        done = dekctl.finish(child).expect(1)
        assert "the Dask scheduler at tcp://" in done.stderr
        assert "run the same command: it resumes" in done.stderr
        assert "Traceback" not in done.stderr


def test_an_address_where_nobody_answers_is_a_usage_error(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dekctl.walk.processes.limits.CONNECT_SECONDS", 1)
    make_app(sqlite_database, rows=1)
    dekctl.json("schema", "expand")
    done = dekctl("wrap", "--cluster", "tcp://127.0.0.1:1").expect(2)
    assert "no Dask scheduler answers" in done.stderr
