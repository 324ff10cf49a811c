"""The throw-away servers: they start, answer, and leave nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Protocol, Self

import pytest
from sqlalchemy import create_engine, text

from sandbox.mariadb import MariaDBServer
from sandbox.moto import MotoServer
from sandbox.postgres import PostgresServer
from sandbox.process import SandboxError, ServerProcess
from support.waiting import eventually

TOOLING = Path(__file__).parents[2] / "tooling"


class Server(Protocol):
    port: int

    @property
    def pid(self) -> int: ...
    def stop(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


SERVERS: dict[str, type[PostgresServer | MariaDBServer | MotoServer]] = {
    "postgres": PostgresServer,
    "mariadb": MariaDBServer,
    "moto": MotoServer,
}


@pytest.fixture(params=SERVERS)
def kind(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    found, reason = SERVERS[name].find()
    if found is None:
        pytest.skip(reason)
    return name


def start(kind: str, directory: Path) -> Server:
    return SERVERS[kind].start(directory)


def listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie (nobody may be there to reap an orphan)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout
    return bool(state) and not state.startswith("Z")


@pytest.mark.parametrize("name", ["postgres", "mariadb"])
def test_a_database_answers_a_query_through_its_url(name: str, tmp_path: Path) -> None:
    server_class = PostgresServer if name == "postgres" else MariaDBServer
    found, reason = server_class.find()
    if found is None:
        pytest.skip(reason)
    with server_class.start(tmp_path) as server:
        engine = create_engine(server.create_database('app "one"'))
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE t (n INTEGER)"))
            connection.execute(text("INSERT INTO t VALUES (41), (1)"))
        engine.dispose()
        assert server.sql("SELECT sum(n) FROM t", 'app "one"') == [(42,)]
        server.restart(crash=True)
        assert server.sql("SELECT sum(n) FROM t", 'app "one"') == [(42,)]
        assert server.data_directory.is_dir()


@pytest.mark.parametrize("name", ["postgres", "mariadb"])
def test_a_database_does_not_run_as_root(name: str, tmp_path: Path) -> None:
    server_class = PostgresServer if name == "postgres" else MariaDBServer
    found, reason = server_class.find()
    if found is None:
        pytest.skip(reason)
    before = {parent: parent.stat().st_mode for parent in tmp_path.parents}
    with server_class.start(tmp_path) as server:
        uid = subprocess.run(
            ["ps", "-o", "uid=", "-p", str(server.pid)], capture_output=True, text=True, check=True
        ).stdout.strip()
    assert uid != "0"
    assert {parent: parent.stat().st_mode for parent in tmp_path.parents} == before


def test_a_server_that_starts_leaves_the_temporary_tables_of_another_alone(tmp_path: Path) -> None:
    found, reason = MariaDBServer.find()
    if found is None:
        pytest.skip(reason)
    with MariaDBServer.start(tmp_path) as server:
        engine = create_engine(server.create_database("app"))
        with engine.connect() as connection:
            connection.execute(text("CREATE TEMPORARY TABLE t (n INTEGER) ENGINE=Aria"))
            with MariaDBServer.start():
                # The second name makes the server open the table's files once more.
                twice = connection.execute(text("SELECT count(*) FROM t AS a, t AS b"))
                assert twice.scalar_one() == 0
        engine.dispose()


def test_a_setting_reaches_the_database(tmp_path: Path) -> None:
    found, reason = PostgresServer.find()
    if found is None:
        pytest.skip(reason)
    with PostgresServer.start(tmp_path, settings={"fsync": "on"}) as server:
        assert server.sql("SHOW fsync") == [("on",)]


def test_moto_answers_and_forgets_on_reset(tmp_path: Path) -> None:
    found, reason = MotoServer.find()
    if found is None:
        pytest.skip(reason)
    boto3 = pytest.importorskip("boto3")
    with MotoServer.start(tmp_path) as server:
        kms = boto3.client(
            "kms",
            region_name="us-east-1",
            endpoint_url=server.endpoint_url,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )
        kms.create_key()
        assert len(kms.list_keys()["Keys"]) == 1
        server.reset()
        assert kms.list_keys()["Keys"] == []
        kms.close()


def test_nothing_is_left_after_stop(kind: str, tmp_path: Path) -> None:
    server = start(kind, tmp_path)
    pid, port = server.pid, server.port
    assert listening(port)
    server.stop()
    assert not listening(port)
    assert not alive(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_killed_owner_takes_the_server_along(kind: str, tmp_path: Path) -> None:
    server_class = SERVERS[kind]
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        f"from {server_class.__module__} import {server_class.__name__} as Server\n"
        "server = Server.start(Path(sys.argv[1]))\n"
        "print(server.pid, server.port, server.directory, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TOOLING)},
    ) as owner:
        assert owner.stdout is not None
        first, second, folder = owner.stdout.readline().strip().split(" ", 2)
        pid, port = int(first), int(second)
        assert listening(port)
        os.kill(owner.pid, signal.SIGKILL)
    assert eventually(lambda: not alive(pid)), f"process {pid} outlived its owner"
    assert eventually(lambda: not listening(port))
    # The owner had no chance to remove a temporary folder.
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_server_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    servers: list[ServerProcess] = []

    def work() -> None:
        servers.append(
            ServerProcess.start(["sleep", "600"], log=tmp_path / "log", ready=lambda _: True)
        )

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    time.sleep(0.3)
    with servers[0] as server:
        assert server.running


def test_children_of_the_server_are_stopped_too(tmp_path: Path) -> None:
    pid_file = tmp_path / "child"
    command = ["sh", "-c", f"sleep 600 & echo $! > '{pid_file}'; trap '' TERM; wait; sleep 600"]
    server = ServerProcess.start(
        command,
        log=tmp_path / "log",
        ready=lambda _: pid_file.is_file() and pid_file.stat().st_size > 0,
    )
    child = int(pid_file.read_text())
    assert alive(child)
    server.stop(grace=0.2)
    assert not server.running
    assert eventually(lambda: not alive(child))


def test_a_server_that_ends_early_shows_its_log(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match=r"code 3(.|\n)*no such luck"):
        ServerProcess.start(
            ["sh", "-c", "echo no such luck; exit 3"], log=tmp_path / "log", ready=lambda _: False
        )


def test_a_server_that_is_never_ready_is_stopped(tmp_path: Path) -> None:
    pids: list[int] = []

    def never(pid: int) -> bool:
        pids.append(pid)
        return False

    with pytest.raises(SandboxError, match=r"not ready after 0.2 seconds(.|\n)*still thinking"):
        ServerProcess.start(
            ["sh", "-c", "echo still thinking; exec sleep 600"],
            log=tmp_path / "log",
            ready=never,
            deadline=0.2,
        )
    assert not alive(pids[0])
