"""The row engine on real databases: moved rows, poison rows, stale rows, counts, shards."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest
import sqlalchemy as sa

from dekctl.db import table as table_module
from dekctl.db.database import Database
from dekctl.db.table import DekTable
from dekctl.kms import EnvKMS
from dekctl.walk.engine import Walk
from support.app import AppDatabase
from support.cli import Dekctl
from support.kms_standin import KmsStandin
from support.waiting import wait_until


def provider(dekctl: Dekctl) -> EnvKMS:
    return EnvKMS(dekctl.environ)


# -- poison and wrong settings ---------------------------------------------------------------------


def test_a_wrong_setting_is_refused_after_a_hundred_rows_and_nothing_is_written(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(app_database, rows=150, dek_bytes=[16])  # the table's keys have 32 bytes
    dekctl.json("schema", "expand")
    refused = dekctl("wrap").expect(3)
    assert "were all rejected" in refused.stderr
    assert "--keep-going" in refused.stderr
    assert dekctl.json("status")["quarantined"] == 0
    assert dekctl.json("wrap", "--keep-going", expect=4)["quarantined"] == 150


def test_poison_rows_are_set_aside_listed_and_released_when_they_are_good(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=20)
    bad = app.add_dek(os.urandom(7))
    dekctl.json("schema", "expand")

    wrapped = dekctl.json("wrap", expect=4)
    assert (wrapped["changed"], wrapped["quarantined"]) == (20, 1)
    [listed] = dekctl.json("status")["quarantine"]
    assert listed["pk"] == str(bad[0])
    assert "7 bytes" in listed["reason"]
    assert dekctl.json("wrap", expect=4)["quarantined"] == 1  # it is counted, and not tried

    app.deks[bad] = os.urandom(32)
    app.set(bad, plaintext=app.deks[bad])
    assert dekctl.json("wrap", "--retry-quarantined")["changed"] == 1
    assert dekctl.json("status")["quarantined"] == 0


def test_few_poison_rows_alone_are_set_aside_without_asking(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database)
    for _ in range(3):
        app.add_dek(os.urandom(7))
    dekctl.json("schema", "expand")
    assert dekctl.json("wrap", expect=4)["quarantined"] == 3
    assert dekctl.json("status")["quarantined"] == 3


# -- a legacy application beside dekctl ------------------------------------------------------------


def test_a_row_that_was_rekeyed_after_it_was_wrapped_keeps_its_plaintext_until_wrapped_again(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=8)
    dekctl.json("migrate")
    pk = next(iter(app.deks))
    app.deks[pk] = os.urandom(32)
    app.set(pk, plaintext=app.deks[pk])

    failed = dekctl.json("verify", expect=4)
    assert failed["failed"] == 1
    assert "dekctl settle --prove" in failed["set_aside"][0]["reason"]
    dekctl.json("scrub", "--yes", "--retry-quarantined", expect=4)
    assert app.counts() == {"plaintext_only": 0, "both": 1, "wrapped_only": 7, "no_key": 0}

    rehearsed = dekctl.json("wrap", "--stale", "--dry-run")
    assert rehearsed["changed"] == 1
    assert dekctl.json("wrap", "--stale")["changed"] == 1
    dekctl.json("verify")
    dekctl.json("scrub", "--yes")
    assert app.counts()["wrapped_only"] == 8
    wrapped = app.rows()[pk]
    opened = provider(dekctl).unwrap(
        bytes(wrapped[app.config.wrapped_column]),
        {"dekctl:table": app.config.context_name, "dekctl:pk": str(pk[0])},
    )
    assert opened == app.deks[pk], "the row opens to the key before the last"


def test_a_write_between_reading_and_writing_is_never_overwritten(
    app_database: AppDatabase,
    dekctl: Dekctl,
    make_app: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = make_app(app_database, rows=30)
    dekctl.json("schema", "expand")
    work, todo = Walk._work, iter(list(app.deks))
    lock = threading.Lock()

    def meddling(walk: Walk, rows: Any) -> Any:
        verdicts = work(walk, rows)
        with lock:
            for pk in [pk for pk, _ in zip(todo, range(3), strict=False)]:
                app.deks[pk] = os.urandom(32)
                app.set(pk, plaintext=app.deks[pk])
        return verdicts

    monkeypatch.setattr(Walk, "_work", meddling)
    result = dekctl.json("wrap", "--batch-size", "10")
    assert result["moved"] > 0
    assert result["changed"] == 30
    monkeypatch.undo()
    # Rows that were re-keyed after they had been written are stale; none is wrong unnoticed.
    dekctl.json("wrap", "--stale")
    dekctl.json("verify")
    dekctl.json("scrub", "--yes")
    dekctl.json("rollback", "--yes")
    rows = app.rows()
    assert all(bytes(rows[pk][app.config.plaintext_column]) == dek for pk, dek in app.deks.items())


def test_a_unique_plaintext_column_is_scrubbed_a_page_at_a_time(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=12)
    app_database.sql("CREATE UNIQUE INDEX one_key ON encrypted_files (encryption_key)")
    dekctl("migrate").expect(0)
    assert dekctl.json("scrub", "--yes")["changed"] == 12
    assert app.counts()["wrapped_only"] == 12


def test_a_rollback_that_is_refused_has_changed_nothing(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=3)
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    pk = next(iter(app.deks))
    app.set(pk, plaintext=os.urandom(32))  # the wrapped key is another
    assert "could not be verified" in dekctl("rollback", "--yes").expect(3).stderr
    assert app.counts() == {"plaintext_only": 0, "both": 1, "wrapped_only": 2, "no_key": 0}
    app.set(pk, plaintext=None)
    dekctl("rollback", "--yes").expect(0)


# -- counts, limits, pages -------------------------------------------------------------------------


def test_counts_are_right_after_transactions_were_tried_again(
    app_database: AppDatabase,
    dekctl: Dekctl,
    make_app: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A commit whose answer is lost runs a second time, and finds its own work done."""
    app = make_app(app_database, rows=40)
    dekctl.json("schema", "expand")
    run = Database.run
    lost: list[bool] = []

    def forgetful(self: Database, work: Any, **options: Any) -> Any:
        if options.get("write") and work.__name__ == "commit":
            run(self, work, **options)
            lost.append(True)
        return run(self, work, **options)

    monkeypatch.setattr(Database, "run", forgetful)
    wrapped = dekctl.json("wrap", "--batch-size", "10")
    assert (wrapped["scanned"], wrapped["changed"], wrapped["moved"]) == (40, 40, 0)
    scrubbed = dekctl.json("scrub", "--yes", "--batch-size", "10")
    assert (scrubbed["changed"], scrubbed["moved"], scrubbed["skipped"]) == (40, 0, 0)
    assert len(lost) == 8
    assert app.counts()["wrapped_only"] == 40


def test_the_limit_takes_up_no_more_rows_and_the_next_run_goes_on(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=60)
    dekctl.json("schema", "expand")
    assert dekctl.json("wrap", "--limit", "25", "--batch-size", "10")["changed"] == 25
    assert app.counts()["both"] == 25
    assert dekctl.json("wrap", "--batch-size", "7")["changed"] == 35


def test_rows_in_quarantine_do_not_use_up_the_limit(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database)
    for _ in range(5):
        app.add_dek(os.urandom(7))
    app.add(9)
    dekctl.json("schema", "expand")
    changed = [dekctl("--json", "wrap", "--limit", "5").json["changed"] for _ in range(3)]
    assert changed == [0, 5, 4]
    assert dekctl.json("status")["quarantined"] == 5


@pytest.mark.parametrize("command", [["wrap", "--retry-quarantined"], ["verify"]])
def test_a_deleted_row_leaves_quarantine_when_the_whole_table_is_looked_at(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any, command: list[str]
) -> None:
    app = make_app(app_database, rows=3)
    kept, deleted = app.add_dek(os.urandom(7)), app.add_dek(os.urandom(7))
    dekctl.json("schema", "expand")
    dekctl.json("wrap", expect=4)
    app_database.sql("DELETE FROM encrypted_files WHERE id = :id", id=deleted[0])
    for partial in (["--limit", "1"], ["--dry-run"]):
        dekctl(*command, *partial)
        assert dekctl.json("status")["quarantined"] == 2
    dekctl(*command)
    assert [row["pk"] for row in dekctl.json("status")["quarantine"]] == [str(kept[0])]


def test_no_statement_that_looks_for_a_sparse_shard_reads_the_whole_table(
    app_database: AppDatabase,
    dekctl: Dekctl,
    make_app: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_app(app_database, rows=300)
    dekctl.json("migrate")
    monkeypatch.setattr(table_module, "MAX_ROWS_READ", 20)
    pages: list[tuple[int, int]] = []
    page = DekTable.page

    def bounded(self: DekTable, *arguments: Any, **options: Any) -> Any:
        start, end = options["after"], options["until"]
        pages.append((start[0] if start else 0, end[0] if end else 301))
        return page(self, *arguments, **options)

    monkeypatch.setattr(DekTable, "page", bounded)
    shards = [
        dekctl.json("verify", "--shard", f"{i}/60", "--batch-size", "1")["verified"] for i in (1, 7)
    ]
    assert shards == [5, 5]
    assert len(pages) >= 30
    assert all(end - start <= 21 for start, end in pages)


def test_a_wide_page_is_still_written_in_small_transactions(
    app_database: AppDatabase,
    dekctl: Dekctl,
    make_app: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pages grow where nothing is due; what is due in such a page is written a batch at a time."""
    app = make_app(app_database, rows=400)
    dekctl.json("migrate")
    app.set(*list(app.deks)[300:], wrapped=None, version=None, kek=None)
    sizes: list[int] = []
    work = Walk._work

    def measured(walk: Walk, rows: Any) -> Any:
        sizes.append(len(rows))
        return work(walk, rows)

    monkeypatch.setattr(Walk, "_work", measured)
    assert dekctl.json("wrap", "--batch-size", "10")["changed"] == 100
    assert max(sizes) == 10
    assert len(sizes) < 30, "pages did not grow over the rows that had nothing to do"


# -- sharing the work ------------------------------------------------------------------------------


def test_processes_with_shards_share_the_table_and_a_third_one_is_refused(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=600)
    dekctl.json("schema", "expand")
    rows = ("--batch-size", "10")
    gate = dekctl.folder / "control.toml"
    gate.write_text("pause = true\n")
    children = [
        dekctl.start("--json", "wrap", "--shard", f"{i}/2", "--control", str(gate), *rows)
        for i in (1, 2)
    ]
    try:
        found = "SELECT count(*) FROM dekctl_runs WHERE state = 'running'"
        wait_until(lambda: app_database.sql(found)[0][0] == 2)
        assert "has been running on" in dekctl("wrap").expect(3).stderr
        assert "has been running on" in dekctl("wrap", "--shard", "1/3").expect(3).stderr
        assert "has been running on" in dekctl("wrap", "--shard", "1/2").expect(3).stderr
        assert dekctl.json("verify")["pending"] == 600
    finally:
        gate.unlink()
        results = [dekctl.finish(child).expect(0).json for child in children]
    assert sum(result["changed"] for result in results) == 600
    assert all(result["changed"] > 0 and result["moved"] == 0 for result in results)
    assert app.counts()["both"] == 600
    dekctl.json("verify")


def test_the_ledger_names_the_kek_that_kms_answered_with_not_the_alias(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, kms_standin: KmsStandin
) -> None:
    dekctl.environ |= kms_standin.environment()
    kek = kms_standin.create_key()
    kms_standin.kms().create_alias(AliasName="alias/of-the-ledger", TargetKeyId=kek)
    env = {"provider": "aws", "kek": "alias/of-the-ledger", "region": kms_standin.region}
    make_app(sqlite_database, rows=2, env=env)
    dekctl("migrate").expect(0)
    [arn] = sqlite_database.sql("SELECT kek_id FROM dekctl_runs WHERE operation = 'wrap'")
    assert arn == sqlite_database.sql("SELECT DISTINCT kek_id FROM encrypted_files")[0]
    assert arn[0].startswith("arn:")


# -- what dekctl does not own ----------------------------------------------------------------------


def test_a_column_that_updates_itself_keeps_its_value_on_mariadb(
    mariadb_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(mariadb_database, rows=5)
    mariadb_database.sql(
        "ALTER TABLE encrypted_files ADD COLUMN changed_at TIMESTAMP NULL DEFAULT NULL "
        "ON UPDATE CURRENT_TIMESTAMP"
    )
    before = app.foreign_fingerprint()
    dekctl.json("migrate")
    dekctl.json("scrub", "--yes")
    dekctl.json("rewrap")
    assert app.foreign_fingerprint() == before
    dekctl.json("rollback", "--yes")
    assert app.foreign_fingerprint() == before


def test_text_that_a_rollback_would_write_differently_is_set_aside(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=3, storage="text", plaintext_encoding="hex")
    dek = os.urandom(32)
    app.add_dek(dek, stored=dek.hex().upper())
    dekctl.json("schema", "expand")
    assert dekctl.json("wrap", expect=4)["changed"] == 3
    [listed] = dekctl.json("status")["quarantine"]
    assert "hex-upper" in listed["reason"]


def test_upper_case_hex_comes_back_as_it_was(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, storage="text", plaintext_encoding="hex")
    deks = [os.urandom(32) for _ in range(4)]
    for dek in deks:
        app.add_dek(dek, stored=dek.hex().upper())
    config = dekctl.folder / "dekctl.toml"
    config.write_text(config.read_text().replace('"hex"', '"hex-upper"'))
    dekctl.json("migrate")
    dekctl.json("scrub", "--yes")
    assert dekctl.json("rollback", "--dry-run")["changed"] == 4
    dekctl.json("rollback", "--yes")
    with app_database.engine.connect() as connection:
        stored = connection.execute(sa.text("SELECT encryption_key FROM encrypted_files")).scalars()
        assert sorted(stored) == sorted(dek.hex().upper() for dek in deks)
