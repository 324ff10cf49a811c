"""SQLite stores anything in any column. What nobody can read is one row's trouble, by name.

NaN is not among it: SQLite stores that as NULL.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dekctl.errors import RowRejectedError
from dekctl.kms import EnvKMS
from dekctl.ledger import parse_result, parse_time
from dekctl.reader import RowKeys
from support.app import AppDatabase, Application
from support.cli import Dekctl

ROWS = 4
BLOB, NO_UTF8, NUL = "x'00ff'", "CAST(x'ff61' AS TEXT)", "CAST(x'610062' AS TEXT)"
NUMBER, LARGE, INFINITY = "7", "9000000000000", "9e999"
DEEP = "replace(hex(zeroblob(50000)), '00', '[')"

Reset = Callable[[str], None]


@pytest.fixture
def changed(sqlite_database: AppDatabase, tmp_path: Path) -> Reset:
    """Puts the database back to what it was at the first call, and changes something in it."""
    file, kept = Path(str(sa.engine.make_url(sqlite_database.url).database)), tmp_path / "kept.db"

    def change(statement: str) -> None:
        shutil.copy(*((kept, file) if kept.exists() else (file, kept)))
        with sqlite_database.past_the_trigger() as connection:
            connection.exec_driver_sql(statement)

    return change


def migrated(make_app: Any, database: AppDatabase, dekctl: Dekctl, **table: Any) -> Application:
    app: Application = make_app(database, rows=ROWS, **table)
    dekctl.json("migrate")
    return app


def walked(dekctl: Dekctl, *arguments: str) -> dict[str, Any]:
    """The result of a walk that came to its end, whatever became of the rows."""
    done = dekctl("--json", *arguments)
    assert done.exit_code in (0, 4), done.stderr
    return done.json


@pytest.mark.parametrize("size", ["1", "100"])
def test_a_primary_key_that_is_not_utf8_is_quarantined_by_name_by_every_verb(
    size: str, sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(sqlite_database, key="text", rows=ROWS)
    dekctl.json("schema", "expand")
    rename = "UPDATE encrypted_files SET id = {} WHERE id = :old"
    first, second, *_, last = (pk for (pk,) in sorted(app.rows()))
    sqlite_database.sql(rename.format("CAST(x'30ff' AS TEXT)"), old=first)
    sqlite_database.sql(rename.format("CAST(x'ff30' AS TEXT)"), old=last)
    sqlite_database.sql(rename.format("'0\\xff'"), old=second)  # reads like the first, and is good
    verbs = (("wrap",), ("verify",), ("rewrap", "--same-key"), ("scrub", "--yes"))
    for verb in (*verbs, ("restore", "--yes"), ("wrap", "--retry-quarantined")):
        done = walked(dekctl, *verb, "--batch-size", size)
        if verb[-1] != "--retry-quarantined":
            assert done.get("verified", done["changed"]) == ROWS - 2, verb
        quarantine = dekctl.json("status")["quarantine"]
        assert sorted(row["pk"] for row in quarantine) == ["0\\xff", "\\xff0"], verb
        assert all("not UTF-8" in row["reason"] for row in quarantine)
    shards = [walked(dekctl, "verify", "--shard", f"{n}/2")["scanned"] for n in (1, 2)]
    assert sum(shards) == ROWS
    dekctl("report", "--output", str(dekctl.folder / "report.html")).expect(0)
    kept = sqlite_database.sql("SELECT hex(id) FROM encrypted_files WHERE wrapped_key IS NULL")
    assert sorted(kept) == [("30FF",), ("FF30",)]


@pytest.mark.parametrize("column", ["kek_id", "wrapped_key_version"])
def test_what_names_no_kek_or_no_version_is_counted_as_it_reads(
    column: str, sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, changed: Reset
) -> None:
    migrated(make_app, sqlite_database, dekctl)
    kek = EnvKMS(dekctl.environ).kek_id
    for odd in (BLOB, NO_UTF8, NUL, INFINITY):
        changed(f"UPDATE encrypted_files SET {column} = {odd} WHERE id = 2")
        assert sum(entry["rows"] for entry in dekctl.json("status")["keks"]) == ROWS, odd
        dekctl("report", "--output", str(dekctl.folder / "report.html")).expect(0)
        dekctl("retire", kek).expect(3)
        assert [row["pk"] for row in walked(dekctl, "verify")["set_aside"]] == ["2"], odd


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("wrapped", (BLOB, NO_UTF8, "'text'", "''", NUMBER, LARGE, INFINITY)),
        ("kek_id", (BLOB, NO_UTF8, NUL, NUMBER, "'nonsense'")),
        ("context_name", (BLOB, NO_UTF8, NUMBER, "'another_table'")),
        ("branch_id", (BLOB, NO_UTF8, "CAST(branch_id AS BLOB)", "upper(branch_id)")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_damaged_branch_key_is_named_and_stops_no_row_of_another_one(
    column: str,
    values: tuple[str, ...],
    sqlite_database: AppDatabase,
    dekctl: Dekctl,
    make_app: Any,
    changed: Reset,
) -> None:
    app = migrated(make_app, sqlite_database, dekctl, wrapping="V3", rows_per_branch_key=2)
    rows = app.rows()
    branch = bytes(rows[1,]["wrapped_key"])[1:17].hex()
    for odd in values:
        changed(f"UPDATE dekctl_branch_keys SET {column} = {odd} WHERE branch_id = '{branch}'")
        for verb in (("verify",), ("rewrap", "--same-key"), ("scrub", "--yes")):
            done = walked(dekctl, *verb, "--retry-quarantined")
            assert [row["pk"] for row in done["set_aside"]] == ["1", "2"], (odd, verb)
            assert all(branch in row["reason"] for row in done["set_aside"]), (odd, verb)
        assert app.counts() == {"plaintext_only": 0, "both": 2, "wrapped_only": 2, "no_key": 0}
        dekctl("status").expect(0)
        if odd == NO_UTF8:
            continue  # the application's own driver does not give it to anybody
        reader = RowKeys(EnvKMS(dekctl.environ), app.config, engine=sqlite_database.engine)
        with pytest.raises(RowRejectedError, match=branch):
            reader.read(rows[1,])


RUN = (
    *("env", "shard", "who", "host", "pid", "process_started", "started_at", "heartbeat_at"),
    *("ended_at", "kek_id", "dekctl_version", "position", "result", "error"),
)
COMMANDS = (
    ("status",),
    ("doctor",),
    ("wrap",),
    ("retire", "env:0123456789abcdef"),
    ("report", "--output", "report.html"),
)


@pytest.mark.parametrize("state", ["running", "finished"])
def test_a_forged_run_or_quarantine_stops_nobody(
    state: str,
    sqlite_database: AppDatabase,
    dekctl: Dekctl,
    make_app: Any,
    changed: Reset,
    tmp_path: Path,
) -> None:
    migrated(make_app, sqlite_database, dekctl)
    sqlite_database.sql("UPDATE dekctl_runs SET operation = 'rewrap', state = :s", s=state)
    sqlite_database.sql(
        "INSERT INTO dekctl_quarantine SELECT table_name, 'x', '1', 'wrap', 'x', 'x', 'x' "
        "FROM dekctl_tables"
    )
    for odd in (BLOB, NO_UTF8, NUMBER, INFINITY, "'nonsense'", DEEP):
        changed(f"UPDATE dekctl_runs SET {', '.join(f'{name} = {odd}' for name in RUN)}")
        sqlite_database.sql(
            f"UPDATE dekctl_quarantine SET pk_hash = {odd}, pk = {odd}, reason = {odd}, "
            f"operation = {odd}, run_id = {odd}, since = {odd}"
        )
        for command in COMMANDS:
            done = dekctl(*(str(tmp_path / a) if a.endswith(".html") else a for a in command))
            assert done.exit_code == (2 if "retire" in command else 0), (odd, done)
        states = [run["state"] for run in dekctl.json("status")["runs"]]
        assert "running" not in states, "a run that never lived is waited for"


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (f"UPDATE dekctl_tables SET facts = {DEEP}", "cannot be used"),
        (f"UPDATE dekctl_tables SET facts = {BLOB}", "cannot be used"),
        (f"UPDATE dekctl_tables SET table_name = {NO_UTF8}", "ledger"),
        ("UPDATE dekctl_version_encrypted_files SET version_num = 'x'", "does not know"),
        (f"UPDATE dekctl_version_encrypted_files SET version_num = {BLOB}", "does not know"),
        ("INSERT INTO dekctl_version_encrypted_files VALUES ('table_0002')", "does not know"),
        (f"UPDATE dekctl_ledger_version SET version_num = {NO_UTF8}", "newer dekctl"),
        ("INSERT INTO dekctl_ledger_version VALUES ('x')", "newer dekctl"),
    ],
)
def test_what_a_table_is_bound_to_is_refused_by_name(
    statement: str, said: str, sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = migrated(make_app, sqlite_database, dekctl)
    before = app.rows()
    sqlite_database.sql(statement)
    for command in (("schema", "expand"), ("rollback", "--yes"), ("schema", "rollback", "--yes")):
        assert said in dekctl(*command).expect(3).stderr
    assert app.rows() == before


@pytest.mark.parametrize(
    "result",
    [
        [],
        "text",
        {"changed": "3"},
        {"changed": -1},
        {"proved": True},
        {"rows": 0.5},
        {"sources": ["a"]},
        {"sources": {"a": None}},
        {"kms_calls": 7},
        {"targets": [7]},
        {"targets": "all"},
        {"left_none_of": ["any"]},
    ],
    ids=json.dumps,
)
def test_a_result_that_no_run_wrote_counts_as_none(result: Any) -> None:
    assert parse_result(json.dumps(result)) is None


@pytest.mark.parametrize("text", [None, "", "nonsense", "2026-01-01 00:00:00+02:00", "[" * 50_000])
def test_a_time_that_dekctl_did_not_write_is_none(text: str | None) -> None:
    assert parse_time(text) is None
    assert parse_result(text) is None


@pytest.mark.parametrize("keks", [2, 30])
def test_sqlite_counts_every_row_whatever_its_kek_and_version_are(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, keks: int
) -> None:
    make_app(sqlite_database, rows=40)
    dekctl.json("schema", "expand")
    set_of = "UPDATE encrypted_files SET wrapped_key = x'00', "
    sqlite_database.sql(f"{set_of} kek_id = 'k' || (id % {keks}), wrapped_key_version = 'V2'")
    sqlite_database.sql("UPDATE encrypted_files SET kek_id = NULL WHERE id = 1")
    sqlite_database.sql("UPDATE encrypted_files SET kek_id = 5 WHERE id = 2")
    sqlite_database.sql("UPDATE encrypted_files SET wrapped_key_version = NULL WHERE id = 3")
    told = dekctl.json("status")
    assert (told["rows"], told["both"]) == (40, 40)
    assert sum(kek["rows"] for kek in told["keks"]) == 40
    sqlite_database.sql("UPDATE encrypted_files SET kek_id = CAST(x'ff' AS TEXT) WHERE id = 4")
    told = dekctl.json("status")
    assert (told["rows"], sum(kek["rows"] for kek in told["keks"])) == (40, 40)
