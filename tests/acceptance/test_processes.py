"""What only a process can show: being killed, interrupted, started twice, and what it prints."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from dekctl.kms import EnvKMS
from support.app import AppDatabase, Application
from support.cli import Dekctl
from support.secrets import assert_hidden
from support.waiting import wait_until

ROWS = 2000
SLOWLY = ("--batch-size", "10", "--control", "control.toml")
"""A run that can be caught in the middle: ``pause`` in the control file holds it there."""


def wrapped(app: Application) -> int:
    [(count,)] = app.database.sql(
        "SELECT count(*) FROM encrypted_files WHERE wrapped_key IS NOT NULL"
    )
    return int(count)


def test_a_killed_wrap_goes_on_where_it_was_and_loses_no_key(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=ROWS)
    before = app.foreign_fingerprint()
    dekctl("schema", "expand").expect(0)
    child = dekctl.start("wrap", "--batch-size", "10")
    try:
        wait_until(lambda: wrapped(app) > 0, child)
        os.kill(child.pid, signal.SIGKILL)
    finally:
        result = dekctl.finish(child)
    assert result.exit_code == -signal.SIGKILL
    there = wrapped(app)
    assert 0 < there < ROWS, "the kill came too late to prove anything"
    app.assert_files_open(EnvKMS(dekctl.environ))

    again = dekctl.process("--json", "wrap").expect(0).json

    assert again["changed"] == ROWS - wrapped_before(there, again)
    assert wrapped(app) == ROWS
    assert dekctl.json("verify")["verified"] == ROWS
    dekctl("scrub", "--yes").expect(0)
    app.assert_files_open(EnvKMS(dekctl.environ))
    assert app.foreign_fingerprint() == before
    states = app_database.sql("SELECT state FROM dekctl_runs WHERE operation = 'wrap'")
    assert sorted(states) == [("abandoned",), ("finished",)]


def wrapped_before(there: int, again: dict[str, Any]) -> int:
    """Rows that the killed run had committed; a server may have ended one more transaction."""
    assert again["skipped"] >= there
    return int(again["skipped"])


def test_a_second_run_on_the_same_rows_is_refused(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=200)
    dekctl("schema", "expand").expect(0)
    pause(dekctl)
    child = dekctl.start("wrap", *SLOWLY)
    try:
        wait_until(lambda: running(app) == 1, child)
        for command in (["wrap"], ["scrub", "--yes"], ["rewrap"]):
            second = dekctl(*command).expect(3)
            assert "has been running on encrypted_files" in second.stderr or "no wrapped key" in (
                second.stderr
            )
        assert wrapped(app) == 0
        # Looking is allowed.
        assert dekctl.json("verify")["pending"] == 200
        dekctl("status").expect(0)
        go_on(dekctl)
    finally:
        dekctl.finish(child).expect(0)
    assert wrapped(app) == 200


def pause(dekctl: Dekctl) -> None:
    (dekctl.folder / "control.toml").write_text("pause = true\n")


def go_on(dekctl: Dekctl) -> None:
    (dekctl.folder / "control.toml").write_text("pause = false\n")


def running(app: Application) -> int:
    [(count,)] = app.database.sql("SELECT count(*) FROM dekctl_runs WHERE state = 'running'")
    return int(count)


def test_two_shards_share_the_work(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=200)
    dekctl("schema", "expand").expect(0)
    pause(dekctl)
    child = dekctl.start("--json", "wrap", "--shard", "1/2", *SLOWLY)
    try:
        wait_until(lambda: running(app) == 1, child)
        other = dekctl.json("wrap", "--shard", "2/2")["changed"]
        dekctl("wrap", "--shard", "1/2").expect(3)
        dekctl("wrap", "--shard", "1/3").expect(3)
        go_on(dekctl)
    finally:
        first = dekctl.finish(child).expect(0).json["changed"]
    assert (first + other, wrapped(app)) == (200, 200)
    assert first
    assert other


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_wrap_keeps_its_batches_and_goes_on(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, number: signal.Signals
) -> None:
    app = make_app(sqlite_database, rows=ROWS)
    dekctl("schema", "expand").expect(0)
    child = dekctl.start("--json", "wrap", "--batch-size", "10")
    try:
        wait_until(lambda: wrapped(app) > 0, child)
        os.kill(child.pid, number)
    finally:
        result = dekctl.finish(child)
    result.expect(130)
    assert result.json["interrupted"] is True
    assert 0 < result.json["changed"] == wrapped(app) < ROWS
    assert "same command" in result.stderr
    assert "Traceback" not in result.stderr
    [(state,)] = sqlite_database.sql("SELECT state FROM dekctl_runs")
    assert state == "interrupted"
    assert dekctl.json("wrap")["changed"] == ROWS - result.json["changed"]


def test_an_interrupted_schema_step_ends_with_130_and_is_undone(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(sqlite_database, rows=3)
    # Another writer holds the file: the step waits for it.
    with sqlite_database.engine.connect() as writer:
        writer.exec_driver_sql("BEGIN IMMEDIATE")
        child = dekctl.start("schema", "expand")
        wait_until(lambda: has_open(child.pid, "app.db"), child)
        os.kill(child.pid, signal.SIGINT)
        result = dekctl.finish(child)
        writer.exec_driver_sql("ROLLBACK")
    assert result.exit_code == 130, result
    assert "error: interrupted" in result.stderr
    assert "Traceback" not in result.stderr
    assert dekctl.json("status")["stage"] == "legacy"
    assert app.counts()["plaintext_only"] == 3


def has_open(pid: int, name: str) -> bool:
    """Whether a process has a file open."""
    found = Path(f"/proc/{pid}/fd")
    if not found.exists():
        pytest.skip("there is no /proc to see what a process is at")
    with contextlib.suppress(FileNotFoundError):  # one may be closed while we look
        return any(fd.readlink().name == name for fd in found.iterdir())
    return False


# -- what it prints ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ["doctor"],
        ["status"],
        ["schema", "expand"],
        ["schema", "expand", "--sql"],
        ["schema", "current"],
        ["wrap", "--dry-run"],
        ["migrate"],
        ["verify"],
        ["scrub", "--yes"],
        ["rewrap"],
        ["restore", "--yes"],
        ["rollback", "--dry-run"],
    ],
)
def test_json_is_exactly_one_object_on_stdout(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, command: list[str]
) -> None:
    make_app(sqlite_database, rows=3)
    if command[0] not in {"doctor", "status", "schema"} and "--dry-run" not in command[:2]:
        dekctl("migrate").expect(0)
    if command[0] == "rollback":
        dekctl("schema", "expand").expect(0)
    result = dekctl("--json", "--log-format", "json", *command).expect(0)
    assert result.stdout.count("\n") == 1
    assert isinstance(json.loads(result.stdout), dict)
    for line in result.stderr.splitlines():
        assert json.loads(line)["level"] in {"note", "error"}


def test_an_error_in_json_is_one_object_with_hint_and_exit_code_on_stderr(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=1)
    result = dekctl("--json", "--log-format", "json", "wrap").expect(3)
    assert result.stdout == ""
    line = json.loads(result.stderr.splitlines()[-1])
    assert line["level"] == "error"
    assert line["exit_code"] == 3
    assert "dekctl migrate" in line["hint"]


def test_quiet_says_nothing_but_the_result(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=3)
    result = dekctl("--quiet", "migrate").expect(0)
    assert result.stderr == ""
    assert "3 changed" in result.stdout


def test_a_traceback_shows_with_debug_only_and_holds_no_key(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=2)
    dekctl("migrate").expect(0)
    dekctl.use_env_kek()
    del dekctl.environ["DEKCTL_OLD_KEKS"]
    plain = dekctl.process("verify").expect(5)
    assert ".py" not in plain.stderr
    debug = dekctl.process("--debug", "verify").expect(5)
    assert "breaker.py" in debug.stderr


@pytest.mark.parametrize("encoding", ["base64", "raw"])
def test_text_that_is_no_utf8_in_sqlite_is_set_aside_and_not_shown(
    encoding: str, sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    """The driver's message for it quotes the value, which is a key here."""
    app = make_app(sqlite_database, storage="text", plaintext_encoding=encoding)
    for _ in range(2):
        app.add_dek(b"", "to be replaced")
    key = bytes.fromhex("ff" + "41" * 31)
    dekctl.hidden.append(key)
    dekctl.hidden.append(b"A" * 31)
    sqlite_database.sql("UPDATE encrypted_files SET encryption_key = CAST(:key AS TEXT)", key=key)
    assert dekctl.json("migrate", expect=4)["quarantined"] == 2
    dekctl("--debug", "migrate").expect(4)
    dekctl("status").expect(0)
    for (error,) in sqlite_database.sql("SELECT error FROM dekctl_runs"):
        assert_hidden(error or "", dekctl.hidden, "dekctl_runs")
    lost = "SELECT count(*) FROM encrypted_files WHERE encryption_key IS NULL"
    assert sqlite_database.sql(lost) == [(0,)]
