"""A step out of order is refused with the command that comes first, and what destroys asks."""

from __future__ import annotations

from typing import Any

import pytest

from support.app import AppDatabase
from support.cli import Dekctl
from support.refusals import assert_says, refused, to_stage


@pytest.mark.parametrize(
    ("stage", "command", "words"),
    [
        ("legacy", ["wrap"], ("stage legacy", "dekctl migrate")),
        ("legacy", ["verify"], ("stage legacy", "dekctl migrate")),
        ("legacy", ["scrub", "--yes"], ("stage legacy", "dekctl migrate")),
        ("legacy", ["rewrap"], ("stage legacy", "dekctl migrate")),
        ("legacy", ["schema", "contract", "--yes"], ("legacy", "dekctl migrate")),
        ("wrapped", ["schema", "contract", "--yes"], ("still have a plaintext", "dekctl scrub")),
        ("scrubbed", ["schema", "rollback", "--yes"], ("only a wrapped key", "dekctl restore")),
        ("contracted", ["restore", "--yes"], ("stage contracted", "dekctl schema rollback")),
    ],
)
def test_a_step_out_of_order_is_refused_and_changes_nothing(
    sqlite_database: AppDatabase,
    dekctl: Dekctl,
    make_app: Any,
    stage: str,
    command: list[str],
    words: tuple[str, ...],
) -> None:
    app = make_app(sqlite_database, rows=5)
    to_stage(dekctl, stage)
    assert_says(refused(dekctl, app, *command, exit_code=3), *words)


@pytest.mark.parametrize(
    ("stage", "command"),
    [
        ("legacy", ["restore"]),
        ("legacy", ["rollback"]),
        ("legacy", ["schema", "rollback"]),
        ("contracted", ["wrap"]),
        ("contracted", ["scrub"]),
        ("contracted", ["migrate"]),
        ("contracted", ["schema", "expand"]),
    ],
)
def test_where_nothing_is_left_to_do_nobody_is_asked_and_nothing_is_wrong(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, stage: str, command: list[str]
) -> None:
    app = make_app(sqlite_database, rows=2)
    to_stage(dekctl, stage)
    before = app.rows()
    done = dekctl(*command).expect(0)  # without --yes and without a terminal
    said = done.stdout + done.stderr
    assert "nothing to do" in said or "back at the legacy schema" in said
    assert app.rows() == before


def test_scrub_contract_and_rollback_are_refused_on_every_database(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=5)
    dekctl("schema", "expand").expect(0)
    assert_says(refused(dekctl, app, "scrub", "--yes", exit_code=3), "no wrapped key yet")
    dekctl("wrap").expect(0)
    late = app.add(1)
    assert_says(refused(dekctl, app, "scrub", "--yes", exit_code=3), "no wrapped key yet")
    dekctl("wrap").expect(0)
    assert_says(refused(dekctl, app, "schema", "contract", "--yes", exit_code=3), "plaintext")
    dekctl("scrub", "--yes").expect(0)
    assert_says(refused(dekctl, app, "schema", "rollback", "--yes", exit_code=3), "restore")
    assert late[0] in app.rows()


@pytest.mark.parametrize(
    ("stage", "command"),
    [
        ("wrapped", ["scrub"]),
        ("scrubbed", ["schema", "contract"]),
        ("wrapped", ["schema", "rollback"]),
        ("scrubbed", ["restore"]),
        ("contracted", ["rollback"]),
    ],
)
def test_what_destroys_is_not_done_without_a_yes(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, stage: str, command: list[str]
) -> None:
    app = make_app(sqlite_database, rows=3)
    to_stage(dekctl, stage)
    assert_says(refused(dekctl, app, *command, exit_code=3), "not confirmed", "--yes")


@pytest.mark.parametrize(
    ("stage", "command"),
    [
        ("legacy", ["scrub"]),
        ("expanded", ["scrub"]),
        ("contracted", ["restore"]),
        ("wrapped", ["schema", "contract"]),
        ("scrubbed", ["schema", "rollback"]),
    ],
)
def test_guards_come_before_the_question(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, stage: str, command: list[str]
) -> None:
    app = make_app(sqlite_database, rows=3)
    to_stage(dekctl, stage)
    result = refused(dekctl, app, *command, exit_code=3)
    assert "not confirmed" not in result.stderr


def test_keys_of_the_memory_provider_are_not_scrubbed(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(sqlite_database, rows=3, env={"provider": "memory"})
    dekctl("migrate").expect(0)
    assert_says(refused(dekctl, app, "scrub", "--yes", exit_code=3), "memory provider")
