"""What a session on PostgreSQL is given, and the options of a URL that leads there."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy.engine import URL

OWN_WRITE = "dekctl.own_write"
"""The setting by which the row trigger knows dekctl's own transactions."""
_ASYNCPG = {"ssl": "sslmode", "timeout": "connect_timeout"}
"""Options of asyncpg, and what psycopg calls them."""
_SSL = {"true": "require", "false": "disable"}
_TUNING = (
    "async_fallback",
    "prepared_statement_cache_size",
    "prepared_statement_name_func",
    "statement_cache_size",
)
"""Options of asyncpg that only tune it."""
_SESSION = {
    "client_encoding": "'UTF8'",
    "datestyle": "'ISO, MDY'",
    "intervalstyle": "'postgres'",
    "timezone": "'UTC'",
    "bytea_output": "'hex'",
    "extra_float_digits": "3",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    OWN_WRITE: "'on'",
    "row_security": "off",  # a policy would hide rows from guards that must see all of them
}
"""What dekctl's statements and its driver rely on, whatever server, database or role prefer."""
_SEARCH_PATH = re.compile(r"(?:-c\s*|--)search_path=((?:\\.|[^\s\\])+)")
"""A search path in a URL's ``options``, where a backslash escapes a space."""


def session_sql(lock_timeout: float, url: URL) -> str:
    """The statements with which every transaction begins; the lock time-out is in seconds.

    They are SET LOCAL: a pooler may hand us another session for each transaction, with what its
    last user has set.
    """
    settings = {
        **_SESSION,
        "lock_timeout": str(int(lock_timeout * 1000)),
        "search_path": _search_path(url),
    }
    return "; ".join(f"SET LOCAL {name} = {value}" for name, value in settings.items())


def own_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """See :meth:`dekctl.db.dialect.Dialect.own_options`."""
    own = {n: v for n, v in options.items() if n not in (*_TUNING, *_ASYNCPG)}
    for name, ours in _ASYNCPG.items():
        if name in options:
            value = str(options[name])
            own.setdefault(ours, _SSL.get(value.lower(), value))
    return own


def unknown_option(arguments: Mapping[str, Any]) -> str | None:
    """See :meth:`dekctl.db.dialect.Dialect.unknown_option`."""
    import psycopg  # noqa: PLC0415 - optional; here it is installed

    own = inspect.signature(psycopg.Connection.connect).parameters
    for name in arguments.keys() - own.keys():
        try:
            psycopg.conninfo.make_conninfo(**{name: "1"})
        except psycopg.ProgrammingError:
            return name
    return None


def _search_path(url: URL) -> str:
    """The search path that the URL gives, as SQL; else the default of the role or database."""
    options = url.query.get("options", "")
    found = _SEARCH_PATH.findall(options if isinstance(options, str) else " ".join(options))
    return re.sub(r"\\(.)", r"\1", found[-1]) if found else "DEFAULT"
