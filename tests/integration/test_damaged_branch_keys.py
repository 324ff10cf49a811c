"""Damaged V3 keys and damaged branch keys: the rows that need them are quarantined, no other."""

from __future__ import annotations

from typing import Any

import pytest

from dekctl.branch_keys.table import branch_keys_table
from dekctl.errors import RowRejectedError
from dekctl.kms import EnvKMS
from dekctl.kms.branch.keys import BranchKeys
from dekctl.kms.branch_key import BranchKey
from dekctl.kms.interface import Wrapped
from support.app import AppDatabase, Application
from support.cli import Dekctl
from support.hierarchical import BRANCHES, ROWS, ROWS_PER_KEY, branches, make
from support.v3_rows import branch_store


@pytest.mark.parametrize("at", [0, 5, 20, -1], ids=["format", "branch id", "nonce", "tag"])
def test_a_damaged_v3_key_is_set_aside(
    at: int, sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make(make_app, sqlite_database)
    dekctl.json("schema", "expand")
    dekctl.json("wrap")
    blob = bytearray(app.rows()[1,]["wrapped_key"])
    blob[at] ^= 1
    app.set((1,), wrapped=bytes(blob))
    assert dekctl.json("verify", expect=4)["failed"] == 1


class WrongAnswers(EnvKMS):
    """Gives for every key that moves a blob that opens to nothing."""

    def rewrap_many(self, requests: Any) -> Any:
        return [
            answer if isinstance(answer, RowRejectedError) else Wrapped(bytes(60), answer.kek_id)
            for answer in super().rewrap_many(requests)
        ]


def test_a_branch_key_is_not_replaced_by_a_copy_that_does_not_open(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make(make_app, sqlite_database)
    dekctl.json("schema", "expand")
    dekctl.json("wrap")
    before = branches(app)
    dekctl.use_env_kek()

    keys = BranchKeys(WrongAnswers(dekctl.environ), branch_store(app.database.engine))
    assert len(keys.rewrap_all(app.config.context_name).failed) == BRANCHES
    assert branches(app) == before


def test_rows_under_a_damaged_branch_key_are_set_aside_and_the_others_move(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make(make_app, sqlite_database)
    dekctl.json("schema", "expand")
    dekctl.json("wrap")
    old = EnvKMS(dekctl.environ).kek_id
    first = app.rows()[1,]["wrapped_key"][1:17].hex()
    damage(app, first)
    dekctl.use_env_kek()

    moved = dekctl.json("rewrap", expect=4)
    assert (moved["changed"], moved["quarantined"]) == (ROWS - ROWS_PER_KEY, ROWS_PER_KEY)
    assert first in moved["set_aside"][0]["reason"]
    assert {row["branch_id"] for row in branches(app) if row["kek_id"] == old} == {first}


def test_many_rows_under_one_damaged_branch_key_are_no_wrong_setting(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(sqlite_database, rows=300, wrapping="V3", rows_per_branch_key=200)
    dekctl.json("schema", "expand")
    dekctl.json("wrap")
    damage(app, app.rows()[1,]["wrapped_key"][1:17].hex())
    dekctl.use_env_kek()
    moved = dekctl.json("rewrap", "--batch-size", "100", expect=4)
    assert (moved["changed"], moved["quarantined"]) == (100, 200)


def test_a_damaged_branch_key_that_no_row_uses_holds_nothing_up(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make(make_app, sqlite_database)
    dekctl.json("schema", "expand")
    dekctl.json("wrap")
    store = branch_store(app.database.engine)
    store.add(BranchKey("f" * 32, app.config.context_name, b"?", branches(app)[0]["kek_id"], 10))
    dekctl.use_env_kek()

    done = dekctl("rewrap").expect(0)
    assert "1 branch key cannot be moved" in done.stderr
    assert app.keks() == {EnvKMS(dekctl.environ).kek_id}


def damage(app: Application, branch_id: str) -> None:
    table = branch_keys_table(app.config.schema)
    with app.database.engine.begin() as connection:
        connection.execute(
            table.update().where(table.c.branch_id == branch_id).values(wrapped=b"damaged")
        )
