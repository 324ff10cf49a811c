"""Odd tables on MariaDB."""

from __future__ import annotations

from support.odd_tables.odd import MARIADB, Odd

ODD = {
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
    "generated key on MariaDB": Odd(
        "mariadb",
        (
            "CREATE TABLE encrypted_files (id INT PRIMARY KEY, seed VARBINARY(32), "
            "encryption_key VARBINARY(64) AS (unhex(sha2(seed, 256))) PERSISTENT)",
        ),
        "encrypted_files.encryption_key is a generated column",
        expand=3,
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
    "triggers of pt-online-schema-change": Odd(
        "mariadb",
        (
            MARIADB.format(""),
            "CREATE TRIGGER pt_osc_app_upd AFTER UPDATE ON encrypted_files FOR EACH ROW "
            "REPLACE INTO _encrypted_files_new (id) VALUES (NEW.id)",
        ),
        "pt-online-schema-change changes encrypted_files, or left its triggers",
        expand=3,
    ),
    "tables of gh-ost": Odd(
        "mariadb",
        (MARIADB.format(""), "CREATE TABLE _encrypted_files_ghc (id BIGINT PRIMARY KEY)"),
        "gh-ost changes encrypted_files, or left the tables",
        expand=3,
    ),
    "table that a schema change has left": Odd(
        "mariadb",
        (
            MARIADB.format(""),
            "CREATE TABLE _encrypted_files_20261127101112_del LIKE encrypted_files",
        ),
        "_encrypted_files_20261127101112_del, which an online schema change may have left",
    ),
    "foreign key to the key on MariaDB": Odd(
        "mariadb",
        (
            MARIADB.format(", UNIQUE (encryption_key)"),
            "CREATE TABLE uses (dek VARBINARY(64), CONSTRAINT used FOREIGN KEY (dek) "
            "REFERENCES encrypted_files (encryption_key) ON UPDATE CASCADE)",
        ),
        "the foreign key used of uses refers to encryption_key",
        expand=3,
    ),
    "default of the key on MariaDB": Odd(
        "mariadb",
        (MARIADB.format(" DEFAULT ''"),),
        "encrypted_files.encryption_key has the default ''",
    ),
}
