"""What a person reads when something is left to do: the next command, as it must be typed."""

from __future__ import annotations

from typing import Any

import pytest

from support.app import AppDatabase
from support.cli import Dekctl


def test_a_hint_repeats_the_environment_that_was_chosen(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=1)
    env = "test"
    refused = dekctl("--env", env, "scrub", "--yes").expect(3)
    assert f"hint: expand the schema first: dekctl --env {env} migrate" in refused.stderr


def test_a_rehearsed_wrap_finds_the_keys_that_cannot_be_wrapped(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=3)
    sqlite_database.sql("UPDATE encrypted_files SET encryption_key = x'00' WHERE id = 2")
    rehearsed = dekctl.json("wrap", "--dry-run", expect=4)
    assert (rehearsed["changed"], rehearsed["quarantined"]) == (2, 1)
    assert "1 bytes long" in rehearsed["set_aside"][0]["reason"]


def test_a_corrected_row_leaves_quarantine_by_the_command_that_is_named(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=3)
    dekctl("schema", "expand").expect(0)
    sqlite_database.sql("UPDATE encrypted_files SET encryption_key = x'00' WHERE id = 2")
    assert "dekctl wrap --retry-quarantined" in dekctl("wrap").expect(4).stderr
    sqlite_database.sql("UPDATE encrypted_files SET encryption_key = zeroblob(32) WHERE id = 2")
    again = dekctl("wrap").expect(4)
    assert "--retry-quarantined" in again.stdout
    assert dekctl.json("wrap", "--retry-quarantined")["changed"] == 1


@pytest.mark.parametrize("command", [["retire"], ["rewrap", "--from"]])
def test_a_kek_that_nobody_knows_is_an_error_and_no_success(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, command: list[str]
) -> None:
    make_app(sqlite_database, rows=1)
    dekctl("migrate").expect(0)
    assert "nonsense" in dekctl(*command, "nonsense").expect(2).stderr


def test_a_local_kek_that_is_not_at_hand_cannot_be_declared_retired(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=1)
    dekctl("migrate").expect(0)
    assert "DEKCTL_OLD_KEKS" in dekctl("retire", "env:0000000000000000").expect(2).stderr


def test_scrub_does_not_end_well_while_a_quarantined_row_has_its_plaintext(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=3)
    sqlite_database.sql("UPDATE encrypted_files SET encryption_key = x'00' WHERE id = 2")
    dekctl("migrate").expect(4)
    scrubbed = dekctl.json("scrub", "--yes", expect=4)
    assert (scrubbed["changed"], scrubbed["quarantined"]) == (2, 1)
