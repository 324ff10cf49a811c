"""What a schema step refuses shows nothing of the row: not in an exception, not in a log."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from dekctl.schema.dialects import postgresql
from dekctl.schema.dialects.base import Guard
from sandbox.postgres import PostgresServer
from support.app import AppDatabase, Application
from support.cli import Dekctl
from support.secrets import assert_hidden

INSERT = (
    "INSERT INTO encrypted_files (id, filename, encryption_key, ciphertext) "
    "VALUES (:pk, 'old', :key, :key)"
)
UPDATE = "UPDATE encrypted_files SET encryption_key = :key WHERE id = 1"
OLD_NAMES = (
    "dekctl_contract_guard",
    "dekctl_rollback_guard",
    "dekctl_fence",
    "dekctl_fence_back",
)


def during_contract(monkeypatch: pytest.MonkeyPatch, work: Callable[[], None]) -> None:
    """Run ``work`` as soon as the guard of a step is there."""
    kind = type(postgresql.DIALECT)
    add = kind.add_guard

    def add_and_work(self: Any, table: Any, guard: Guard) -> None:
        add(self, table, guard)
        work()

    monkeypatch.setattr(kind, "add_guard", add_and_work)


def refused(app: Application, statement: str, keys: list[bytes]) -> str:
    key = os.urandom(32)
    keys.append(key)
    with pytest.raises(sa.exc.DBAPIError) as caught:
        app.database.sql(statement, key=key, **({"pk": 77} if ":pk" in statement else {}))
    return str(caught.value.orig) + repr(getattr(caught.value.orig, "diag", ""))


def test_an_old_writer_is_refused_by_contract_and_shown_nothing(
    postgres_database: AppDatabase,
    postgres_server: PostgresServer,
    dekctl: Dekctl,
    make_app: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = make_app(postgres_database, rows=3)
    for command in (["migrate"], ["scrub", "--yes"]):
        dekctl(*command).expect(0)
    said: list[str] = []
    keys: list[bytes] = []
    during_contract(
        monkeypatch, lambda: said.extend(refused(app, text, keys) for text in (INSERT, UPDATE))
    )
    dekctl("schema", "contract", "--yes").expect(0)
    assert len(said) == 2
    assert all("a schema step of dekctl is running" in text for text in said)
    log = "\n".join([*said, postgres_server.log.read_text(errors="replace")])
    assert "a schema step of dekctl" in log
    assert_hidden(log, [*keys, *app.deks.values()], "exception or log")
    assert "Failing row" not in "".join(said)


def test_a_rollback_refuses_rows_with_only_a_wrapped_key_and_shows_nothing(
    postgres_database: AppDatabase,
    postgres_server: PostgresServer,
    dekctl: Dekctl,
    make_app: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = make_app(postgres_database, rows=3)
    dekctl("migrate").expect(0)
    said: list[str] = []
    keys: list[bytes] = []
    lost = INSERT.replace("encryption_key", "wrapped_key")
    during_contract(monkeypatch, lambda: said.append(refused(app, lost, keys)))
    dekctl("schema", "rollback", "--yes").expect(0)
    log = "\n".join([*said, postgres_server.log.read_text(errors="replace")])
    assert_hidden(log, [*keys, *app.deks.values()], "exception or log")


def test_a_step_that_fails_opens_the_trigger_again(
    postgres_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(postgres_database, rows=2)
    for command in (["migrate"], ["scrub", "--yes"]):
        dekctl(*command).expect(0)
    postgres_database.sql(
        "CREATE FUNCTION keep_columns() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF EXISTS (SELECT FROM pg_event_trigger_dropped_objects() "
        "WHERE object_type = 'table column') THEN RAISE EXCEPTION 'no'; END IF; END $$"
    )
    postgres_database.sql(
        "CREATE EVENT TRIGGER keep_columns ON sql_drop EXECUTE FUNCTION keep_columns()"
    )
    dekctl("schema", "contract", "--yes").expect(6)
    assert dekctl.json("status")["constraints"] == []
    assert dekctl.json("status")["trigger"] == "intact"
    postgres_database.sql(UPDATE, key=os.urandom(32))
    assert app.rows()[(1,)]["wrapped_key"] is None


@pytest.mark.parametrize("name", OLD_NAMES)
def test_a_constraint_of_an_older_version_is_found_and_dropped(
    postgres_database: AppDatabase, dekctl: Dekctl, make_app: Any, name: str
) -> None:
    app = make_app(postgres_database, rows=2)
    for command in (["migrate"], ["scrub", "--yes"]):
        dekctl(*command).expect(0)
    postgres_database.sql(
        f"ALTER TABLE encrypted_files ADD CONSTRAINT {name} CHECK (encryption_key IS NULL)"
    )
    assert dekctl.json("status")["constraints"] == [name]
    assert dekctl("doctor").exit_code != 0
    dekctl("restore", "--yes").expect(0)
    assert dekctl.json("status")["constraints"] == []
    assert app.counts()["both"] == 2


def test_a_trigger_left_closed_is_reported_and_opened(
    postgres_database: AppDatabase, dekctl: Dekctl, make_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(postgres_database, rows=2)
    for command in (["migrate"], ["scrub", "--yes"]):
        dekctl(*command).expect(0)

    class Killed(BaseException):
        pass

    def die() -> None:
        monkeypatch.setattr("dekctl.schema.row_trigger._open", lambda _: None)
        raise Killed

    during_contract(monkeypatch, die)
    with pytest.raises(Killed):
        dekctl("schema", "contract", "--yes")
    monkeypatch.undo()
    assert dekctl.json("status")["constraints"] == ["zz_dekctl_encrypted_files"]
    assert dekctl.json("status")["trigger"] == "closed"
    assert dekctl("doctor").exit_code != 0
    dekctl("restore", "--yes").expect(0)
    assert dekctl.json("status")["trigger"] == "intact"
    assert app.counts()["both"] == 2
