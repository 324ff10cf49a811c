"""Rows that get past the guard of a schema step: no key of theirs is dropped unseen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from support.app import AppDatabase
from support.cli import Dekctl

PARTITIONED = (
    "ALTER TABLE encrypted_files RENAME TO leaf",
    "CREATE TABLE encrypted_files (LIKE leaf INCLUDING ALL) PARTITION BY RANGE (id)",
    "ALTER TABLE encrypted_files ATTACH PARTITION leaf FOR VALUES FROM (0) TO (100)",
)
INSERT = (
    "INSERT INTO {} (id, filename, encryption_key, ciphertext) "
    "VALUES (77, 'late', sha256('key'), 'x')"
)
LOADED = (
    "ALTER TABLE {} DISABLE TRIGGER ALL",  # as pg_restore --disable-triggers and loaders do
    INSERT,
    "ALTER TABLE {} ENABLE TRIGGER ALL",
)
ATTACHED = (
    "CREATE TABLE late (LIKE encrypted_files INCLUDING ALL)",
    INSERT.format("late").replace("77", "177"),
    "ALTER TABLE encrypted_files ATTACH PARTITION late FOR VALUES FROM (100) TO (200)",
)


@contextmanager
def between_proof_and_drop(database: AppDatabase, statements: tuple[str, ...]) -> Iterator[None]:
    """Let another session run statements once a step has looked at the rows behind its guard."""
    left = list(statements)
    guarded = False

    def look(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal guarded
        guarded = guarded or "BEFORE INSERT OR UPDATE" in statement
        if guarded and statement.startswith("SELECT 1 FROM encrypted_files WHERE"):
            while left:
                database.sql(left.pop(0))

    sa.event.listen(sa.Engine, "after_cursor_execute", look)
    try:
        yield
    finally:
        sa.event.remove(sa.Engine, "after_cursor_execute", look)
    assert not left, "nobody looked at the rows"


@pytest.mark.parametrize(
    ("table", "statements"),
    [("encrypted_files", LOADED), ("leaf", LOADED), ("leaf", ATTACHED)],
    ids=["table", "partition", "attached"],
)
def test_a_contract_sees_a_row_that_was_loaded_without_triggers(
    postgres_database: AppDatabase,
    dekctl: Dekctl,
    make_app: Any,
    table: str,
    statements: tuple[str, ...],
) -> None:
    app = make_app(postgres_database, rows=2)
    for statement in PARTITIONED if table == "leaf" else ():
        postgres_database.sql(statement)
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    late = tuple(statement.format(table) for statement in statements)
    with between_proof_and_drop(postgres_database, late):
        refused = dekctl("schema", "contract", "--yes").expect(3).stderr
    assert "still have a plaintext" in refused
    [row] = [row for row in app.rows().values() if row["filename"] == "late"]
    assert row["encryption_key"]


def test_a_rollback_sees_a_row_that_was_changed_without_triggers(
    postgres_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(postgres_database, rows=2)
    postgres_database.sql("ALTER TABLE encrypted_files ALTER encryption_key DROP NOT NULL")
    dekctl("migrate").expect(0)
    late = (LOADED[0], "UPDATE {} SET encryption_key = NULL WHERE id = 1", LOADED[2])
    named = tuple(statement.format("encrypted_files") for statement in late)
    with between_proof_and_drop(postgres_database, named):
        refused = dekctl("schema", "rollback", "--yes").expect(3).stderr
    assert "have only a wrapped key" in refused
    assert app.rows()[(1,)]["wrapped_key"]
