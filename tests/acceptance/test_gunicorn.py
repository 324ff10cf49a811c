"""``examples/flask_app`` under gunicorn: threads in forks of a process in use, and gevent."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import toml
from sandbox.process import free_port
from support.app import AppDatabase
from support.cli import TOOLING, Dekctl
from support.fleet import EXAMPLES
from support.generations import Generations
from support.waiting import PATIENCE_SECONDS, eventually, wait_until

pytest.importorskip("gunicorn")

EXAMPLE = EXAMPLES / "flask_app"
CLIENTS = 8
WARM = """
from write import create_app

app = create_app()
client = app.test_client()
assert client.get("/ready").status_code == 200  # a connection to KMS, which workers inherit
assert client.get("/files").status_code == 200  # one to the database
"""
SERVERS = {
    "threads": ["--preload", "warm:app"],
    "gevent": ["--worker-class", "gevent", "write:create_app()"],
}


@contextmanager
def gunicorn(
    options: list[str], environ: dict[str, str], log: Path
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server in the example's folder. Yields its address; the log has a worker's pid a line."""
    address = f"127.0.0.1:{free_port()}"
    fixed = ["-c", str(EXAMPLE / "gunicorn.conf.py"), "--chdir", str(EXAMPLE), "--bind", address]
    access = ["--access-logfile", str(log), "--access-logformat", "%(p)s"]
    errors = log.with_suffix(".err")
    with errors.open("wb") as stderr:
        server = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *fixed, *access, *options],
            env=environ,
            stderr=stderr,
            text=True,
        )
        try:
            wait_until(lambda: "Booting worker" in errors.read_text(), server)
            yield f"http://{address}", server
        finally:
            server.terminate()
            server.wait(PATIENCE_SECONDS)
    assert "Traceback" not in errors.read_text(), errors.read_text()


def ask(method: str, url: str, data: bytes | None = None) -> bytes:
    """The answer, once it is not 503: a busy machine may take longer than a reader waits."""
    request = urllib.request.Request(url, data, method=method)  # noqa: S310 - it is http
    answers: list[bytes] = []

    def answered() -> bool:
        try:
            with urllib.request.urlopen(  # noqa: S310 - it is http
                request, timeout=PATIENCE_SECONDS
            ) as answer:
                answers.append(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                if error.code != 503:
                    raise
        return bool(answers)

    assert eventually(answered)
    return answers[0]


@pytest.mark.parametrize("kind", SERVERS)
def test_every_worker_reads_what_the_others_wrote(
    postgres_database: AppDatabase,
    dekctl: Dekctl,
    generations: Generations,
    tmp_path: Path,
    kind: str,
) -> None:
    if kind == "gevent":
        pytest.importorskip("gevent")
    dekctl.configure(toml(postgres_database, {"plaintext": "write"}, generations.env))
    (tmp_path / "warm.py").write_text(WARM)
    environ = {
        **dekctl._environment(),
        "PYTHONPATH": f"{TOOLING}:{tmp_path}",
        "PYTHONWARNINGS": "default",
        "DATABASE_URL": postgres_database.url,
        "DEKCTL_CONFIG": str(dekctl.folder / "dekctl.toml"),
    }
    # As the README has it, by the script, which does not look for modules in its folder.
    alembic = Path(sys.executable).with_name("alembic")
    subprocess.run([alembic, "upgrade", "head"], cwd=EXAMPLE, env=environ, check=True)
    dekctl.json("schema", "expand")
    log = tmp_path / "access.log"
    with (
        gunicorn(SERVERS[kind], environ, log) as (address, server),
        ThreadPoolExecutor(CLIENTS) as pool,
    ):

        def use(client: int) -> None:
            content = f"file of client {client}".encode()
            number = json.loads(ask("POST", f"{address}/files/a.txt", content))["id"]
            for _ in range(4):
                assert ask("GET", f"{address}/files/{number}") == content

        def all_workers_answered() -> bool:
            list(pool.map(use, range(CLIENTS)))
            return len(set(log.read_text().split())) == 2

        wait_until(all_workers_answered, None)
        assert server.poll() is None
