"""How often a table is read as a whole, as the database itself counts it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from support.app import AppDatabase
from support.waiting import wait_until

TABLE = "encrypted_files"


@contextmanager
def passes_over(database: AppDatabase, rows: int) -> Iterator[Callable[[], int]]:
    """Count passes over the application's table in the block, with so many rows.

    Ask after the block. What reads a few rows only, by an index or up to a limit, does not count.
    """
    if database.kind == "sqlite":
        with _sqlite_steps() as steps:
            # Each row of a pass takes several steps of SQLite's virtual machine.
            yield lambda: sum(count >= rows for count in steps)
        return
    if database.kind == "mariadb":
        database.sql("SET GLOBAL userstat = 1")
    read = {"postgresql": _read_on_postgresql, "mariadb": _read_on_mariadb}[database.kind]
    before = read(database)
    yield lambda: round((read(database) - before) / rows)


@contextmanager
def _sqlite_steps() -> Iterator[list[int]]:
    """The steps that each statement of this process takes."""
    steps = [0]

    def connected(connection: Any, _record: object) -> None:
        connection.set_progress_handler(step, 1)

    def step() -> None:
        steps[-1] += 1

    def executed(*_: object) -> None:
        steps.append(0)  # rows may be fetched until the next statement

    sa.event.listen(sa.Engine, "connect", connected)
    sa.event.listen(sa.Engine, "before_cursor_execute", executed)
    try:
        yield steps
    finally:
        sa.event.remove(sa.Engine, "connect", connected)
        sa.event.remove(sa.Engine, "before_cursor_execute", executed)


def _read_on_postgresql(database: AppDatabase) -> int:
    # A session adds up what it read when it ends, before it leaves this view.
    wait_until(
        lambda: (
            not database.sql(
                "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
        )
    )
    [(read,)] = database.sql(
        "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables "
        f"WHERE relname = '{TABLE}'"
    )
    return int(read)


def _read_on_mariadb(database: AppDatabase) -> int:
    found = database.sql(
        "SELECT rows_read FROM information_schema.table_statistics "
        f"WHERE table_schema = database() AND table_name = '{TABLE}'"
    )
    return int(found[0][0]) if found else 0
