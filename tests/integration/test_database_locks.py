"""Locks, deadlocks and limits of the database: tried again, or told with what to do."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from dekctl.db.connect import open_database
from dekctl.db.dialect import Timeouts
from dekctl.db.dialects import sqlite
from dekctl.errors import DatabaseError
from support.app import AppDatabase
from support.cli import Dekctl
from support.waiting import PATIENCE_SECONDS


def test_a_row_that_the_application_holds_locked_is_waited_for_in_short_tries(
    server_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(server_database, rows=5, env={"lock_timeout_seconds": 1})
    dekctl.json("schema", "expand")
    pk = next(iter(app.deks))
    with server_database.engine.connect() as connection, connection.begin():
        connection.execute(
            sa.text("UPDATE encrypted_files SET filename = filename WHERE id = :id"), {"id": pk[0]}
        )
        child = dekctl.start("--json", "wrap")
        server_database.wait_for_run()
        time.sleep(2.5)  # one try may wait for one second
    assert dekctl.finish(child).expect(0).json["changed"] == 5


def test_the_lock_timeout_ends_a_wait_and_is_tried_again(server_database: AppDatabase) -> None:
    server_database.sql("CREATE TABLE counters (id INTEGER PRIMARY KEY, n INTEGER)")
    server_database.sql("INSERT INTO counters VALUES (1, 0)")
    tries: list[int] = []
    with (
        open_database(make_url(server_database.url), Timeouts(1, 30)) as database,
        server_database.engine.connect() as blocker,
    ):
        holding = blocker.begin()
        blocker.execute(sa.text("UPDATE counters SET n = 5"))

        def work(connection: sa.Connection) -> None:
            tries.append(len(tries))
            if len(tries) == 2:
                holding.rollback()
            connection.execute(sa.text("UPDATE counters SET n = n + 1"))

        database.run(work, write=True)
    assert len(tries) == 2, "the first try should have run into the lock time-out"
    assert server_database.sql("SELECT n FROM counters") == [(1,)]


def test_of_two_deadlocked_transactions_ours_is_tried_again(server_database: AppDatabase) -> None:
    server_database.sql("CREATE TABLE counters (id INTEGER PRIMARY KEY, n INTEGER)")
    server_database.sql("INSERT INTO counters VALUES (1, 0), (2, 0)")
    url = make_url(server_database.url)
    meet = threading.Barrier(2, timeout=PATIENCE_SECONDS)
    first: dict[int, bool] = {}

    with open_database(url, Timeouts(20, 30)) as database:

        def crossing(start: int) -> None:
            def work(connection: sa.Connection) -> None:
                bump = sa.text("UPDATE counters SET n = n + 1 WHERE id = :id")
                connection.execute(bump, {"id": start})
                if start not in first:
                    first[start] = True
                    meet.wait()  # both hold one row and now want the other's
                connection.execute(bump, {"id": 3 - start})

            database.run(work, write=True)

        threads = [threading.Thread(target=crossing, args=(n,)) for n in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
    assert server_database.sql("SELECT n FROM counters ORDER BY id") == [(2,), (2,)]


def test_a_serialization_failure_is_tried_again(postgres_database: AppDatabase) -> None:
    postgres_database.sql("CREATE TABLE counters (id INTEGER PRIMARY KEY, n INTEGER)")
    postgres_database.sql("INSERT INTO counters VALUES (1, 0)")
    tries: list[int] = []
    with open_database(make_url(postgres_database.url), Timeouts(3, 30)) as database:

        def work(connection: sa.Connection) -> None:
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            seen = connection.exec_driver_sql("SELECT n FROM counters").scalar_one()
            tries.append(seen)
            if len(tries) == 1:
                postgres_database.sql("UPDATE counters SET n = 10")
            connection.execute(sa.text("UPDATE counters SET n = :n"), {"n": seen + 1})

        database.run(work, write=True)
    assert tries == [0, 10]
    assert postgres_database.sql("SELECT n FROM counters") == [(11,)]


def test_a_statement_that_takes_too_long_is_ended_and_the_hint_says_what_to_do(
    server_database: AppDatabase,
) -> None:
    wait = "SELECT pg_sleep(60)" if server_database.kind == "postgresql" else "SELECT SLEEP(60)"
    with open_database(make_url(server_database.url), Timeouts(1, 0.5)) as database:
        with pytest.raises(DatabaseError, match="refused") as caught:
            database.run(lambda connection: connection.exec_driver_sql(wait).all())
        assert "--batch-size" in (caught.value.hint or "")
        with database.transaction(patient=True) as connection:
            assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1


def test_a_reader_waits_longer_for_sqlites_lock_than_one_writer_may_hold_it(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Writers that follow each other closely keep it out like one that holds the lock all the time.
    make_app(sqlite_database, rows=3, env={"lock_timeout_seconds": 0.01})
    dekctl.json("migrate")
    tries: list[object] = []

    def watched(error: Any) -> bool:
        busy = is_busy(error)
        tries.append(error)
        if len(tries) == 2:
            holder.rollback()
        return busy

    is_busy = sqlite._is_busy
    monkeypatch.setattr(sqlite, "_is_busy", watched)
    with sqlite_database.engine.connect() as holder:
        holder.exec_driver_sql("BEGIN EXCLUSIVE")
        assert dekctl.json("status")["rows"] == 3
    assert len(tries) >= 2
