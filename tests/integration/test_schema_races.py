"""Schema steps against an application that is writing: no step drops a key that is in use."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from dekctl.db.connect import open_database
from dekctl.db.dialect import Timeouts
from dekctl.kms import EnvKMS
from dekctl.ledger import Ledger, RunState
from support.app import AppDatabase, Application
from support.cli import Dekctl
from support.waiting import PATIENCE_SECONDS


class Straggler:
    """An application's transaction that inserts a row and commits while the step waits for it."""

    def __init__(self, database: AppDatabase, column: str) -> None:
        self.begun = False
        self._database = database
        self._column = column
        self._timer = threading.Timer(0.3, self._commit)
        self._connection: sa.Connection | None = None

    def begin(self) -> None:
        if not self.begun:
            self.begun = True
            self._connection = self._database.engine.connect()
            self._connection.execute(
                sa.text(
                    f"INSERT INTO encrypted_files (id, filename, {self._column}, ciphertext) "
                    "VALUES (77, 'late', :key, :text)"
                ),
                {"key": b"k" * 32, "text": b"x"},
            )

    def commit_soon(self) -> None:
        """Called before the statement that has to wait: a commit too early is seen by the guard."""
        if self.begun and self._timer.ident is None:
            self._timer.start()

    def _commit(self) -> None:
        assert self._connection is not None
        self._connection.commit()
        self._connection.close()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Begin before the last look of a live step, commit while the step waits."""
        armed = self._database.kind != "postgresql"

        def look(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            nonlocal armed
            if "DROP CONSTRAINT IF EXISTS dekctl_contract_guard" in statement:
                armed = True  # it takes a short lock of its own; what follows is the step itself
                return
            waits = statement.startswith(("LOCK TABLE", "ALTER TABLE", "DROP TRIGGER"))
            if armed and (waits or "IS NOT NULL AND" in statement):
                self.begin()
            if armed and waits:
                self.commit_soon()

        sa.event.listen(sa.Engine, "before_cursor_execute", look)
        try:
            yield
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", look)
            self.end()

    def end(self) -> None:
        assert self._timer.ident is not None, "the step was never made to wait"
        self._timer.join()


class ReadsThenWrites(Straggler):
    """An application's transaction that reads a row before the step, and then writes it."""

    error: sa.exc.DBAPIError | None = None

    def begin(self) -> None:
        if not self.begun:
            self.begun = True
            self._connection = self._database.engine.connect()
            self._connection.execute(sa.text("SELECT filename FROM encrypted_files WHERE id = 1"))

    def _commit(self) -> None:
        assert self._connection is not None
        with self._connection as connection:
            try:
                connection.execute(
                    sa.text("UPDATE encrypted_files SET filename = 'b' WHERE id = 1")
                )
                connection.commit()
            except sa.exc.DBAPIError as error:
                self.error = error


def allow_no_plaintext(database: AppDatabase) -> None:
    """As some legacy schemas are: then no NOT NULL at the end of a rollback saves the row."""
    change = "MODIFY encryption_key VARBINARY(32) NULL"
    if database.kind == "postgresql":
        change = "ALTER COLUMN encryption_key DROP NOT NULL"
    database.sql(f"ALTER TABLE encrypted_files {change}")


@pytest.mark.parametrize("command", [["rollback"], ["schema", "rollback"]], ids=" ".join)
def test_a_rollback_keeps_a_wrapped_key_that_is_not_the_plaintext(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any, command: list[str]
) -> None:
    app: Application = make_app(app_database, rows=3)
    dekctl("migrate").expect(0)
    # The application issued a new wrapped key, and left another plaintext behind.
    app.set((2,), plaintext=os.urandom(32))
    result = dekctl(*command, "--yes").expect(3)
    assert "dekctl settle --prove" in result.stderr
    assert dekctl.json("status")["stage"] == "expanded"
    app.assert_files_open(EnvKMS(dekctl.environ))
    # The operator decided for the wrapped key.
    app.set((2,), plaintext=None)
    dekctl("rollback", "--yes").expect(0)
    assert app.rows()[(2,)]["encryption_key"] == app.deks[(2,)]


def test_a_rollback_waits_for_a_key_that_is_being_issued_and_keeps_it(
    server_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app: Application = make_app(server_database, rows=2)
    allow_no_plaintext(server_database)
    dekctl("migrate").expect(0)
    straggler = Straggler(server_database, "wrapped_key")
    with straggler.watching():
        result = dekctl("schema", "rollback", "--yes")
    result.expect(3)
    assert app.rows()[(77,)]["wrapped_key"] == b"k" * 32


@pytest.mark.parametrize("step", ["expand", "contract", "rollback"])
def test_no_transaction_of_the_application_loses_a_deadlock_against_a_step(
    mariadb_database: AppDatabase, dekctl: Dekctl, make_app: Any, step: str
) -> None:
    make_app(mariadb_database, rows=2)
    if step != "expand":
        dekctl("migrate").expect(0)
    if step == "contract":
        dekctl("scrub", "--yes").expect(0)
    application = ReadsThenWrites(mariadb_database, "filename")
    with application.watching():
        dekctl("schema", step, *([] if step == "expand" else ["--yes"])).expect(0)
    assert application.error is None
    assert mariadb_database.sql("SELECT filename FROM encrypted_files WHERE id = 1") == [("b",)]


@pytest.mark.parametrize("step", ["contract", "rollback"])
def test_the_printed_sql_waits_for_a_key_that_is_being_written_and_keeps_it(
    server_database: AppDatabase, dekctl: Dekctl, make_app: Any, step: str
) -> None:
    app: Application = make_app(server_database, rows=2)
    allow_no_plaintext(server_database)
    dekctl("migrate").expect(0)
    column = "wrapped_key"
    if step == "contract":
        dekctl("scrub", "--yes").expect(0)
        column = "encryption_key"
    text = dekctl("schema", step, "--sql").expect(0).stdout
    straggler = Straggler(server_database, column)
    straggler.begin()

    def before(statement: str) -> None:
        if statement.startswith(("LOCK TABLE", "ALTER TABLE")):
            straggler.commit_soon()

    try:
        with pytest.raises(server_database.engine.dialect.loaded_dbapi.Error):
            server_database.script(text, before)
    finally:
        straggler.end()
    assert app.rows()[(77,)][column] == b"k" * 32


@pytest.mark.parametrize("step", ["contract", "rollback"])
def test_sqlites_own_client_does_not_go_on_after_the_guard_of_the_printed_sql(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, step: str
) -> None:
    client = shutil.which("sqlite3")
    if client is None:
        pytest.skip("sqlite3 is not installed")
    app: Application = make_app(sqlite_database, rows=2)
    dekctl("migrate").expect(0)
    if step == "rollback":
        dekctl("scrub", "--yes").expect(0)
    before = app.rows()
    file = sa.engine.make_url(sqlite_database.url).database
    assert file is not None

    def run_client() -> int:
        text = dekctl("schema", step, "--sql").expect(0).stdout
        done = subprocess.run(
            [client, file],
            input=text,
            text=True,
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        return done.returncode

    assert run_client() != 0
    assert app.rows() == before
    # And nothing of it is in the way once the keys are safe.
    dekctl("restore" if step == "rollback" else "scrub", "--yes").expect(0)
    assert run_client() == 0
    stage = {"contract": "contracted", "rollback": "legacy"}[step]
    assert dekctl.json("status")["stage"] == stage


def test_no_key_is_dropped_while_a_run_is_writing(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=2)
    dekctl("migrate").expect(0)
    with open_database(sa.engine.make_url(sqlite_database.url), Timeouts(5, 30)) as database:
        ledger = Ledger(database, None, "test")
        run = ledger.start(
            "restore", "encrypted_files", shard=None, writes=True, kek_id=None, version="1"
        )
        for step in ("contract", "rollback"):
            result = dekctl("schema", step, "--yes").expect(3)
            assert "has been running on" in result.stderr
        assert dekctl.json("status")["stage"] == "expanded"
        ledger.end(run, RunState.FINISHED)
    dekctl("schema", "rollback", "--yes").expect(0)


def test_schema_steps_are_in_the_ledger_with_how_they_ended(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(app_database, rows=2)
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    dekctl("schema", "contract", "--yes").expect(0)
    dekctl("rollback", "--yes").expect(0)
    dekctl("schema", "expand").expect(0)
    steps = app_database.sql(
        "SELECT operation, state, env FROM dekctl_runs WHERE operation LIKE 'schema%' "
        "ORDER BY started_at"
    )
    done = ["schema contract", "schema rollback", "schema rollback", "schema expand"]
    assert steps == [(step, "finished", "test") for step in done]


def test_a_second_step_is_refused_while_one_is_at_work(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=2)
    dekctl("schema", "expand").expect(0)
    dekctl("schema", "rollback", "--yes").expect(0)
    with open_database(sa.engine.make_url(sqlite_database.url), Timeouts(5, 30)) as database:
        ledger = Ledger(database, None, "test")
        run = ledger.start(
            "schema expand",
            "encrypted_files",
            shard=None,
            writes=True,
            kek_id=None,
            version="1",
            takes_over=True,
        )
        assert "has been running on" in dekctl("schema", "expand").expect(3).stderr
        ledger.end(run, RunState.FAILED)
    dekctl("schema", "expand").expect(0)


def test_contract_never_drops_a_plaintext_that_a_legacy_writer_leaves_meanwhile(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(app_database, rows=30)
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    stop, refused = threading.Event(), threading.Event()
    written: list[int] = []

    def legacy_writer() -> None:
        number = 1000
        while not stop.is_set() and not refused.is_set() and number < 1400:
            number += 1
            try:
                app_database.sql(
                    "INSERT INTO encrypted_files (id, filename, encryption_key, ciphertext) "
                    "VALUES (:id, 'late', :dek, :text)",
                    id=number,
                    dek=b"k" * 32,
                    text=b"x",
                )
                written.append(number)
                stop.wait(0.005)
            except sa.exc.DBAPIError:
                refused.set()  # the guard is there, or the column is gone

    writer = threading.Thread(target=legacy_writer)
    writer.start()
    try:
        result = dekctl("schema", "contract", "--yes")
    finally:
        stop.set()
        writer.join()
    found = app_database.sql("SELECT count(*) FROM encrypted_files WHERE id > 1000")
    assert found == [(len(written),)]
    if result.exit_code == 0:  # it came before the first write
        assert written == []
        return
    result.expect(3)
    assert dekctl.json("status")["stage"] == "expanded"
    kept = "SELECT count(*) FROM encrypted_files WHERE id > 1000 AND encryption_key IS NOT NULL"
    assert app_database.sql(kept) == [(len(written),)]
    # The guard is gone again: the legacy application goes on.
    app_database.sql(
        "INSERT INTO encrypted_files (id, filename, encryption_key, ciphertext) "
        "VALUES (5000, 'later', :dek, :text)",
        dek=b"k" * 32,
        text=b"x",
    )


def test_a_writer_between_the_check_and_the_drop_stops_the_contract(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=3)
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    late = threading.Event()

    def write_late(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        # The first guard has looked; the next statement is the first that changes something.
        first = statement.startswith(("ALTER TABLE", "LOCK TABLES", "BEGIN IMMEDIATE"))
        if first and not late.is_set():
            late.set()
            app.add(1)

    sa.event.listen(sa.Engine, "before_cursor_execute", write_late)
    try:
        result = dekctl("schema", "contract", "--yes")
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", write_late)
    assert late.is_set()
    result.expect(3)
    assert app.counts() == {"plaintext_only": 1, "both": 0, "wrapped_only": 3, "no_key": 0}
    app.assert_files_open(EnvKMS(dekctl.environ))
