"""Odd tables on PostgreSQL."""

from __future__ import annotations

from support.odd_tables.odd import PG, Odd

ODD = {
    "view": Odd(
        "postgresql",
        (
            PG.format(""),
            "CREATE VIEW key_prints AS SELECT sha256(encryption_key) FROM encrypted_files",
        ),
        "the view key_prints uses encryption_key",
    ),
    "view of a partition": Odd(
        "postgresql",
        (
            PG.format("") + " PARTITION BY RANGE (id)",
            "CREATE TABLE later PARTITION OF encrypted_files DEFAULT PARTITION BY RANGE (id)",
            "CREATE TABLE files_0 PARTITION OF later DEFAULT",
            "CREATE VIEW key_prints AS SELECT sha256(encryption_key) FROM files_0",
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
    "generated key": Odd(
        "postgresql",
        (
            "CREATE TABLE encrypted_files (id INT PRIMARY KEY, seed BYTEA, "
            "encryption_key BYTEA GENERATED ALWAYS AS (sha256(seed)) STORED)",
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
    "view as the table": Odd(
        "postgresql",
        (
            "CREATE TABLE files (id INT PRIMARY KEY, encryption_key BYTEA NOT NULL)",
            "CREATE VIEW encrypted_files AS SELECT * FROM files",
        ),
        "encrypted_files is a view, not a table",
        expand=2,
    ),
    "materialized view as the table": Odd(
        "postgresql",
        (
            "CREATE TABLE files (id INT PRIMARY KEY, encryption_key BYTEA NOT NULL)",
            "CREATE MATERIALIZED VIEW encrypted_files AS SELECT * FROM files",
            "CREATE UNIQUE INDEX by_id ON encrypted_files (id)",
        ),
        "encrypted_files is a materialized view, not a table",
        expand=2,
    ),
    "foreign table": Odd(
        "postgresql",
        (
            "CREATE FOREIGN DATA WRAPPER elsewhere",
            "CREATE SERVER shop FOREIGN DATA WRAPPER elsewhere",
            "CREATE FOREIGN TABLE encrypted_files (id INT, encryption_key BYTEA) SERVER shop",
        ),
        "encrypted_files is a foreign table, not a table",
        expand=2,
    ),
    "inherited column": Odd(
        "postgresql",
        (
            "CREATE TABLE files (id INT, encryption_key BYTEA)",
            "CREATE TABLE encrypted_files (PRIMARY KEY (id)) INHERITS (files)",
        ),
        "encrypted_files inherits encryption_key from files",
    ),
    "rows that nobody can change": Odd(
        "postgresql",
        (
            "CREATE TABLE encrypted_files (id INT NOT NULL UNIQUE, encryption_key BYTEA NOT NULL)",
            "CREATE PUBLICATION to_warehouse FOR TABLE encrypted_files (id)",
        ),
        "the server lets nobody change rows of encrypted_files",
        expand=3,
    ),
    "partition whose rows nobody can change": Odd(
        "postgresql",
        (
            PG.format("") + " PARTITION BY RANGE (id)",
            "CREATE TABLE files_0 PARTITION OF encrypted_files DEFAULT",
            "ALTER TABLE files_0 REPLICA IDENTITY NOTHING",
            "CREATE PUBLICATION to_warehouse FOR TABLE encrypted_files",
        ),
        "the server lets nobody change rows of encrypted_files",
        expand=3,
    ),
    "generated column that is never NULL": Odd(
        "postgresql",
        (PG.format(", print BYTEA NOT NULL GENERATED ALWAYS AS (sha256(encryption_key)) STORED"),),
        "the generated column print, which is NOT NULL, does not let encryption_key",
        expand=3,
    ),
    "unique index that takes NULLs for equal": Odd(
        "postgresql",
        (
            PG.format(", tenant INT"),
            "CREATE UNIQUE INDEX once ON encrypted_files (tenant, encryption_key) "
            "NULLS NOT DISTINCT",
        ),
        "the unique index once (NULLS NOT DISTINCT) does not let encryption_key",
        expand=3,
    ),
    "foreign key to the key": Odd(
        "postgresql",
        (
            "CREATE TABLE encrypted_files (id INT PRIMARY KEY, encryption_key BYTEA UNIQUE)",
            "CREATE TABLE uses (dek BYTEA REFERENCES encrypted_files (encryption_key))",
        ),
        "the foreign key uses_dek_fkey of uses refers to encryption_key",
        expand=3,
    ),
    "key that refers to a table of keys": Odd(
        "postgresql",
        (
            "CREATE TABLE deks (dek BYTEA PRIMARY KEY)",
            PG.format(", FOREIGN KEY (encryption_key) REFERENCES deks (dek)"),
        ),
        "encryption_key of encrypted_files refers to deks.dek, where the same keys are",
    ),
    "default of the key": Odd(
        "postgresql",
        (PG.format(" DEFAULT ''"),),
        "encrypted_files.encryption_key has the default",
    ),
    "row trigger that never runs": Odd(
        "postgresql",
        (
            PG.format(""),
            "DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || "
            "' SET session_replication_role = replica'; END $$",
        ),
        "the row trigger of encrypted_files does not run",
        named=False,
    ),
}
