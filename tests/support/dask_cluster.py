"""A Dask cluster of real processes on loopback."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.process import ServerProcess
from support.cli import TOOLING
from support.kms_standin.tls import make_certificates

NO_PROFILER = {"DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "false"}
"""As docs/performance.md advises: it interrupts a worker a hundred times a second."""


@dataclass
class Cluster:
    """A scheduler and its workers."""

    address: str
    start_worker: Callable[[], ServerProcess]
    scheduler: ServerProcess
    workers: list[ServerProcess]


@contextlib.contextmanager
def cluster(
    folder: Path, environ: dict[str, str], workers: int, threads: int = 1, *, tls: bool = False
) -> Iterator[Cluster]:
    """Run a cluster on loopback. With ``tls``, ``environ`` also gets what a client needs."""
    file = folder / "scheduler.json"
    if tls:
        environ |= _tls(folder)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "DEKCTL_"))}
    environment = {**kept, **environ, **NO_PROFILER, "PYTHONPATH": str(TOOLING)}
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
        numbers = itertools.count()

        def start_worker() -> ServerProcess:
            name = f"worker-{next(numbers)}"
            return start(
                name,
                "dask_worker",
                lambda _: "Registered to" in (folder / f"{name}.log").read_text(),
                *options,
                "--nthreads",
                str(threads),
                "--no-nanny",
                "--local-directory",
                str(folder),
            )

        protocol = ("--protocol", "tls") if tls else ()
        there = start(
            "scheduler",
            "dask_scheduler",
            lambda _: file.exists() and file.stat().st_size > 0,  # made first, written then
            "--port",
            "0",
            *protocol,
            *options,
        )
        address = json.loads(file.read_text())["address"]
        yield Cluster(address, start_worker, there, [start_worker() for _ in range(workers)])


def _tls(folder: Path) -> dict[str, str]:
    """Dask's settings for a cluster in which every side shows a certificate."""
    authority, certificate = make_certificates(folder)
    prefix = "DASK_DISTRIBUTED__COMM__"
    sides = {
        f"{prefix}TLS__{side}__{part}": str(certificate)
        for side in ("SCHEDULER", "WORKER", "CLIENT")
        for part in ("CERT", "KEY")
    }
    return {
        f"{prefix}REQUIRE_ENCRYPTION": "true",
        f"{prefix}TLS__CA_FILE": str(authority),
        **sides,
    }
