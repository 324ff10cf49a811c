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
from dekctl.db.dialects import sqlite
from dekctl.errors import DatabaseError
from dekctl.walk.engine import Walk
from sandbox.mariadb import MariaDBServer
from sandbox.postgres import PostgresServer
from support.app import AppDatabase
from support.cli import Dekctl
from support.secrets import assert_hidden
from support.waiting import PATIENCE_SECONDS, wait_until

SERVERS = ("postgresql", "mariadb")


@pytest.fixture(params=SERVERS)
def server_database(request: pytest.FixtureRequest) -> AppDatabase:
    """A database on each server in turn."""
    name = "postgres_database" if request.param == "postgresql" else "mariadb_database"
    database = request.getfixturevalue(name)
    assert isinstance(database, AppDatabase)
    return database


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
            server_database.sql(f"KILL CONNECTION {number}")

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
        _wait_for_lock_timeout(server_database)
    assert dekctl.finish(child).expect(0).json["changed"] == 5


def _wait_for_lock_timeout(database: AppDatabase) -> None:
    """Until the run waited for the lock longer than one try may: 1.5 seconds after its start."""
    wait_for_run(database)
    time.sleep(1.5)


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


def test_no_password_of_a_database_url_is_shown(
    dekctl: Dekctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "FIRST_CONTACT_SECONDS", 0.0)
    urls = [
        "postgresql+psycopg://x:S3CRET@127.0.0.1:1/none?password=S3CRET&sslpassword=S3CRET",
        "mysql+pymysql://x:S3CRET@127.0.0.1:1/none?password=S3CRET",
    ]
    for url in urls:
        dekctl.configure(f'[env.test]\nprovider = "env"\ndatabase_url = "{url}"\n')
        for command in (["status"], ["doctor"], ["--debug", "wrap"]):
            result = dekctl(*command).expect(6)
            assert "S3CRET" not in result.stdout + result.stderr


LEAKS = {
    "an SQLSTATE of its own": "RAISE EXCEPTION 'no % here', k USING errcode = 'KEY01'",
    "one of the server's": "RAISE EXCEPTION 'no % here', k USING errcode = '57014'",
    "a right's": "RAISE EXCEPTION 'no % here', k USING errcode = '42501'",
    "none": "RAISE EXCEPTION 'no % here', k",
    "a statement of its own": "EXECUTE 'SELECT 1 FROM ' || quote_ident(k)",
    "a cast": "PERFORM k::int",
}


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS)
def test_what_a_trigger_of_postgresql_says_is_not_repeated(
    postgres_database: AppDatabase, dekctl: Dekctl, make_app: Any, leak: str
) -> None:
    app = make_app(postgres_database, rows=1)
    dekctl.json("migrate")
    with postgres_database.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION leak() RETURNS trigger LANGUAGE plpgsql AS $$ "
            "DECLARE k text := encode(old.encryption_key, 'hex'); "
            f"BEGIN {leak.replace('%', '%%')}; RETURN new; END $$"
        )
        connection.exec_driver_sql(
            "CREATE TRIGGER leak BEFORE UPDATE ON encrypted_files "
            "FOR EACH ROW EXECUTE FUNCTION leak()"
        )
    ended = dekctl("scrub", "--yes").expect(6)
    told = ended.stderr + str(postgres_database.sql("SELECT error, result FROM dekctl_runs"))
    assert_hidden(told, app.deks.values(), "what scrub says")
    assert "SQLSTATE" in told


@pytest.mark.parametrize("app_database", ["sqlite", "mariadb"], indirect=True)
def test_what_a_trigger_of_mariadb_or_sqlite_says_is_not_repeated(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=1, storage="text", plaintext_encoding="hex")
    dekctl.json("migrate")
    body = {
        "sqlite": "BEGIN SELECT RAISE(ABORT, '{key}'); END",
        "mariadb": "FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{key}'",
    }
    [dek] = app.deks.values()
    text = body[app_database.kind].replace("{key}", dek.hex())
    with app_database.engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE TRIGGER leak BEFORE UPDATE ON encrypted_files {text}")
    ended = dekctl("scrub", "--yes").expect(6)
    told = ended.stderr + str(app_database.sql("SELECT error, result FROM dekctl_runs"))
    assert_hidden(told, [dek], "what scrub says")


# -- a server that does not answer -----------------------------------------------------------------


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
    wait_for_run(server_database)
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


def wait_for_run(database: AppDatabase) -> None:
    wait_until(lambda: database.sql("SELECT 1 FROM dekctl_runs WHERE state = 'running'"))
    time.sleep(1)


# -- rows that a policy hides ----------------------------------------------------------------------


def test_rows_that_a_policy_hides_stop_every_command(
    postgres_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    """A guard that sees the visible rows only would let all other keys be destroyed."""
    app = make_app(postgres_database, rows=6)
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    [(kek,)] = postgres_database.sql("SELECT DISTINCT kek_id FROM encrypted_files")
    role = f"hidden_{make_url(postgres_database.url).database}"
    owned = ("encrypted_files", "dekctl_tables", "dekctl_runs", "dekctl_quarantine")
    besides = ("dekctl_branch_keys", "dekctl_version_encrypted_files", "dekctl_ledger_version")
    postgres_database.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    try:
        postgres_database.sql(f"GRANT ALL ON SCHEMA public TO {role}")
        for table in (*owned, *besides):
            postgres_database.sql(f"ALTER TABLE {table} OWNER TO {role}")
        trigger = app.config.trigger
        postgres_database.sql(f"ALTER FUNCTION {trigger}() OWNER TO {role}")
        postgres_database.sql("ALTER TABLE encrypted_files ENABLE ROW LEVEL SECURITY")
        postgres_database.sql("ALTER TABLE encrypted_files FORCE ROW LEVEL SECURITY")
        postgres_database.sql("CREATE POLICY p ON encrypted_files USING (false)")
        file = dekctl.folder / "dekctl.toml"
        url = make_url(postgres_database.url).set(username=role, password="x")
        file.write_text(
            file.read_text().replace(
                postgres_database.url, url.render_as_string(hide_password=False)
            )
        )
        for command in (
            ["rollback", "--yes"],
            ["schema", "contract", "--yes"],
            ["verify"],
            ["status"],
            ["retire", kek],
        ):
            assert "BYPASSRLS" in dekctl(*command).expect(6).stderr, command
        assert app.counts()["wrapped_only"] == 6
        postgres_database.sql(f"ALTER ROLE {role} BYPASSRLS")
        dekctl("rollback", "--yes").expect(0)
    finally:
        postgres_database.sql(f"REASSIGN OWNED BY {role} TO CURRENT_USER")
        postgres_database.sql(f"DROP OWNED BY {role}")
        postgres_database.sql(f"DROP ROLE {role}")


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
