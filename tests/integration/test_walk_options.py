"""--dry-run, --limit, --shard, --sample, --batch-size: what they touch and what they leave."""

from __future__ import annotations

from typing import Any

import pytest

from dekctl.kms import EnvKMS
from support.app import AppDatabase, Application
from support.cli import Dekctl

LEDGER = ("dekctl_runs", "dekctl_quarantine", "dekctl_tables", "dekctl_version_encrypted_files")


def snapshot(app: Application) -> dict[str, Any]:
    """All that a dry run must not change: rows, and the ledger but for the runs' own entries."""
    found: dict[str, Any] = {"rows": app.rows()}
    for table in LEDGER[1:]:
        found[table] = sorted(app.database.sql(f"SELECT * FROM {table}"))
    return found


@pytest.mark.parametrize(
    ("stage", "command"),
    [
        ("expanded", ["wrap"]),
        ("expanded", ["migrate"]),
        ("wrapped", ["verify"]),
        ("wrapped", ["scrub"]),
        ("scrubbed", ["restore"]),
        ("scrubbed", ["rewrap"]),
        ("scrubbed", ["rollback"]),
    ],
)
def test_a_dry_run_writes_nothing_and_says_what_it_would_do(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any, stage: str, command: list[str]
) -> None:
    app = make_app(app_database, rows=7)
    app.add_dek(b"", b"bad")
    steps = {"expanded": [], "wrapped": [["wrap"]], "scrubbed": [["wrap"], ["scrub", "--yes"]]}
    dekctl("schema", "expand").expect(0)
    for step in steps[stage]:
        dekctl(*step)
    if command == ["rewrap"]:
        dekctl.use_env_kek()
    before = snapshot(app)
    result = dekctl("--json", *command, "--dry-run").json
    assert result["dry_run"] is True
    if command[0] not in {"verify", "rollback"}:
        assert result["changed"] in {7, 8}
    assert snapshot(app) == before


def test_a_dry_run_before_expand_makes_no_table(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=5)
    for command in (["wrap", "--dry-run"], ["migrate", "--dry-run"]):
        result = dekctl.json(*command)
        assert (result["changed"], result["run_id"]) == (5, None)
    assert dekctl.json("status")["stage"] == "legacy"
    assert app.counts()["plaintext_only"] == 5
    tables = app_database.engine.dialect.get_table_names
    with app_database.engine.connect() as connection:
        assert tables(connection) == ["encrypted_files"]


def test_a_dry_run_of_wrap_prints_the_bill(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=100)
    estimate = dekctl.json("wrap", "--dry-run")["estimate"]
    assert estimate["kms_calls"] == 100
    assert estimate["usd"] == pytest.approx(0.0003)
    assert estimate["usd_second_trail"] == pytest.approx(0.002)  # $2.00 for 100,000 events
    assert "each further trail of management events" in dekctl("wrap", "--dry-run").stdout


def test_limit_bounds_the_rows_taken_up_and_the_next_run_goes_on(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=20)
    dekctl("schema", "expand").expect(0)
    for expected in (7, 7, 6, 0):
        assert dekctl.json("wrap", "--limit", "7", "--batch-size", "3")["changed"] == expected
    assert app.counts()["both"] == 20


def test_shards_are_disjoint_and_complete(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=40, key="uuid")
    dekctl("schema", "expand").expect(0)
    done = [dekctl.json("wrap", "--shard", f"{i}/3")["changed"] for i in (1, 2, 3)]
    assert sum(done) == app.counts()["both"] == 40
    assert all(done)


def test_a_sample_is_bounded_and_spread(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=300)
    dekctl("migrate").expect(0)
    result = dekctl.json("verify", "--sample", "20")
    assert 0 < result["verified"] <= 20
    assert dekctl.json("verify", "--sample", "1000")["verified"] == 300
    assert "exclude" in dekctl("verify", "--sample", "2", "--shard", "1/2").expect(2).stderr


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"])
def test_an_impossible_shard_is_wrong_usage(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, text: str
) -> None:
    make_app(sqlite_database, rows=1)
    assert "1/4" in dekctl("wrap", f"--shard={text}").expect(2).stderr


def test_rewrap_from_one_kek_leaves_the_others(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=4)
    dekctl("schema", "expand").expect(0)
    first = EnvKMS(dekctl.environ).kek_id
    dekctl("wrap", "--limit", "3").expect(0)
    dekctl.use_env_kek()
    second = EnvKMS(dekctl.environ).kek_id
    dekctl("wrap").expect(0)
    dekctl.use_env_kek()
    dekctl("scrub", "--yes").expect(0)
    assert dekctl.json("rewrap", "--from", second)["changed"] == 1
    assert sorted(k["rows"] for k in dekctl.json("status")["keks"]) == [1, 3]
    assert first in {k["kek_id"] for k in dekctl.json("status")["keks"]}
    assert dekctl.json("rewrap")["changed"] == 3
    app.assert_files_open(EnvKMS(dekctl.environ))


def test_restore_and_wrap_again_are_idempotent(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=5)
    for command, changed in (
        (["migrate"], 5),
        (["migrate"], 0),
        (["scrub", "--yes"], 5),
        (["scrub", "--yes"], 0),
        (["restore", "--yes"], 5),
        (["restore", "--yes"], 0),
    ):
        assert dekctl.json(*command)["changed"] == changed, command
    assert {r["encryption_key"] for r in app.rows().values()} == set(app.deks.values())
    assert app.counts()["both"] == 5


def test_an_empty_table_goes_there_and_back(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(app_database, rows=0)
    for command in (
        ["migrate"],
        ["scrub", "--yes"],
        ["schema", "contract", "--yes"],
        ["rewrap"],
        ["rollback", "--yes"],
    ):
        dekctl(*command).expect(0)
    assert dekctl.json("status")["stage"] == "legacy"
