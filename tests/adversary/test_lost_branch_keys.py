"""A fail-over, or a person, takes stored branch keys away while a command works with them.

No row is written, and no plaintext removed, under a branch key that is not stored any more.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from dekctl.branch_keys.table import BranchTable
from dekctl.config import load_config
from dekctl.db.connect import database_of
from dekctl.kms import EnvKMS
from dekctl.kms.router import RoutedKMS
from dekctl.walk import engine
from dekctl.walk.engine import Walk
from support.app import AppDatabase, Application
from support.cli import Dekctl

ROWS = 24
ROWS_PER_KEY = 10
BATCH = ("--batch-size", "5")

Lose = Callable[[str], None]


@pytest.fixture
def lose_before_write(monkeypatch: pytest.MonkeyPatch, app_database: AppDatabase) -> Iterator[Lose]:
    """Has a statement run once, between KMS and the third batch that is written."""
    statements: list[str] = []
    batches = itertools.count(1)
    settle, one_at_a_time = Walk._settle, threading.Lock()

    def watched(walk: Walk, *batch: Any) -> None:
        with one_at_a_time:
            if statements and next(batches) == 3:
                app_database.sql(statements.pop())
            settle(walk, *batch)

    monkeypatch.setattr(Walk, "_settle", watched)
    yield statements.append
    assert not statements, "the command wrote fewer batches than this test needs"


def make(make_app: Any, database: AppDatabase, wrapping: str = "V3") -> Application:
    app: Application = make_app(
        database, rows=ROWS, wrapping=wrapping, rows_per_branch_key=ROWS_PER_KEY
    )
    return app


def stored(database: AppDatabase) -> set[str]:
    return {row[0] for row in database.sql("SELECT branch_id FROM dekctl_branch_keys")}


def branch_of(row: dict[str, Any]) -> str:
    return bytes(row["wrapped_key"])[1:17].hex()


def test_wrap_goes_on_under_a_new_branch_key(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any, lose_before_write: Lose
) -> None:
    app = make(make_app, app_database)
    dekctl.json("schema", "expand")
    lose_before_write("DELETE FROM dekctl_branch_keys")
    assert dekctl.json("wrap", *BATCH)["changed"] == ROWS

    # What was written before the loss is lost with it, as a stale plaintext would be; nothing else.
    gone = [row for row in app.rows().values() if branch_of(row) not in stored(app_database)]
    assert len(gone) <= 2 * 5
    dekctl.json("wrap", "--stale", "--retry-quarantined")
    assert dekctl.json("verify")["verified"] == ROWS


def test_rewrap_goes_on_under_a_new_branch_key(
    app_database: AppDatabase,
    dekctl: Dekctl,
    make_app: Any,
    lose_before_write: Lose,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # One batch after the other: the first two share a branch key, the third needs another one.
    monkeypatch.setattr(engine, "BATCHES_WITH_KMS", 1)
    app = make(make_app, app_database, "V2")
    dekctl.json("migrate")
    dekctl.json("scrub", "--yes")
    lose_before_write(unused_are_lost(app_database))
    assert dekctl.json("rewrap", "--hierarchical", *BATCH)["changed"] == ROWS
    app.assert_files_open(EnvKMS(dekctl.environ))


def test_rewrap_goes_on_where_a_branch_key_is_lost_before_its_copies_are_checked(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make(make_app, app_database, "V2")
    dekctl.json("migrate")
    dekctl.json("scrub", "--yes")
    losses = [unused_are_lost(app_database)]
    check, one_at_a_time = RoutedKMS._check, threading.Lock()

    def watched(kms: RoutedKMS, *keys: Any) -> Any:
        with one_at_a_time:
            if losses:
                app_database.sql(losses.pop())
        return check(kms, *keys)

    monkeypatch.setattr(RoutedKMS, "_check", watched)
    rewrapped = dekctl.json("rewrap", "--hierarchical", *BATCH)
    assert not losses
    assert (rewrapped["changed"], rewrapped["quarantined"]) == (ROWS, 0)
    app.assert_files_open(EnvKMS(dekctl.environ))


def unused_are_lost(database: AppDatabase) -> str:
    """SQL that deletes the branch keys that no stored row needs."""
    return (
        "DELETE FROM dekctl_branch_keys WHERE branch_id NOT IN (SELECT branch_id FROM ("
        "SELECT b.branch_id FROM dekctl_branch_keys b JOIN encrypted_files f ON "
        f"f.wrapped_key_version = 'V3' AND b.branch_id = {hex_of(database)}) used)"
    )


def hex_of(database: AppDatabase) -> str:
    """SQL of the branch id in a V3 blob."""
    if database.kind == "postgresql":
        return "encode(substring(f.wrapped_key FROM 2 FOR 16), 'hex')"
    return "lower(hex(substr(f.wrapped_key, 2, 16)))"


@pytest.mark.parametrize(
    "loss",
    ["DELETE FROM dekctl_branch_keys", "UPDATE dekctl_branch_keys SET wrapped = kek_id"],
    ids=["deleted", "replaced"],
)
def test_scrub_keeps_every_plaintext_whose_branch_key_is_not_stored(
    loss: str,
    app_database: AppDatabase,
    dekctl: Dekctl,
    make_app: Any,
    lose_before_write: Lose,
) -> None:
    app = make(make_app, app_database)
    dekctl.json("migrate")
    blob = {"sqlite": "BLOB", "postgresql": "BYTEA", "mariadb": "BINARY"}[app_database.kind]
    lose_before_write(loss.replace("kek_id", f"CAST(kek_id AS {blob})"))
    scrubbed = dekctl.json("scrub", "--yes", *BATCH, expect=4)
    assert scrubbed["changed"] <= 2 * 5, "only what was written before the loss"
    assert scrubbed["changed"] + scrubbed["quarantined"] == ROWS
    assert "branch key" in scrubbed["set_aside"][0]["reason"]
    assert app.counts()["both"] == scrubbed["quarantined"]


def test_rewrap_leaves_rows_alone_whose_branch_key_is_not_stored(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any, lose_before_write: Lose
) -> None:
    app = make(make_app, app_database)
    dekctl.json("migrate")
    dekctl.json("scrub", "--yes")
    dekctl.use_env_kek()
    before = app.rows()
    lose_before_write("DELETE FROM dekctl_branch_keys")
    moved = dekctl.json("rewrap", *BATCH, expect=4)
    assert moved["changed"] + moved["quarantined"] == ROWS
    reason = moved["set_aside"][0]["reason"]
    assert "is missing" in reason
    assert "restore dekctl_branch_keys from a backup" in reason
    kept = sum(before[pk] == row for pk, row in app.rows().items())
    assert kept == moved["quarantined"] >= ROWS - 2 * 5


@pytest.mark.parametrize("app_database", ["postgresql", "mariadb"], indirect=True)
def test_a_branch_key_cannot_be_deleted_while_rows_are_written_under_it(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make(make_app, app_database)
    dekctl.json("migrate")
    config = load_config(dekctl.folder / "dekctl.toml")
    with database_of(config.env) as database:
        table = BranchTable(database.run, app.config.schema)
        keys = table.page(app.config.context_name, "", ROWS)
        patience = {
            "postgresql": "SET LOCAL lock_timeout = '50ms'",
            "mariadb": "SET SESSION innodb_lock_wait_timeout = 0",
        }
        delete = "DELETE FROM dekctl_branch_keys"
        with database.transaction(write=True) as connection:
            assert table.not_stored(connection, keys) == set()
            with app_database.engine.connect() as other:
                other.exec_driver_sql(patience[app_database.kind])
                with pytest.raises(sa.exc.OperationalError):
                    other.exec_driver_sql(delete)
                other.rollback()
        app_database.sql(delete)
        with database.transaction(write=True) as connection:
            assert table.not_stored(connection, keys) == {key.branch_id for key in keys}
