"""What doctor, dry runs and expand say about odd tables; docs/odd-tables.md is written here."""

from __future__ import annotations

import pytest

from dekctl.schema.inspection import FINDINGS
from support.app import AppDatabase
from support.cli import Dekctl
from support.odd_tables import ODD
from support.odd_tables.odd import MARIADB
from support.pages import assert_part, told


@pytest.mark.parametrize("name", ODD)
def test_doctor_a_dry_run_and_expand_say_what_is_odd(
    request: pytest.FixtureRequest, dekctl: Dekctl, name: str
) -> None:
    odd = ODD[name]
    fixture = "postgres_database" if odd.kind == "postgresql" else f"{odd.kind}_database"
    database: AppDatabase = request.getfixturevalue(fixture)
    with database.engine.begin() as connection:
        for statement in odd.made_by:
            connection.exec_driver_sql(statement)
    dekctl.configure(f'[env.test]\ndatabase_url = "{database.url}"\nprovider = "env"\n')
    try:
        lines = told(dekctl("doctor").stdout)
        [line] = [line for line in lines if odd.said in line and "  table encrypted_files" in line]
        assert line.startswith(f"{odd.word}  table encrypted_files: ")
        others = [other for other in lines if other != line and odd.said not in other]
        known = (
            *("a column of keys", "versioning", "the generated column", "would drop both"),
            *("the trigger pt_osc_app_upd", "its generated columns", "is published by"),
        )
        assert all(any(text in other for text in known) for other in others)
        if odd.named:
            made = "\n".join(f"{statement};" for statement in odd.made_by)
            assert_part("odd-tables.md", name, f"```sql\n{made}\n```\n\n```text\n{line}\n```")
        for command in (("wrap", "--dry-run"), ("schema", "expand")):
            said = dekctl(*command).expect(odd.expand).stderr
            assert odd.said in said, command
    finally:
        if name == "subscription":
            database.sql("ALTER SUBSCRIPTION from_shop SET (slot_name = NONE)")
            database.sql("DROP SUBSCRIPTION from_shop")


def test_the_page_lists_every_finding() -> None:
    steps = ("doctor", "dry run", "expand", "contract")
    lines = ["| finding | why it matters | refused by |", "|---|---|---|"]
    for finding in FINDINGS:
        refused = ", ".join(step for step in steps if step in finding.refuses) or "nothing"
        lines.append(f"| {finding.name} | {finding.reason} | {refused} |")
    assert_part("odd-tables.md", "findings", "\n".join(lines))


@pytest.mark.parametrize(
    "name",
    ["view", "view of a partition", "generated column", "column list of a publication",
     "function", "policy",
     "view on MariaDB", "generated column on MariaDB", "trigger on MariaDB", "view on SQLite",
     "generated column on SQLite"],
)  # fmt: skip
def test_contract_names_what_is_in_the_way_and_passes_once_it_is_gone(
    request: pytest.FixtureRequest, dekctl: Dekctl, name: str
) -> None:
    odd = ODD[name]
    fixture = "postgres_database" if odd.kind == "postgresql" else f"{odd.kind}_database"
    database: AppDatabase = request.getfixturevalue(fixture)
    for statement in odd.made_by:
        database.sql(statement)
    database.sql("INSERT INTO encrypted_files (id, encryption_key) VALUES (1, :dek)", dek=bytes(32))
    dekctl.configure(f'[env.test]\ndatabase_url = "{database.url}"\nprovider = "env"\n')
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    refused = dekctl("schema", "contract", "--yes").expect(3).stderr
    assert odd.said in refused
    database.sql(refused.rpartition("or: ")[2].strip())
    dekctl("schema", "contract", "--yes").expect(0)


STORIES = {
    "domain over bytea": (
        "postgresql",
        "raw",
        (
            "CREATE DOMAIN dek AS BYTEA CHECK (octet_length(VALUE) = 32)",
            "CREATE TABLE encrypted_files (id INT PRIMARY KEY, encryption_key dek NOT NULL)",
            "INSERT INTO encrypted_files VALUES (1, sha256('1')), (2, sha256('2'))",
        ),
    ),
    "domain with a default": (
        "postgresql",
        "raw",
        (
            "CREATE DOMAIN dek AS BYTEA DEFAULT 'none'",
            "CREATE TABLE encrypted_files (id INT PRIMARY KEY, encryption_key dek)",
            "INSERT INTO encrypted_files VALUES (1, sha256('1')), (2, sha256('2'))",
        ),
    ),
    "domain of a domain over text": (
        "postgresql",
        "hex",
        (
            "CREATE DOMAIN hex AS TEXT CHECK (VALUE ~ '^[0-9a-f]+$')",
            "CREATE DOMAIN hexdek AS hex CHECK (length(VALUE) = 64)",
            "CREATE TABLE encrypted_files (id INT PRIMARY KEY, encryption_key hexdek NOT NULL)",
            "INSERT INTO encrypted_files SELECT i, encode(sha256(i::text::bytea), 'hex') "
            "FROM generate_series(1, 3) AS i",
        ),
    ),
    "CHECK on base64": (
        "mariadb",
        "base64",
        (
            "CREATE TABLE encrypted_files (id INT PRIMARY KEY, encryption_key CHAR(44) "
            "CHECK (encryption_key REGEXP '^[A-Za-z0-9+/]{43}=$'))",
            "INSERT INTO encrypted_files SELECT seq, to_base64(unhex(sha2(seq, 256))) "
            "FROM seq_1_to_20",
        ),
    ),
    "CHECK on upper hex in bytes": (
        "mariadb",
        "hex-upper",
        (
            "CREATE TABLE encrypted_files (id INT PRIMARY KEY, encryption_key VARBINARY(64) "
            "CHECK (encryption_key REGEXP '^[0-9A-F]{64}$'))",
            "INSERT INTO encrypted_files SELECT seq, upper(sha2(seq, 256)) FROM seq_1_to_20",
        ),
    ),
    "unlogged table whose padded key the server computes": (
        "postgresql",
        "raw",
        (
            "CREATE UNLOGGED TABLE encrypted_files (number INT, id CHAR(8) GENERATED ALWAYS AS "
            "(number::text) STORED PRIMARY KEY, encryption_key BYTEA NOT NULL)",
            "INSERT INTO encrypted_files (number, encryption_key) "
            "SELECT i, sha256(i::text::bytea) FROM generate_series(1, 3) AS i",
            "CREATE SCHEMA repack",
            "CREATE FUNCTION repack.repack_trigger() RETURNS trigger LANGUAGE plpgsql "
            "AS 'BEGIN RETURN NEW; END'",
            "CREATE TRIGGER repack_trigger AFTER UPDATE ON encrypted_files FOR EACH ROW EXECUTE "
            "FUNCTION repack.repack_trigger()",
        ),
    ),
    "compressed pages, and a key that two cases and a blank leave equal": (
        "mariadb",
        "raw",
        (
            "CREATE TABLE encrypted_files (id VARCHAR(20) COLLATE utf8mb4_general_ci PRIMARY KEY, "
            "seed INT INVISIBLE DEFAULT 3, encryption_key VARBINARY(64) NOT NULL) "
            "PAGE_COMPRESSED=1",
            "INSERT INTO encrypted_files (id, encryption_key) VALUES ('Ab ', unhex(sha2(1, 256))), "
            "('aC', unhex(sha2(2, 256))), ('b ', unhex(sha2(3, 256)))",
        ),
    ),
    "STRICT table WITHOUT ROWID": (
        "sqlite",
        "raw",
        (
            "CREATE TABLE encrypted_files (id INTEGER PRIMARY KEY, encryption_key BLOB NOT NULL) "
            "STRICT, WITHOUT ROWID",
            "INSERT INTO encrypted_files VALUES (1, randomblob(32)), (-2, randomblob(32))",
        ),
    ),
    "row with room for a BLOB only": (
        "mariadb",
        "raw",
        (
            MARIADB.format(", a VARCHAR(8000), b VARCHAR(7000)"),
            "INSERT INTO encrypted_files (id, encryption_key) SELECT seq, unhex(sha2(seq, 256)) "
            "FROM seq_1_to_5",
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STORIES)
def test_the_whole_way_there_and_back(
    request: pytest.FixtureRequest, dekctl: Dekctl, name: str
) -> None:
    kind, encoding, made_by = STORIES[name]
    fixture = "postgres_database" if kind == "postgresql" else f"{kind}_database"
    database: AppDatabase = request.getfixturevalue(fixture)
    with database.engine.begin() as connection:
        for statement in made_by:
            connection.exec_driver_sql(statement)
    keys = "SELECT id, encryption_key FROM encrypted_files ORDER BY id"
    before = database.sql(keys)
    dekctl.configure(
        f'[table]\nplaintext_encoding = "{encoding}"\n'
        f'[env.test]\ndatabase_url = "{database.url}"\nprovider = "env"\n'
    )
    assert "FAIL" not in dekctl("doctor").expect(0).stdout
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    dekctl("schema", "contract", "--yes").expect(0)
    assert "FAIL" not in dekctl("doctor").expect(0).stdout
    dekctl("rollback", "--yes").expect(0)
    assert database.sql(keys) == before
