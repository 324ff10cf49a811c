"""Readers refuse rows of generations below `min_generation`, and `status` says what it can be."""

from __future__ import annotations

from typing import Any

import pytest

from dekctl.config import load_config
from dekctl.errors import RowRejectedError
from dekctl.reader import RowKeys
from support.app import AppDatabase, Application
from support.cli import Dekctl
from support.generations import ALIAS, Generations
from support.kms_standin import Grant
from support.rotation import ROWS


def test_the_reader_refuses_older_generations_once_told(
    app: Application, generations: Generations, dekctl: Dekctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in dekctl.environ.items():
        monkeypatch.setenv(name, value)
    kept = dict(next(iter(app.rows().values())))  # a copy, as in a backup
    generations.roll()
    floor = dekctl.json("status")["min_generation"]
    assert (floor["configured"], floor["can_be"]) == (None, "g1")
    dekctl("rewrap").expect(0)
    assert dekctl.json("status")["min_generation"]["can_be"] == "g2"

    file = dekctl.folder / "dekctl.toml"
    keys = RowKeys.from_config(load_config(file, "test"))
    assert keys.read(kept) == app.deks[kept["id"],]
    dekctl.configure(file.read_text() + 'min_generation = "g2"\n')
    keys = RowKeys.from_config(load_config(file, "test"))
    generations.standin.reset_counters()
    with pytest.raises(RowRejectedError, match="min_generation"):
        keys.read(kept)
    assert not generations.standin.counters().calls
    with pytest.raises(RowRejectedError, match="min_generation"):
        keys.read({**kept, "kek_id": ALIAS})  # named by an alias: KMS tells
    row = next(iter(app.rows().values()))
    assert keys.read(row) == app.deks[row["id"],]


def test_a_branch_key_holds_up_min_generation(
    sqlite_database: AppDatabase, make_app: Any, generations: Generations, dekctl: Dekctl
) -> None:
    """Readers refuse a V3 row by its branch key's KEK, whatever the row names."""
    wrapper = Grant(("kms:Encrypt", "kms:GenerateDataKey", "kms:DescribeKey"))
    generations.standin.put_role("files-wrapper", [wrapper])
    app = make_app(sqlite_database, rows=ROWS, env=generations.env, wrapping="V3")
    dekctl("migrate").expect(0)
    g2 = generations.roll()
    app.database.sql("UPDATE encrypted_files SET kek_id = :kek", kek=g2)
    assert dekctl.json("status")["min_generation"]["can_be"] == "g1"
    dekctl.configure((dekctl.folder / "dekctl.toml").read_text() + 'min_generation = "g2"\n')
    floor = dekctl.json("status")["min_generation"]
    assert (floor["rows_below"], floor["branch_keys_below"]) == (0, 1)
    assert "older: 1 branch key," in dekctl("status").expect(0).stdout
    dekctl("rewrap", "--from", "g1").expect(0)
    assert dekctl.json("status")["min_generation"]["can_be"] == "g2"
