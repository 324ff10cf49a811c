"""What databases do to a run: restarts, killed connections, locks, deadlocks, time-outs."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from dekctl.db import database as database_module
from dekctl.db.connect import open_database
from dekctl.db.database import Database
from dekctl.db.dialect import Timeouts
from dekctl.db.dialects import mysql as mysql_module
from dekctl.errors import DatabaseError
from dekctl.walk.engine import Walk
from sandbox.mariadb import MariaDBServer
from sandbox.postgres import PostgresServer
from support.app import AppDatabase
from support.cli import Dekctl


def at_page(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], None]) -> list[bool]:
    """Do something while the so-many-th page is with KMS. Returns a list that fills when it did."""
    work, lock, pages, done = Walk._work, threading.Lock(), [0], list[bool]()

    def disturbed(walk: Walk, rows: Any) -> Any:
        with lock:
            pages[0] += 1
            if pages[0] == number:
                act()
                done.append(True)
        return work(walk, rows)

    monkeypatch.setattr(Walk, "_work", disturbed)
    return done


def test_killed_connections_are_made_again(
    server_database: AppDatabase, dekctl: Dekctl, make_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(server_database, rows=60)
    dekctl.json("schema", "expand")

    def kill_all() -> None:
        if server_database.kind == "postgresql":
            server_database.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            return
        for (number,) in server_database.sql(
            "SELECT id FROM information_schema.processlist "
            "WHERE db = DATABASE() AND id <> CONNECTION_ID()"
        ):
            try:
                server_database.sql(f"KILL CONNECTION {number}")
            except sa.exc.OperationalError as error:
                if error.orig is None or error.orig.args[0] != 1094:  # it has just ended by itself
                    raise

    done = at_page(monkeypatch, 3, kill_all)
    result = dekctl.json("wrap", "--batch-size", "5")
    assert done, "nothing was killed"
    assert (result["changed"], result["quarantined"]) == (60, 0)
    monkeypatch.undo()
    dekctl.json("verify")
    assert app.counts()["both"] == 60


def test_a_connection_that_dies_within_the_transaction_loses_it_and_it_is_done_again(
    server_database: AppDatabase, dekctl: Dekctl, make_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(server_database, rows=20)
    dekctl.json("migrate")
    swap, killed = Database.run, list[bool]()

    def fatal(self: Database, work: Any, **options: Any) -> Any:
        def dying(connection: sa.Connection) -> Any:
            result = work(connection)
            if options.get("write") and work.__name__ == "commit" and not killed:
                killed.append(True)
                if server_database.kind == "postgresql":
                    number = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
                    server_database.sql(f"SELECT pg_terminate_backend({number})")
                else:
                    number = connection.exec_driver_sql("SELECT CONNECTION_ID()").scalar_one()
                    server_database.sql(f"KILL CONNECTION {number}")
            return result

        return swap(self, dying, **options)

    monkeypatch.setattr(Database, "run", fatal)
    scrubbed = dekctl.json("scrub", "--yes")
    assert killed
    assert (scrubbed["changed"], scrubbed["moved"]) == (20, 0)
    monkeypatch.undo()
    assert app.counts()["wrapped_only"] == 20
    dekctl.json("verify")


def test_a_server_that_restarts_during_a_run_is_waited_for(
    tmp_path: Any, dekctl: Dekctl, make_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, reason = PostgresServer.find()
    if found is None:
        pytest.skip(reason)
    with PostgresServer.start() as server:  # its own: others use the shared one
        _restarted(server, "postgresql", dekctl, make_app, monkeypatch)


def test_a_mariadb_that_restarts_during_a_run_is_waited_for(
    dekctl: Dekctl, make_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, reason = MariaDBServer.find()
    if found is None:
        pytest.skip(reason)
    with MariaDBServer.start() as server:
        _restarted(server, "mariadb", dekctl, make_app, monkeypatch)


def _restarted(
    server: PostgresServer | MariaDBServer,
    kind: Any,
    dekctl: Dekctl,
    make_app: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = server.create_database("restarted")
    engine = sa.create_engine(url, poolclass=sa.NullPool, hide_parameters=True)
    app = make_app(AppDatabase(kind, url, engine), rows=60)
    dekctl.json("schema", "expand")
    done = at_page(monkeypatch, 3, lambda: server.restart(crash=True))
    result = dekctl.json("wrap", "--batch-size", "5")
    assert done, "nothing was restarted"
    assert (result["changed"], result["quarantined"]) == (60, 0)
    monkeypatch.undo()
    dekctl.json("verify")
    assert app.counts()["both"] == 60
    engine.dispose()


def test_a_server_that_stays_away_ends_the_run_when_the_patience_is_over(
    dekctl: Dekctl, make_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, reason = PostgresServer.find()
    if found is None:
        pytest.skip(reason)
    monkeypatch.setattr(database_module, "RETRY_SECONDS", 2.0)
    with PostgresServer.start() as server:
        url = server.create_database("gone")
        engine = sa.create_engine(url, poolclass=sa.NullPool, hide_parameters=True)
        make_app(AppDatabase("postgresql", url, engine), rows=60)
        dekctl.json("schema", "expand")
        at_page(monkeypatch, 3, server._running.stop)
        ended = dekctl("wrap", "--batch-size", "5").expect(6)
        assert "finished batches are kept" in ended.stderr
        engine.dispose()


def test_an_unreachable_server_is_told_soon(dekctl: Dekctl) -> None:
    dekctl.configure('[env.test]\nprovider = "env"\n'
                     'database_url = "postgresql+psycopg://x:y@127.0.0.1:1/none"\n')  # fmt: skip
    assert "hint:" in dekctl("wrap").expect(6).stderr


def test_one_interrupt_is_enough_when_the_server_has_stopped_answering(
    server_database: AppDatabase,
    request: pytest.FixtureRequest,
    dekctl: Dekctl,
    make_app: Any,
) -> None:
    make_app(server_database, rows=3000)
    dekctl.json("schema", "expand")
    gate = dekctl.folder / "control.toml"
    gate.write_text("pause = true\n")
    child = dekctl.start("wrap", "--batch-size", "10", "--control", str(gate))
    server_database.wait_for_run()
    time.sleep(1)
    if server_database.kind == "postgresql":
        stopped = [
            number
            for (number,) in server_database.sql(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' "
                "AND datname = current_database() AND pid <> pg_backend_pid()"
            )
        ]
        stopped.append(request.getfixturevalue("postgres_server").pid)
    else:
        stopped = [request.getfixturevalue("mariadb_server").pid]
    for number in stopped:
        os.kill(number, signal.SIGSTOP)
    try:
        gate.unlink()
        time.sleep(3)  # it reads the first page now, in vain
        assert child.poll() is None
        child.send_signal(signal.SIGINT)
        began = time.monotonic()
        result = dekctl.finish(child)
        assert time.monotonic() - began < 200, "it waited for the server"
    finally:
        for number in stopped:
            os.kill(number, signal.SIGCONT)
    assert result.exit_code in (6, 130), result.stderr  # 6: the ledger could not be told
    dekctl("wrap").expect(0)


def test_a_server_that_stops_answering_is_lost_after_the_statement_s_limit(
    mariadb_database: AppDatabase, mariadb_server: MariaDBServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mysql_module, "RESPONSE_SECONDS", 1.0)
    with open_database(make_url(mariadb_database.url), Timeouts(1, 1)) as database:

        def ask_a_stopped_server() -> None:
            with database.transaction() as connection:
                os.kill(mariadb_server.pid, signal.SIGSTOP)
                connection.exec_driver_sql("SELECT 1")

        began = time.monotonic()
        try:
            with pytest.raises(DatabaseError, match="went away"):
                ask_a_stopped_server()
        finally:
            os.kill(mariadb_server.pid, signal.SIGCONT)
        assert time.monotonic() - began < 60, "it waited for the server"
