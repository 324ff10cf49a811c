"""What doctor, dry runs and expand say about odd tables; docs/odd-tables.md is written here."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from dekctl.schema.inspection import FINDINGS
from support.app import AppDatabase
from support.cli import Dekctl
from support.pages import assert_part, told

PG = "CREATE TABLE encrypted_files (id INT PRIMARY KEY, encryption_key BYTEA NOT NULL{})"
MARIADB = (
    "CREATE TABLE encrypted_files (id INT PRIMARY KEY, encryption_key VARBINARY(64) NOT NULL{})"
)
SQLITE = "CREATE TABLE encrypted_files (id INTEGER PRIMARY KEY, encryption_key BLOB NOT NULL{})"


@dataclass(frozen=True)
class Odd:
    """A table: its database, what makes it, what doctor must say, the exit code of expand."""

    kind: str
    made_by: tuple[str, ...]
    said: str
    expand: int = 0
    named: bool = True

    @property
    def word(self) -> str:
        """warn or FAIL, as doctor must begin the line."""
        return "FAIL" if self.expand else "warn"


ODD = {
    "view": Odd(
        "postgresql",
        (
            PG.format(""),
            "CREATE VIEW key_prints AS SELECT sha256(encryption_key) FROM encrypted_files",
        ),
        "the view key_prints uses encryption_key",
    ),
    "generated column": Odd(
        "postgresql",
        (PG.format(", print BYTEA GENERATED ALWAYS AS (sha256(encryption_key)) STORED"),),
        "the generated column print uses encryption_key",
    ),
    "column list of a publication": Odd(
        "postgresql",
        (
            PG.format(""),
            "CREATE PUBLICATION to_search FOR TABLE encrypted_files (id, encryption_key)",
        ),
        "the publication to_search uses encryption_key",
    ),
    "function": Odd(
        "postgresql",
        (
            PG.format(""),
            "CREATE FUNCTION key_reader() RETURNS SETOF bytea LANGUAGE sql "
            "BEGIN ATOMIC SELECT encryption_key FROM encrypted_files; END",
        ),
        "the function public.key_reader() uses encryption_key",
    ),
    "policy": Odd(
        "postgresql",
        (
            PG.format(""),
            "CREATE POLICY keyed ON encrypted_files USING (encryption_key IS NOT NULL)",
        ),
        "the policy keyed",
    ),
    "index": Odd(
        "postgresql",
        (PG.format(""), "CREATE INDEX by_key ON encrypted_files (encryption_key)"),
        "the index by_key",
    ),
    "publication": Odd(
        "postgresql",
        (PG.format(""), "CREATE PUBLICATION to_warehouse FOR TABLE encrypted_files"),
        "is published by to_warehouse",
    ),
    "publication of all tables": Odd(
        "postgresql",
        (PG.format(""), "CREATE PUBLICATION of_all FOR ALL TABLES"),
        "is published by of_all",
    ),
    "subscription": Odd(
        "postgresql",
        (
            PG.format(""),
            "CREATE SUBSCRIPTION from_shop CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p "
            "WITH (connect = false)",
            "INSERT INTO pg_subscription_rel SELECT oid, 'encrypted_files'::regclass, 'r', NULL "
            "FROM pg_subscription WHERE subname = 'from_shop'",
        ),
        "is filled by the subscription",
        named=False,
    ),
    "wrapped key that is never NULL": Odd(
        "postgresql",
        (PG.format(", wrapped_key BYTEA NOT NULL DEFAULT ''"),),
        "wrapped_key already exists and is NOT NULL",
        expand=3,
    ),
    "wrapped key with a default": Odd(
        "postgresql",
        (PG.format(", wrapped_key BYTEA DEFAULT ''"),),
        "wrapped_key already exists and has a default",
        expand=3,
    ),
    "wrapped key of another type": Odd(
        "postgresql",
        (PG.format(", wrapped_key VARCHAR(64)"),),
        "wrapped_key already exists and cannot hold a wrapped key",
        expand=3,
    ),
    "KEK that is too short": Odd(
        "postgresql",
        (PG.format(", kek_id VARCHAR(36)"),),
        "kek_id already exists and cannot hold 100 characters",
        expand=3,
    ),
    "unique KEK": Odd(
        "postgresql",
        (PG.format(", kek_id VARCHAR(255) UNIQUE"),),
        "allows each kek_id once",
        expand=3,
    ),
    "CHECK that forbids NULL": Odd(
        "postgresql",
        (PG.format(", CONSTRAINT has_key CHECK (encryption_key IS NOT NULL)"),),
        "the CHECK has_key does not let encryption_key",
        expand=3,
    ),
    "domain that forbids NULL": Odd(
        "postgresql",
        (
            "CREATE DOMAIN dek AS BYTEA NOT NULL",
            "CREATE TABLE encrypted_files (id INT PRIMARY KEY, encryption_key dek)",
        ),
        "the domain dek does not let encryption_key",
        expand=3,
    ),
    "number as a key": Odd(
        "postgresql",
        ("CREATE TABLE encrypted_files (id INT PRIMARY KEY, encryption_key BIGINT NOT NULL)",),
        "is neither text nor binary",
        expand=3,
    ),
    "view on MariaDB": Odd(
        "mariadb",
        (
            MARIADB.format(""),
            "CREATE VIEW key_prints AS SELECT sha1(f.encryption_key) FROM encrypted_files AS f",
        ),
        "the view key_prints uses encryption_key",
    ),
    "generated column on MariaDB": Odd(
        "mariadb",
        (MARIADB.format(", print VARCHAR(40) AS (sha1(encryption_key))"),),
        "the generated column print uses encryption_key",
    ),
    "trigger on MariaDB": Odd(
        "mariadb",
        (
            MARIADB.format(""),
            "CREATE TABLE old_keys (dek BLOB)",
            "CREATE TRIGGER keep_old BEFORE DELETE ON encrypted_files FOR EACH ROW "
            "INSERT INTO old_keys VALUES (OLD.encryption_key)",
        ),
        "the trigger keep_old uses encryption_key",
    ),
    "procedure on MariaDB": Odd(
        "mariadb",
        (
            MARIADB.format(""),
            "CREATE PROCEDURE show_keys() SELECT encryption_key FROM encrypted_files",
        ),
        "the procedure show_keys uses encryption_key",
    ),
    "wrapped key that is never NULL on MariaDB": Odd(
        "mariadb",
        (MARIADB.format(", wrapped_key VARBINARY(6144) NOT NULL DEFAULT ''"),),
        "wrapped_key already exists and is NOT NULL",
        expand=3,
    ),
    "CHECK that forbids NULL on MariaDB": Odd(
        "mariadb",
        (MARIADB.format(", CONSTRAINT has_key CHECK (encryption_key IS NOT NULL)"),),
        "the CHECK has_key does not let encryption_key",
        expand=3,
    ),
    "no room in the row": Odd(
        "mariadb",
        (MARIADB.format(", a VARCHAR(16000) CHARACTER SET utf8mb4, b VARBINARY(800)"),),
        "has no room for dekctl's columns: the maximum row size",
        expand=3,
    ),
    "generated key": Odd(
        "postgresql",
        (
            "CREATE TABLE encrypted_files (id INT PRIMARY KEY, seed BYTEA, "
            "encryption_key BYTEA GENERATED ALWAYS AS (sha256(seed)) STORED)",
        ),
        "encrypted_files.encryption_key is a generated column",
        expand=3,
    ),
    "generated key on MariaDB": Odd(
        "mariadb",
        (
            "CREATE TABLE encrypted_files (id INT PRIMARY KEY, seed VARBINARY(32), "
            "encryption_key VARBINARY(64) AS (unhex(sha2(seed, 256))) PERSISTENT)",
        ),
        "encrypted_files.encryption_key is a generated column",
        expand=3,
    ),
    "partition": Odd(
        "postgresql",
        (
            "CREATE TABLE files (id INT PRIMARY KEY, encryption_key BYTEA) PARTITION BY RANGE (id)",
            "CREATE TABLE encrypted_files PARTITION OF files DEFAULT",
        ),
        "encrypted_files is a partition of files",
        expand=3,
    ),
    "number that is not exact": Odd(
        "postgresql",
        ("CREATE TABLE encrypted_files (id REAL PRIMARY KEY, encryption_key BYTEA NOT NULL)",),
        "is REAL(), which is not exact",
        expand=2,
    ),
    "network as the primary key": Odd(
        "postgresql",
        ("CREATE TABLE encrypted_files (id CIDR PRIMARY KEY, encryption_key BYTEA NOT NULL)",),
        "is CIDR(), which has several texts",
        expand=2,
    ),
    "array as the primary key": Odd(
        "postgresql",
        ("CREATE TABLE encrypted_files (id INT[] PRIMARY KEY, encryption_key BYTEA NOT NULL)",),
        "which has several texts",
        expand=2,
    ),
    "time that no program can read": Odd(
        "postgresql",
        (
            "CREATE TABLE encrypted_files (id TIMESTAMP PRIMARY KEY, encryption_key BYTEA)",
            "INSERT INTO encrypted_files (id) VALUES ('2026-01-01'), ('infinity')",
        ),
        "encrypted_files.id has values that no program can read",
    ),
    "NaN": Odd(
        "postgresql",
        (
            "CREATE TABLE encrypted_files (id NUMERIC PRIMARY KEY, encryption_key BYTEA)",
            "INSERT INTO encrypted_files (id) VALUES (1), ('NaN')",
        ),
        "encrypted_files.id has values that no program can read",
    ),
    "bits as the primary key on MariaDB": Odd(
        "mariadb",
        ("CREATE TABLE encrypted_files (id BIT(8) PRIMARY KEY, encryption_key VARBINARY(64))",),
        "which is read as bytes and compared as a number",
        expand=2,
    ),
    "key on the beginning of a text on MariaDB": Odd(
        "mariadb",
        (
            "CREATE TABLE encrypted_files (id TEXT, encryption_key VARBINARY(64), "
            "PRIMARY KEY (id(8)))",
        ),
        "the key PRIMARY of encrypted_files covers only the first 8 characters of id",
        expand=3,
    ),
    "table without transactions on MariaDB": Odd(
        "mariadb",
        (MARIADB.format("") + " ENGINE=MyISAM",),
        "the storage engine has no transactions",
        expand=3,
    ),
    "system-versioned table on MariaDB": Odd(
        "mariadb",
        (MARIADB.format("") + " WITH SYSTEM VERSIONING",),
        "is system-versioned, and MariaDB refuses to alter it",
        expand=3,
    ),
    "row format on MariaDB": Odd(
        "mariadb",
        (MARIADB.format("") + " ROW_FORMAT=COMPACT",),
        "has ROW_FORMAT=COMPACT",
    ),
    "zero date on MariaDB": Odd(
        "mariadb",
        (
            "SET sql_mode = ''",
            MARIADB.format(", created DATETIME NOT NULL DEFAULT '0000-00-00 00:00:00'"),
        ),
        "encrypted_files.created has a default with a zero date",
    ),
    "dekctl's own table in latin1 on MariaDB": Odd(
        "mariadb",
        (
            MARIADB.format(""),
            "CREATE TABLE dekctl_quarantine (table_name VARCHAR(255), pk_hash VARCHAR(64), "
            "pk TEXT NOT NULL, operation VARCHAR(32) NOT NULL, reason TEXT NOT NULL, "
            "run_id VARCHAR(36) NOT NULL, since VARCHAR(32) NOT NULL, "
            "PRIMARY KEY (table_name, pk_hash)) CHARACTER SET latin1",
        ),
        "dekctl_quarantine, of dekctl's own tables, is in latin1",
    ),
    "view on SQLite": Odd(
        "sqlite",
        (
            SQLITE.format(""),
            "CREATE VIEW key_prints AS SELECT hex(encryption_key) FROM encrypted_files",
        ),
        "the view key_prints uses encryption_key",
    ),
    "wrapped key that is never NULL on SQLite": Odd(
        "sqlite",
        (SQLITE.format(", wrapped_key BLOB NOT NULL DEFAULT x''"),),
        "wrapped_key already exists and is NOT NULL",
        expand=3,
    ),
    "CHECK that forbids NULL on SQLite": Odd(
        "sqlite",
        (SQLITE.format(", CONSTRAINT has_key CHECK (encryption_key IS NOT NULL)"),),
        "the CHECK has_key does not let encryption_key",
        expand=3,
    ),
}


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
        known = ("a column of keys", "versioning", "the generated column encryption_key")
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
    ["view", "generated column", "column list of a publication", "function", "policy",
     "view on MariaDB", "generated column on MariaDB", "trigger on MariaDB", "view on SQLite"],
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
