"""DDL on MariaDB and MySQL beside an application that is at work.

DDL that waits for a table stands in a queue, and every later statement stands behind it. So does
the UPDATE of a transaction that the DDL itself waits for, because it has read from the table: a
deadlock, and the server always ends the application's transaction. So DDL never waits here; it is
tried again until the table is free for a moment.
"""

from __future__ import annotations

import random
import re
import time
from typing import Any

from sqlalchemy import Engine, event

from dekctl.errors import DatabaseError

FREE_TABLE_SECONDS = 60.0
"""How long a statement is tried."""
LONGEST_PAUSE_SECONDS = 0.002
REBUILD_SECONDS = 1.0
"""A statement that was refused after so long had copied the table: the next try may wait."""

_DDL = re.compile(r"\s*(?:ALTER TABLE|CREATE TRIGGER|DROP TRIGGER|LOCK TABLES)\b")
_LOCK_TIMEOUT = 1205


def keep_ddl_out_of_queues(engine: Engine, lock_timeout: int) -> None:
    """Have DDL tried again instead of waiting for a table.

    MySQL takes no lock time-out under a second, so there it waits for that long at a time.

    Args:
        engine: the engine whose DDL is meant.
        lock_timeout: how long other statements wait for a table, in seconds.
    """

    @event.listens_for(engine, "do_execute")
    def _execute(cursor: Any, statement: str, parameters: Any, _context: object) -> bool:
        if not _DDL.match(statement):
            return False
        try:
            _try_until_free(cursor, statement, parameters, lock_timeout)
        finally:
            if cursor.connection.open:
                cursor.execute(f"SET SESSION lock_wait_timeout = {lock_timeout}")
        return True


def _try_until_free(cursor: Any, statement: str, parameters: Any, lock_timeout: int) -> None:
    """Execute DDL in the first moment in which the table is free.

    Raises:
        DatabaseError: there was none.
    """
    cursor.execute("SET SESSION lock_wait_timeout = 0")
    give_up = time.monotonic() + FREE_TABLE_SECONDS
    while True:
        began = time.monotonic()
        try:
            cursor.execute(statement, parameters)
        except Exception as error:
            now = time.monotonic()
            if not error.args or error.args[0] != _LOCK_TIMEOUT:
                raise
            if now >= give_up:
                raise DatabaseError(
                    f"for {FREE_TABLE_SECONDS:g} seconds the table was never without an open "
                    "transaction, and waiting in line would make transactions of the application "
                    "fail",
                    hint="run the same command at a quieter time; what is open now: SELECT * FROM "
                    "information_schema.innodb_trx ORDER BY trx_started",
                ) from None
            if now - began >= REBUILD_SECONDS:
                cursor.execute(f"SET SESSION lock_wait_timeout = {lock_timeout}")
        else:
            return
        time.sleep(random.uniform(0.0, LONGEST_PAUSE_SECONDS))  # noqa: S311 - no secret
