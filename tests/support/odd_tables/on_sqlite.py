"""Odd tables on SQLite."""

from __future__ import annotations

from support.odd_tables.odd import SQLITE, Odd

ODD = {
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
    "foreign key to the key on SQLite": Odd(
        "sqlite",
        (
            SQLITE.format(", UNIQUE (encryption_key)"),
            "CREATE TABLE uses (dek BLOB REFERENCES encrypted_files (encryption_key))",
        ),
        "the foreign key number 0 of uses refers to encryption_key",
        expand=3,
    ),
    "generated column on SQLite": Odd(
        "sqlite",
        (
            "CREATE TABLE encrypted_files (id INTEGER PRIMARY KEY, encryption_key BLOB, "
            "print TEXT AS (hex(encryption_key)))",
        ),
        "the generated column print uses encryption_key",
    ),
    "generated column that is never NULL on SQLite": Odd(
        "sqlite",
        (SQLITE.format(", print BLOB NOT NULL GENERATED ALWAYS AS (encryption_key)"),),
        "the generated column print, which is NOT NULL, does not let encryption_key",
        expand=3,
    ),
}
