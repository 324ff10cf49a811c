"""PostgreSQL: what its errors mean, told without any value from a row."""

from __future__ import annotations

import re
from typing import Any

from dekctl.db.dialect import CONNECTIONS, NOT_UTF8_HINT, Dialect

_TRANSIENT_STATES = frozenset(
    {
        "40001",  # serialization_failure
        "40P01",  # deadlock_detected
        "55P03",  # lock_not_available (lock_timeout)
        "57P01",  # admin_shutdown
        "57P02",  # crash_shutdown
        "57P03",  # cannot_connect_now
        "53300",  # too_many_connections
        "25P03",  # idle_in_transaction_session_timeout
        "57P05",  # idle_session_timeout
    }
)
_SAYS_NO_VALUE = ("08", "25", "28", "3D", "3F", "40", "42", "53", "55", "57", "58")
"""SQLSTATE classes whose messages name objects, states and limits: connections, transactions,
authorization, missing databases and schemas, statements, resources, operators, system errors."""
_NOT_UTF8 = ("22021", "22P05")
"""character_not_in_repertoire, untranslatable_character: the messages quote the bytes."""


_ABOUT_ROWS = ("09", "21", "22", "23", "27", "2F", "38", "39", "44", "P0")
"""SQLSTATE classes of values, constraints, CHECK OPTION and routines, such as a trigger's."""


_LIMITED = "too many connections for "
"""A limit of the role or database. Of a refused connection the driver gives the text alone."""


_FUNCTION = re.compile(r"^PL/\w+ function (\S+?)(?:\(.*?\))? line ", re.MULTILINE)
"""The name in an error's context; its arguments, if any, are types."""


class PostgreSQLErrors(Dialect):
    """The part of the dialect that reads the server's errors."""

    def is_transient(self, error: Exception) -> bool:
        state = getattr(error, "sqlstate", None)
        if state is None:  # no answer at all: the connection broke, or none could be made
            return type(error).__name__ == "OperationalError" and _LIMITED not in str(error)
        return state in _TRANSIENT_STATES or state.startswith("08")  # connection exceptions

    def is_denied(self, error: Exception) -> bool:
        return getattr(error, "sqlstate", None) == "42501"  # insufficient_privilege

    def is_read_only(self, error: Exception) -> bool:
        return getattr(error, "sqlstate", None) == "25006"  # read_only_sql_transaction

    def is_about_rows(self, error: Exception) -> bool:
        state, diagnosis = getattr(error, "sqlstate", None), getattr(error, "diag", None)
        if state is None or diagnosis is None:
            return False
        # A trigger may raise any SQLSTATE.
        return state.startswith(_ABOUT_ROWS) or _is_trigger_s(diagnosis)

    def is_timeout(self, error: Exception) -> bool:
        return getattr(error, "sqlstate", None) == "57014"  # query_canceled

    def advice(self, error: Exception) -> str | None:
        if _LIMITED in str(error):
            return (
                f"{CONNECTIONS}; raise the limit (ALTER ROLE … CONNECTION LIMIT, or ALTER DATABASE "
                "…), or use fewer --workers"
            )
        diagnosis = getattr(error, "diag", None)
        # Its message is translated, the name of the function that raised it is not.
        if getattr(diagnosis, "source_function", None) == "check_enable_rls":
            return (
                "dekctl must see every row: run it as a role with BYPASSRLS "
                "(ALTER ROLE … BYPASSRLS), or as the owner of a table without FORCE ROW LEVEL "
                "SECURITY"
            )
        if getattr(error, "sqlstate", None) in _NOT_UTF8:
            return NOT_UTF8_HINT
        return None

    def describe(self, error: Exception) -> str:
        state = getattr(error, "sqlstate", None)
        diagnosis = getattr(error, "diag", None)
        if state is None or diagnosis is None:
            # The driver's own error, of a connection or (DataError) of a value that it cannot read.
            text = "" if type(error).__name__ == "DataError" else str(error).strip()
            return text.splitlines()[0] if text else type(error).__name__
        if state in _NOT_UTF8:
            return f"a text is not UTF-8 (SQLSTATE {state})"
        if _is_servers_own(state, diagnosis):
            return f"{diagnosis.message_primary} (SQLSTATE {state})"
        named = diagnosis.constraint_name or diagnosis.column_name
        place = f" on {named}" if named else ""
        return f"SQLSTATE {state}{place}" + (
            f" of {table}" if (table := diagnosis.table_name) else ""
        )

    def describe_ddl(self, error: Exception) -> str:
        state = getattr(error, "sqlstate", None)
        diagnosis = getattr(error, "diag", None)
        if state is None or diagnosis is None:
            return self.describe(error)
        if _is_trigger_s(diagnosis):
            # A CHECK, an index or an event trigger calls it, maybe with a row.
            raised_by = _FUNCTION.search(diagnosis.context or "")
            name = f"the function {raised_by[1]}" if raised_by else "a function"
            return f"{name} raised an error, which the server's log shows (SQLSTATE {state})"
        # A value that it could not convert; 22023 is about settings.
        if state.startswith("22") and state != "22023":
            return self.describe(error)
        return f"{diagnosis.message_primary} (SQLSTATE {state})"


def _is_servers_own(state: str, diagnosis: Any) -> bool:
    """Whether a message is the server's own and contains no value from a row.

    An application's trigger may raise any text with any SQLSTATE, even with a key in it, or run a
    dynamic statement, which an error of class 42 quotes.
    """
    if not state.startswith(_SAYS_NO_VALUE):
        return False
    if state.startswith("42"):
        return diagnosis.context is None
    return not _is_trigger_s(diagnosis)


def _is_trigger_s(diagnosis: Any) -> bool:
    """Whether a trigger raised it, from its language's file: pl_exec.c, plpy_elog.c, plperl.c, …"""
    return (diagnosis.source_file or "").startswith("pl")
