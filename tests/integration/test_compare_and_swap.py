"""Every write is a compare-and-swap: it reaches the very row that was read, or nothing."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from dekctl.config import EnvConfig, TableConfig
from dekctl.db.connect import database_of
from dekctl.db.database import Database
from dekctl.db.row import Change
from dekctl.db.table import DekTable
from dekctl.errors import RowRefusedError
from sandbox.postgres import PostgresServer
from support.app import AppDatabase
from support.cli import Dekctl
from support.secrets import assert_hidden

COLUMNS = ("wrapped", "version", "kek")
WRAPPED = {"wrapped_key": b"old", "wrapped_key_version": "V2", "kek_id": "kek"}
LEGACY = dict.fromkeys(WRAPPED)


def open_table(database: AppDatabase, rows: list[dict[str, Any]]) -> tuple[Database, DekTable]:
    """A table with these rows, as dekctl opens it."""
    table = sa.Table(
        "encrypted_files",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("encryption_key", sa.LargeBinary),
        sa.Column("wrapped_key", sa.LargeBinary),
        sa.Column("wrapped_key_version", sa.String(16)),
        sa.Column("kek_id", sa.String(255)),
    )
    table.create(database.engine)
    with database.engine.begin() as connection:
        connection.execute(
            table.insert(),
            [{"id": i, "encryption_key": b"k%d" % i, **r} for i, r in enumerate(rows)],
        )
    opened = database_of(EnvConfig("test", database_url=database.url))
    return opened, DekTable(opened, TableConfig())


def read(opened: Database, table: DekTable) -> list[Any]:
    return opened.run(lambda c: table.page(c, after=None, size=100, due_sql="1 = 1"))


def remove_plaintexts(
    opened: Database, table: DekTable, rows: list[Any], *, erase: bool
) -> list[tuple[Any, ...]]:
    changes = [Change(row, (None,)) for row in rows]
    return opened.run(lambda c: table.swap(c, ("plaintext",), changes, erase=erase), write=True)


def wrapped_keys(database: AppDatabase) -> dict[int, bytes | None]:
    found = database.sql("SELECT id, wrapped_key FROM encrypted_files")
    return {pk: bytes(wrapped) if wrapped else None for pk, wrapped in found}


@pytest.mark.parametrize("before", [LEGACY, WRAPPED], ids=["legacy rows", "wrapped rows"])
def test_a_change_is_written_only_to_the_row_that_was_read(
    app_database: AppDatabase, before: dict[str, Any]
) -> None:
    opened, table = open_table(app_database, [before] * 9)
    old = before["wrapped_key"]
    with opened:
        rows = read(opened, table)
        # While we are with KMS the application re-keys one row, deletes one, gives one another
        # primary key, and changes one column of each of the others, by little.
        set_of = "UPDATE encrypted_files SET "
        app_database.sql(set_of + "encryption_key = NULL WHERE id = 1")
        app_database.sql("DELETE FROM encrypted_files WHERE id = 2")
        app_database.sql(set_of + "id = 30 WHERE id = 3")
        app_database.sql(set_of + "kek_id = 'KEK' WHERE id = 4")
        app_database.sql(set_of + "wrapped_key_version = 'v2' WHERE id = 5")
        app_database.sql(set_of + "wrapped_key = encryption_key WHERE id = 6")
        app_database.sql(set_of + "kek_id = 'kek ', wrapped_key_version = 'V2 ' WHERE id = 7")
        changes = [Change(row, (b"w", "V3", "new")) for row in rows]
        moved = opened.run(lambda c: table.swap(c, COLUMNS, changes), write=True)
        assert moved == [(pk,) for pk in range(1, 8)]
        # The answer to a commit may be lost; the same swap again finds its own work.
        assert opened.run(lambda c: table.swap(c, COLUMNS, changes), write=True) == moved
    left = {1: old, 4: old, 5: old, 6: b"k6", 7: old, 30: old}
    assert wrapped_keys(app_database) == {0: b"w", **left, 8: b"w"}


def test_rows_in_different_states_are_written_together(app_database: AppDatabase) -> None:
    other = {"wrapped_key": b"other", "wrapped_key_version": None, "kek_id": None}
    opened, table = open_table(app_database, [LEGACY, WRAPPED, other, LEGACY])
    with opened:
        changes = [Change(r, (b"w%d" % r.pk, f"V{r.pk[0]}", "new")) for r in read(opened, table)]
        assert opened.run(lambda c: table.swap(c, COLUMNS, changes), write=True) == []
        assert [row.version for row in read(opened, table)] == ["V0", "V1", "V2", "V3"]
    assert wrapped_keys(app_database) == {i: b"w%d" % i for i in range(4)}


def test_no_key_is_in_what_postgresql_logs_of_a_swap(
    postgres_server: PostgresServer,
    postgres_database: AppDatabase,
    dekctl: Dekctl,
    make_app: Any,
) -> None:
    app = make_app(postgres_database)
    for _ in range(4):  # the same value in all rows is what a statement could name once
        app.add_dek(bytes(range(50, 82)))
    name = postgres_database.engine.url.database
    for setting in ("log_statement = 'all'", "log_min_duration_statement = 0"):
        postgres_server.sql(f"ALTER DATABASE {name} SET {setting}")
    dekctl.json("migrate")
    dekctl.json("verify")
    dekctl.json("scrub", "--yes")
    dekctl.json("restore", "--yes")
    assert app.counts()["both"] == 4
    wrapped = [bytes(row["wrapped_key"]) for row in app.rows().values()]
    log = postgres_server.log.read_text(encoding="utf-8", errors="replace")
    assert "kek_id = $" in log, "the statements are not in the log"
    assert_hidden(log, [*app.deks.values(), *wrapped], "the log of PostgreSQL")


UNDOING = {
    "postgresql": (
        "CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN IF NEW.id = 2 THEN NEW.wrapped_key = NULL; END IF; RETURN NEW; END$$",
        "CREATE TRIGGER undo BEFORE UPDATE ON encrypted_files FOR EACH ROW EXECUTE FUNCTION undo()",
    ),
    "mariadb": (
        "CREATE TRIGGER undoing BEFORE UPDATE ON encrypted_files FOR EACH ROW "
        "IF NEW.id = 2 THEN SET NEW.wrapped_key = NULL; END IF",
    ),
    "sqlite": (
        "CREATE TRIGGER undoing AFTER UPDATE ON encrypted_files WHEN NEW.id = 2 "
        "AND NEW.wrapped_key IS NOT NULL "
        "BEGIN UPDATE encrypted_files SET wrapped_key = NULL WHERE id = 2; END",
    ),
}


def test_a_row_whose_write_a_trigger_undoes_does_not_count_as_written(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=3)
    dekctl("schema", "expand").expect(0)
    with app_database.engine.begin() as connection:
        for statement in UNDOING[app_database.kind]:
            connection.exec_driver_sql(statement)
    result = dekctl.json("wrap", expect=4)
    assert (result["changed"], result["quarantined"]) == (2, 1)
    assert app.counts()["both"] == 2


def test_a_row_that_changed_keeps_its_plaintext_when_the_others_are_erased(
    app_database: AppDatabase,
) -> None:
    opened, table = open_table(app_database, [WRAPPED] * 5)
    with opened:
        rows = read(opened, table)
        app_database.sql("UPDATE encrypted_files SET wrapped_key = encryption_key WHERE id = 3")
        assert remove_plaintexts(opened, table, rows, erase=True) == [(3,)]
        now = [row.plaintext for row in read(opened, table)]
        assert now == [None, None, None, b"k3", None]


@pytest.mark.parametrize("erase", [False, True])
def test_a_row_that_a_trigger_spoils_is_told_from_one_that_another_writer_changed(
    app_database: AppDatabase, erase: bool
) -> None:
    opened, table = open_table(app_database, [WRAPPED] * 4)
    for statement in UNDOING[app_database.kind]:
        app_database.sql(statement)
    with opened:
        rows = read(opened, table)
        app_database.sql("UPDATE encrypted_files SET kek_id = 'other' WHERE id = 1")
        with pytest.raises(RowRefusedError, match="makes something else"):
            remove_plaintexts(opened, table, rows, erase=erase)
        assert read(opened, table)[2] == rows[2]
        remove_plaintexts(opened, table, [rows[0], rows[3]], erase=erase)
    assert wrapped_keys(app_database) == dict.fromkeys(range(4), b"old")


def test_a_row_that_a_trigger_spoils_is_seen_beside_one_that_is_already_as_wanted(
    app_database: AppDatabase,
) -> None:
    opened, table = open_table(app_database, [WRAPPED] * 4)
    with opened:
        rows = read(opened, table)
        app_database.sql("UPDATE encrypted_files SET encryption_key = NULL WHERE id = 1")
        for statement in UNDOING[app_database.kind]:
            app_database.sql(statement)
        with pytest.raises(RowRefusedError, match="makes something else"):
            remove_plaintexts(opened, table, rows, erase=True)
        assert read(opened, table)[2] == rows[2]
        for row in rows[:2]:
            remove_plaintexts(opened, table, [row], erase=True)
        with pytest.raises(RowRefusedError, match="makes something else"):
            remove_plaintexts(opened, table, rows[2:3], erase=True)
    assert wrapped_keys(app_database) == dict.fromkeys(range(4), b"old")


def test_a_trigger_on_a_partition_of_a_partition_is_seen(postgres_database: AppDatabase) -> None:
    opened, table = open_table(postgres_database, [WRAPPED] * 3)
    for statement in (
        "ALTER TABLE encrypted_files RENAME TO leaf",
        "CREATE TABLE encrypted_files (LIKE leaf INCLUDING ALL) PARTITION BY RANGE (id)",
        "CREATE TABLE middle PARTITION OF encrypted_files FOR VALUES FROM (0) TO (100) "
        "PARTITION BY RANGE (id)",
        "ALTER TABLE middle ATTACH PARTITION leaf FOR VALUES FROM (0) TO (50)",
        UNDOING["postgresql"][0],
        UNDOING["postgresql"][1].replace("encrypted_files", "leaf"),
    ):
        postgres_database.sql(statement)
    with opened:
        rows = read(opened, table)
        with pytest.raises(RowRefusedError, match="makes something else"):
            remove_plaintexts(opened, table, rows, erase=True)


def test_a_hidden_trigger_that_empties_the_wrapped_key_costs_no_key(
    mariadb_database: AppDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, table = open_table(mariadb_database, [WRAPPED] * 3)
    mariadb_database.sql(
        "CREATE TRIGGER guard BEFORE UPDATE ON encrypted_files FOR EACH ROW "
        "SET NEW.wrapped_key = IF(NEW.encryption_key <=> OLD.encryption_key, NEW.wrapped_key, NULL)"
    )
    with opened:
        # Without the right TRIGGER a role sees none.
        monkeypatch.setattr(opened.dialect, "may_be_rewritten", lambda *_: False)
        changes = [Change(row, (None,)) for row in read(opened, table)]
        with pytest.raises(RowRefusedError):
            opened.run(lambda c: table.swap(c, ("plaintext",), changes, erase=True), write=True)
        assert [row.plaintext for row in read(opened, table)] == [b"k0", b"k1", b"k2"]
