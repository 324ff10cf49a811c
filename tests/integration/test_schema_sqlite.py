"""SQLite's table copy keeps everything, or is refused with nothing changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.app import AppDatabase
from support.cli import Dekctl

DEK = b"an ASCII text in no other coding"

KEPT = {
    "an index": ("", "CREATE INDEX by_name ON encrypted_files (name DESC)"),
    "a partial index": ("", "CREATE INDEX some ON encrypted_files (name) WHERE size > 3"),
    "an index over an expression": ("", "CREATE INDEX low ON encrypted_files (lower(name))"),
    "a unique index": ("", "CREATE UNIQUE INDEX one ON encrypted_files (name, size)"),
    "a trigger": (
        "",
        "CREATE TRIGGER touch AFTER UPDATE OF name ON encrypted_files "
        "BEGIN UPDATE encrypted_files SET size = size + 1 WHERE id = new.id; END",
    ),
    "a view": ("", "CREATE VIEW names AS SELECT name FROM encrypted_files"),
    "another table's trigger": (
        "",
        "CREATE TABLE log (x); CREATE TRIGGER other AFTER INSERT ON log "
        "BEGIN UPDATE encrypted_files SET size = 0; END",
    ),
    "another table's foreign key": (
        "",
        "CREATE TABLE parts (file INTEGER REFERENCES encrypted_files (id) ON DELETE CASCADE)",
    ),
    "a default": ("extra TEXT NOT NULL DEFAULT 'it''s'", ""),
    "a unique column": ("extra TEXT UNIQUE", ""),
    "a foreign key": ("extra INTEGER REFERENCES owners (id)", ""),
    "a named check": ("extra INTEGER CONSTRAINT small CHECK (extra < 10)", ""),
    "a column called check": ('"check" TEXT, "collate" TEXT', ""),
}
KEPT_OR_REFUSED = {
    "a check": ("extra INTEGER CHECK (extra < 10)", ""),
    "a collation": ("extra TEXT COLLATE NOCASE", ""),
    "a generated column": ("extra INTEGER GENERATED ALWAYS AS (size * 2) STORED", ""),
    "a conflict clause": ("extra TEXT UNIQUE ON CONFLICT REPLACE", ""),
    "a deferred foreign key": (
        "extra INTEGER REFERENCES owners (id) ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED",
        "",
    ),
    "a type of its own": ("extra DECIMAL_TEXT", ""),
}
TABLES = {
    "plain": ("id INTEGER PRIMARY KEY", ""),
    "autoincrement": ("id INTEGER PRIMARY KEY AUTOINCREMENT", ""),
    "without rowid": ("id INTEGER PRIMARY KEY NOT NULL", " WITHOUT ROWID"),
    "strict": ("id INTEGER PRIMARY KEY", " STRICT"),
    "quoted": ('"id" INTEGER, PRIMARY KEY ("id")', ""),
}


def build(database: AppDatabase, key: str, extra: str, ending: str, more: str) -> None:
    columns = [
        key if "PRIMARY KEY (" not in key else key.partition(",")[0],
        "name TEXT NOT NULL",
        "size INTEGER",
        "encryption_key BLOB NOT NULL",
        *([extra] if extra else []),
        *([key.partition(",")[2]] if "PRIMARY KEY (" in key else []),
    ]
    database.sql("CREATE TABLE owners (id INTEGER PRIMARY KEY)")
    database.sql(f"CREATE TABLE encrypted_files ({', '.join(columns)}){ending}")
    if more.startswith("CREATE TABLE"):
        first, _, then = more.partition("; ")
        for statement in filter(None, (first, then)):
            database.sql(statement)
    elif more:
        database.sql(more.replace(":", r"\:"))
    for number in (1, 2, 7):
        database.sql(
            "INSERT INTO encrypted_files (id, name, size, encryption_key) "
            f"VALUES ({number}, 'n{number}', 5, :dek)",
            dek=DEK,
        )


def everything(database: AppDatabase) -> dict[str, Any]:
    """What the application would see of its table and the objects around it."""
    found = database.sql(
        "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE '%dekctl%' "
        "AND name NOT LIKE 'sqlite_autoindex%' AND name NOT LIKE 'ix_dekctl%' "
        "AND name <> 'encrypted_files' ORDER BY type, name"
    )
    columns = database.sql(
        "SELECT name, type, dflt_value, pk, hidden, [notnull] "
        "FROM pragma_table_xinfo('encrypted_files') WHERE name NOT IN "
        "('encryption_key', 'wrapped_key', 'wrapped_key_version', 'kek_id')"
    )
    keys = database.sql("SELECT * FROM pragma_foreign_key_list('encrypted_files')")
    rows = database.sql("SELECT id, name, size, encryption_key FROM encrypted_files ORDER BY id")
    return {"objects": found, "columns": columns, "keys": keys, "rows": rows}


def configure(dekctl: Dekctl, database: AppDatabase) -> None:
    dekctl.hidden.append(DEK)
    dekctl.configure(f'[env.test]\ndatabase_url = "{database.url}"\nprovider = "env"\n')


@pytest.mark.parametrize("name", KEPT)
def test_expand_and_rollback_keep(sqlite_database: AppDatabase, dekctl: Dekctl, name: str) -> None:
    extra, more = KEPT[name]
    build(sqlite_database, "id INTEGER PRIMARY KEY", extra, "", more)
    configure(dekctl, sqlite_database)
    before = everything(sqlite_database)
    dekctl("schema", "expand").expect(0)
    assert everything(sqlite_database) == before
    dekctl("schema", "rollback", "--yes").expect(0)
    assert everything(sqlite_database) == before
    assert sqlite_database.sql("PRAGMA foreign_key_check") == []
    assert sqlite_database.sql("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("name", KEPT_OR_REFUSED)
def test_what_a_copy_may_lose_is_kept_or_refused_with_nothing_changed(
    sqlite_database: AppDatabase, dekctl: Dekctl, name: str
) -> None:
    extra, more = KEPT_OR_REFUSED[name]
    build(sqlite_database, "id INTEGER PRIMARY KEY", extra, "", more)
    configure(dekctl, sqlite_database)
    before = everything(sqlite_database)
    definition = "SELECT sql FROM sqlite_master WHERE name = 'encrypted_files'"
    text = sqlite_database.sql(definition)
    result = dekctl("schema", "expand")
    assert everything(sqlite_database) == before
    if result.exit_code == 0:
        keyword = extra.split()[2]
        assert keyword in sqlite_database.sql(definition)[0][0]
        return
    result.expect(3)
    assert "by hand" in result.stderr
    assert sqlite_database.sql(definition) == text
    assert dekctl.json("status")["stage"] == "legacy"
    # Done by hand, as the hint says, the command goes on.
    sqlite_database.sql("ALTER TABLE encrypted_files RENAME TO old")
    sqlite_database.sql(text[0][0].replace("encryption_key BLOB NOT NULL", "encryption_key BLOB"))
    names = "id, name, size, encryption_key"
    sqlite_database.sql(f"INSERT INTO encrypted_files ({names}) SELECT {names} FROM old")
    sqlite_database.sql("DROP TABLE old")
    dekctl("migrate").expect(0)


@pytest.mark.parametrize("kind", TABLES)
def test_each_kind_of_table_goes_there_and_back(
    sqlite_database: AppDatabase, dekctl: Dekctl, kind: str
) -> None:
    key, ending = TABLES[kind]
    build(sqlite_database, key, "", ending, "")
    configure(dekctl, sqlite_database)
    before = everything(sqlite_database)
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    dekctl("schema", "contract", "--yes").expect(0)
    [(definition,)] = sqlite_database.sql(
        "SELECT sql FROM sqlite_master WHERE name = 'encrypted_files'"
    )
    if ending:
        assert ending.split()[-1] in definition
    dekctl("rollback", "--yes").expect(0)
    assert everything(sqlite_database) == before


def test_a_primary_key_that_was_given_out_once_does_not_come_again(
    sqlite_database: AppDatabase, dekctl: Dekctl
) -> None:
    build(sqlite_database, "id INTEGER PRIMARY KEY AUTOINCREMENT", "", "", "")
    configure(dekctl, sqlite_database)
    sqlite_database.sql("DELETE FROM encrypted_files WHERE id = 7")
    dekctl("schema", "expand").expect(0)
    sqlite_database.sql("INSERT INTO encrypted_files (name, encryption_key) VALUES ('x', X'00')")
    assert sqlite_database.sql("SELECT max(id) FROM encrypted_files") == [(8,)]


def test_a_scrubbed_key_is_not_in_the_file_any_more(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(sqlite_database, rows=300)
    file = sqlite_database.engine.url.database
    assert file is not None
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    content = Path(file).read_bytes()
    assert not [pk for pk, dek in app.deks.items() if dek in content]


@pytest.mark.parametrize(
    "made_by",
    [
        "(id INT PRIMARY KEY, encryption_key BLOB NOT NULL)",
        "(id INTEGER PRIMARY KEY DESC, encryption_key BLOB NOT NULL)",
        "(id TEXT COLLATE NOCASE PRIMARY KEY, encryption_key BLOB NOT NULL)",
        "(id ANY PRIMARY KEY, encryption_key BLOB NOT NULL) STRICT",
    ],
)
def test_that_a_table_cannot_be_copied_is_said_before_anything_is_changed(
    sqlite_database: AppDatabase, dekctl: Dekctl, made_by: str
) -> None:
    database = sqlite_database
    database.sql(f"CREATE TABLE encrypted_files {made_by}")
    dekctl.configure(f'[env.test]\ndatabase_url = "{database.url}"\nprovider = "env"\n')
    said = "dekctl cannot copy the SQLite table encrypted_files without changing its"
    assert f"warn  table encrypted_files: {said}" in dekctl("doctor").expect(0).stdout
    assert said in dekctl("wrap", "--dry-run").expect(0).stderr
    for options in ([], ["--sql"]):
        assert said in dekctl("schema", "expand", *options).expect(3).stderr
    assert [name for (name,) in database.sql("SELECT name FROM sqlite_master WHERE sql > ''")] == [
        "encrypted_files"
    ]
