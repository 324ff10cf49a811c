"""A table whose primary key has any type."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from support.app import AppDatabase
from support.cli import Dekctl

DEK = bytes(range(32))

_KINDS = {
    "sqlite": ("BLOB", "BLOB"),
    "postgresql": ("BYTEA", "BYTEA"),
    "mariadb": ("VARBINARY(32)", "VARBINARY(6144)"),
}


def columns(database: AppDatabase, *, nullable: bool = False) -> str:
    """The definitions of all columns but the primary key's, as ``schema expand`` leaves them."""
    plaintext, wrapped = _KINDS[database.kind]
    return (
        f"encryption_key {plaintext}{'' if nullable else ' NOT NULL'}, wrapped_key {wrapped}, "
        "wrapped_key_version VARCHAR(10), kek_id VARCHAR(255)"
    )


def insert(database: AppDatabase, ids: Iterable[str]) -> None:
    """A row with :data:`DEK` for each of these literals of SQL."""
    for each in ids:
        literal = each.replace(":", r"\:")
        database.sql(
            f"INSERT INTO encrypted_files (id, encryption_key) VALUES ({literal}, :dek)", dek=DEK
        )


def configure(dekctl: Dekctl, database: AppDatabase, **table: Any) -> None:
    """A configuration with the local provider and these keys of ``[table]``."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in table.items()]
    dekctl.configure(
        "[table]\n" + "\n".join(lines) + f'\n[env.test]\ndatabase_url = "{database.url}"\n'
        'provider = "env"\n'
    )


def migrate_and_scrub(dekctl: Dekctl, rows: int) -> None:
    """Wrap, prove and scrub in pages of one and two rows, so that every key is compared."""
    dekctl.hidden.append(DEK)
    assert dekctl.json("migrate", "--batch-size", "1")["changed"] == rows
    shards = [dekctl.json("verify", "--shard", f"{i}/2")["verified"] for i in (1, 2)]
    assert sum(shards) == rows
    assert dekctl.json("scrub", "--yes", "--batch-size", "2")["changed"] == rows
