"""What a session on MariaDB or MySQL is given, and the options of a URL that leads there."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

OWN_WRITE = "@dekctl_own_write"
"""The user variable by which the row trigger knows dekctl's own sessions."""
SQL_MODE = "STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
"""Strict: a value that does not fit is an error, never cut silently. No ANSI_QUOTES, ORACLE or
NO_BACKSLASH_ESCAPES, which change what a statement means; no NO_ZERO_DATE, with which an old table
could not be altered."""
_SESSION = ", ".join(
    (
        f"sql_mode = '{SQL_MODE}'",
        "time_zone = '+00:00'",
        "sql_safe_updates = 0",
        f"sql_select_limit = {2**64 - 1}",  # none
        "sql_big_selects = 1",
        "sql_auto_is_null = 0",  # else "id IS NULL" finds the last row inserted
        "sql_quote_show_create = 1",
        "completion_type = 0",
        "default_storage_engine = InnoDB",
    )
)
"""What dekctl's statements rely on, whatever the server's defaults are."""

_OTHER_DRIVERS = frozenset(
    {"async_fallback", "echo", "loop", "maxsize", "minsize", "pool_recycle", "use_pure"}
)
"""Options of aiomysql, asyncmy and others that only tune them."""


def begin_session(cursor: Any, lock_timeout: int) -> None:
    """Give a new session its settings; the lock time-out is in seconds."""
    cursor.execute(
        f"SET SESSION {_SESSION}, "
        f"innodb_lock_wait_timeout = {lock_timeout}, lock_wait_timeout = {lock_timeout}"
    )
    cursor.execute(f"SET SESSION TRANSACTION ISOLATION LEVEL {_isolation(cursor)}")


def own_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """See :meth:`dekctl.db.dialect.Dialect.own_options`."""
    return {name: value for name, value in options.items() if name not in _OTHER_DRIVERS}


def unknown_option(arguments: Mapping[str, Any]) -> str | None:
    """See :meth:`dekctl.db.dialect.Dialect.unknown_option`."""
    import pymysql  # noqa: PLC0415 - optional; here it is installed

    known = inspect.signature(pymysql.connections.Connection.__init__).parameters
    return next((name for name in arguments if name not in known), None)


def _isolation(cursor: Any) -> str:
    """The isolation level that a server allows, least locking first."""
    cursor.execute("SHOW VARIABLES WHERE variable_name IN ('log_bin', 'binlog_format')")
    found = {str(name): str(value) for name, value in cursor.fetchall()}
    if found.get("log_bin") == "ON" and found.get("binlog_format") == "STATEMENT":
        return "REPEATABLE READ"  # error 1665 otherwise
    # A gap lock would hold up the application's inserts; every write checks its row anyway.
    return "READ COMMITTED"
