"""What rows are bound to can change: it is refused everywhere, and rebind binds them anew."""

from __future__ import annotations

import os
from typing import Any

import pytest

from dekctl.kms import EnvKMS
from support.app import AppDatabase
from support.cli import Dekctl
from support.generations import Generations
from support.rotation import provider

COMMANDS = (
    ["verify"],
    ["wrap"],
    ["scrub", "--yes"],
    ["restore", "--yes"],
    ["rewrap"],
    ["doctor"],
    ["status"],
    ["report", "--output", "report.html"],
    ["retire", "env:0123456789abcdef"],
    ["residue", "sample", "--output", "sample.json"],
    ["schema", "current"],
    ["schema", "expand"],
    ["schema", "contract", "--yes"],
)


def set_table(dekctl: Dekctl, **values: str) -> None:
    """Change settings of [table]; each value is TOML."""
    file = dekctl.folder / "dekctl.toml"
    _, _, env = file.read_text().partition("[env.test]")
    lines = [f"{name} = {value}" for name, value in values.items()]
    file.write_text("\n".join(["[table]", *lines, "[env.test]"]) + env)


def refused_everywhere(dekctl: Dekctl, *words: str) -> None:
    for command in COMMANDS:
        result = dekctl(*command).expect(3)
        said = result.stdout + result.stderr
        assert all(word in said for word in words), f"{command}: {said}"


# -- the context name ------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapping", ["V2", "V3"])
def test_another_context_name_is_refused_until_the_rows_are_bound_to_it(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any, wrapping: str
) -> None:
    app = make_app(app_database, rows=20, wrapping=wrapping)
    dekctl.json("migrate")
    dekctl.json("scrub", "--yes", "--limit", "15")
    set_table(dekctl, context_name='"shop.files"', wrapping=f'"{wrapping}"')
    refused_everywhere(dekctl, "'encrypted_files'", "--old-context-name encrypted_files")

    before = app.rows()
    rehearsed = dekctl.json("rebind", "--old-context-name", "encrypted_files", "--dry-run")
    assert rehearsed["changed"] == 20
    assert app.rows() == before
    refused_everywhere(dekctl, "--old-context-name encrypted_files")

    part = dekctl.json("rebind", "--old-context-name", "encrypted_files", "--limit", "7")
    assert part["changed"] == 7
    refused_everywhere(dekctl, "a rebind was started", "--old-context-name encrypted_files")

    done = dekctl.json("rebind", "--old-context-name", "encrypted_files")
    assert (done["changed"], done["quarantined"]) == (13, 0)
    assert dekctl.json("verify")["verified"] == 20
    assert dekctl.json("schema", "expand")["changed"] is False
    assert dekctl.json("status")["stage"] == "expanded"
    set_table(dekctl)
    refused_everywhere(dekctl, "'shop.files'")
    set_table(dekctl, context_name='"shop.files"')
    assert dekctl.json("restore", "--yes")["changed"] == 15
    dekctl("rollback", "--yes").expect(0)
    assert {pk: bytes(row["encryption_key"]) for pk, row in app.rows().items()} == app.deks


def test_a_row_of_another_binding_is_quarantined_and_the_others_are_bound(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(sqlite_database, rows=5)
    dekctl.json("migrate")
    dekctl.json("scrub", "--yes")
    app.set((2,), wrapped=app.rows()[(3,)]["wrapped_key"])  # copied from another row
    set_table(dekctl, context_name='"shop.files"')
    result = dekctl.json("rebind", "--old-context-name", "encrypted_files", expect=4)
    assert (result["changed"], result["quarantined"]) == (4, 1)
    assert "neither" in str(result)
    assert dekctl.json("verify", expect=4)["verified"] == 4


def test_a_wrong_old_name_binds_nothing(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(sqlite_database, rows=5)
    dekctl.json("migrate")
    set_table(dekctl, context_name='"shop.files"')
    before = app.rows()
    assert dekctl.json("rebind", "--old-context-name", "nonsense", "--dry-run", expect=4)
    refused = dekctl("rebind", "--old-context-name", "nonsense").expect(3)
    assert "--old-context-name encrypted_files" in refused.stderr
    assert app.rows() == before
    assert dekctl.json("rebind", "--old-context-name", "encrypted_files")["changed"] == 5


def test_a_thin_file_never_makes_a_table_of_raw_keys_look_contracted(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    """With context_name and plaintext_column left out, there seem to be no plaintexts."""
    make_app(sqlite_database, rows=5, plaintext_column="raw_key", context_name="shop.files")
    dekctl.json("schema", "expand")
    set_table(dekctl)
    for command in (["status"], ["report", "--output", "x.html"], ["schema", "current"]):
        assert "'shop.files'" in dekctl(*command).expect(3).stderr
    assert not (dekctl.folder / "x.html").exists()
    sqlite_database.sql("DELETE FROM dekctl_tables")  # the ledger knows it under no name at all
    for command in (["status"], ["report", "--output", "x.html"], ["verify"]):
        said = dekctl(*command).expect(3).stderr
        assert "the default of plaintext_column" in said
        assert "raw_key" in said
    set_table(dekctl, plaintext_column='"raw_key"')
    assert dekctl.json("status")["plaintext_only"] == 5


# -- the primary key -------------------------------------------------------------------------------


def test_rows_with_new_key_values_are_named_and_bound_anew(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=5)
    dekctl.json("migrate")
    dekctl.json("scrub", "--yes")
    app_database.sql("UPDATE encrypted_files SET id = 1003 WHERE id = 3")
    app.deks[(1003,)] = app.deks.pop((3,))
    failed = dekctl.json("verify", expect=4)
    assert failed["failed"] == 1
    assert "dekctl rebind" in str(failed)

    wrong = dekctl.json("rebind", "--old-key", "CASE id WHEN 1003 THEN 4 ELSE id END", expect=4)
    assert (wrong["changed"], wrong["quarantined"]) == (0, 1)
    done = dekctl.json("rebind", "--old-key", "CASE id WHEN 1003 THEN 3 ELSE id END")
    assert (done["changed"], done["quarantined"]) == (1, 0)
    assert dekctl.json("verify")["verified"] == 5
    app.assert_files_open(EnvKMS(dekctl.environ))
    # It can be run again, also by several processes.
    again = ("rebind", "--old-key", "CASE id WHEN 1003 THEN 3 ELSE id END", "--workers", "2")
    assert dekctl.process("--json", *again).expect(0).json["changed"] == 0


def test_another_primary_key_is_refused_until_the_rows_are_bound_to_it(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=5)
    sqlite_database.sql("CREATE UNIQUE INDEX by_name ON encrypted_files (filename)")
    dekctl.json("migrate")
    dekctl.json("scrub", "--yes")
    set_table(dekctl, primary_key='["filename"]')
    refused_everywhere(dekctl, "id number", "filename text", "dekctl rebind --old-key")
    assert dekctl.json("rebind", "--old-key", "id")["changed"] == 5
    assert dekctl.json("verify")["verified"] == 5


DDL = {
    "zone": (
        "timestamp",
        "'2026-01-02 03:04:05'",
        "ALTER TABLE encrypted_files ALTER COLUMN part TYPE timestamptz "
        "USING part AT TIME ZONE 'UTC'",
        "id, part AT TIME ZONE 'UTC'",
    ),
    "enum": (
        "shelf",
        "'old'",
        "ALTER TYPE shelf RENAME VALUE 'old' TO 'archive'",
        "id, CASE WHEN part = 'archive' THEN 'old' ELSE part::text END",
    ),
    "uuid": (
        "text",
        "'A0000000-0000-4000-8000-00000000000B'",
        "ALTER TABLE encrypted_files ALTER COLUMN part TYPE uuid USING part::uuid",
        "id, upper(part::text)",
    ),
    "char": (
        "char(6)",
        "'ab'",
        "ALTER TABLE encrypted_files ALTER COLUMN part TYPE varchar(6)",
        "id, rpad(part, 6)",
    ),
}


@pytest.mark.parametrize(("kind", "value", "ddl", "old_key"), DDL.values(), ids=DDL)
def test_a_key_that_reads_differently_is_refused_until_the_rows_are_bound_to_it(
    postgres_database: AppDatabase, dekctl: Dekctl, kind: str, value: str, ddl: str, old_key: str
) -> None:
    postgres_database.sql("CREATE TYPE shelf AS ENUM ('old', 'new')")
    postgres_database.sql(
        f"CREATE TABLE encrypted_files (id INT, part {kind}, encryption_key BYTEA NOT NULL, "
        "PRIMARY KEY (id, part))"
    )
    dek = os.urandom(32)
    dekctl.hidden.append(dek)
    postgres_database.sql(f"INSERT INTO encrypted_files VALUES (1, {value}, :dek)", dek=dek)
    dekctl.configure(
        '[table]\nprimary_key = ["id", "part"]\n[env.test]\n'
        f'database_url = "{postgres_database.url}"\nprovider = "env"\n'
    )
    dekctl.json("migrate")
    dekctl.json("scrub", "--yes")
    postgres_database.sql(ddl)
    refused_everywhere(dekctl, "dekctl rebind --old-key")
    assert dekctl.json("rebind", "--old-key", old_key)["changed"] == 1
    assert dekctl.json("verify")["verified"] == 1
    dekctl.json("restore", "--yes")
    [(restored,)] = postgres_database.sql("SELECT encryption_key FROM encrypted_files")
    assert bytes(restored) == dek


def test_a_key_that_reads_the_same_after_a_change_is_accepted(
    postgres_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(postgres_database, rows=3)
    dekctl.json("migrate")
    postgres_database.sql("ALTER TABLE encrypted_files ALTER COLUMN id TYPE bigint")
    postgres_database.sql("ALTER TABLE encrypted_files RENAME TO files")
    set_table(dekctl, name='"files"')
    assert dekctl.json("verify")["verified"] == 3
    assert "refused" in dekctl("rebind", "--old-key", "no_such_column").expect(6).stderr


# -- a name for one table alone --------------------------------------------------------------------


def test_a_second_table_under_the_same_context_name_is_refused(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=2)
    dekctl.json("migrate")
    make_app(sqlite_database, rows=2, name="other_files")
    said = dekctl("migrate").expect(3).stderr
    assert "belongs to the table encrypted_files" in said
    assert 'context_name = "app.other_files"' in said
    # Nor may a table that has a name of its own take another one's.
    set_table(dekctl, name='"other_files"', context_name='"others"')
    dekctl.json("migrate")
    set_table(dekctl, name='"other_files"')
    assert 'context_name = "others"' in dekctl("verify").expect(3).stderr


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_another_schema_with_the_same_context_name_is_noticed(
    kind: str, request: pytest.FixtureRequest, dekctl: Dekctl, make_app: Any
) -> None:
    name = {"postgresql": "postgres_database", "mariadb": "mariadb_database"}[kind]
    database: AppDatabase = request.getfixturevalue(name)
    make_app(database, rows=2)
    dekctl.json("migrate")
    database.sql("CREATE SCHEMA tenant_two")
    try:
        database.sql("CREATE TABLE tenant_two.encrypted_files AS SELECT * FROM encrypted_files")
        for column in ("wrapped_key", "wrapped_key_version", "kek_id"):
            database.sql(f"ALTER TABLE tenant_two.encrypted_files DROP COLUMN {column}")
        database.sql("ALTER TABLE tenant_two.encrypted_files ADD PRIMARY KEY (id)")
        set_table(dekctl, name='"tenant_two.encrypted_files"')
        for command in (["doctor"], ["schema", "expand"], ["migrate"]):
            result = dekctl(*command).expect(3)
            said = result.stdout + result.stderr
            assert "is used in the schema" in said
            assert "context_name = " in said
        set_table(
            dekctl, name='"tenant_two.encrypted_files"', context_name='"tenant_two.encrypted_files"'
        )
        assert dekctl.json("migrate")["changed"] == 2
        dekctl("doctor").expect(0)
    finally:
        database.sql("DROP SCHEMA tenant_two" + (" CASCADE" if kind == "postgresql" else ""))


def test_a_context_name_that_was_left_to_its_default_is_named(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=2)
    for command in (["doctor"], ["schema", "expand"], ["migrate"]):
        result = dekctl(*command).expect(0)
        said = result.stdout + result.stderr
        assert "context_name is not set" in said
        assert 'context_name = "app.encrypted_files"' in said
    set_table(dekctl, context_name='"encrypted_files"')
    for command in (["doctor"], ["schema", "expand"], ["migrate"]):
        result = dekctl(*command).expect(0)
        assert "context_name is not set" not in result.stdout + result.stderr


def test_within_kms_no_plaintext_key_leaves_it(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, generations: Generations
) -> None:
    app = make_app(sqlite_database, rows=6, env=generations.env)
    dekctl.json("migrate")
    dekctl.json("scrub", "--yes")
    sqlite_database.sql("UPDATE encrypted_files SET id = id + 1000 WHERE id > 4")
    for number in (5, 6):
        app.deks[(number + 1000,)] = app.deks.pop((number,))
    done = dekctl.json("rebind", "--old-key", "CASE WHEN id > 1000 THEN id - 1000 ELSE id END")
    assert (done["changed"], done["kms_calls"], done["quarantined"]) == (2, {"ReEncrypt": 6}, 0)
    calls = [c for c in generations.standin.journal() if c["api"] == "ReEncrypt"]
    moved = {(c["context"]["dekctl:pk"], c["destination_context"]["dekctl:pk"]) for c in calls[-6:]}
    assert {("5", "1005"), ("6", "1006"), ("1", "1")} <= moved
    assert dekctl.json("verify")["verified"] == 6
    app.assert_files_open(provider(generations))
