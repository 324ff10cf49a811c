"""MariaDB and MySQL: what their errors mean, told without any value from a row."""

from __future__ import annotations

import re

from dekctl.db.dialect import CONNECTIONS, Dialect

_TRANSIENT_CODES = frozenset(
    {
        1020,  # record has changed since last read (MariaDB, innodb_snapshot_isolation)
        1040,  # too many connections
        1053,  # server shutdown in progress
        1205,  # lock wait timeout
        1213,  # deadlock
        1077,  # normal shutdown
        1079,  # shutdown complete
        1152,  # aborted connection
        1158,  # error reading from the network
        1159,  # time-out reading from the network
        1160,  # error writing to the network
        1161,  # time-out writing to the network
        1317,  # query interrupted (KILL QUERY, shutdown)
        1927,  # connection was killed
        2002,  # cannot connect through the socket
        2003,  # cannot connect to the server
        2006,  # server has gone away
        2013,  # lost connection during query
        4031,  # disconnected by the server because of inactivity
    }
)
_DENIED_CODES = frozenset(
    {
        1044,  # access denied to the database
        1142,  # command denied on the table
        1143,  # command denied on the column
        1227,  # a privilege of the server is needed
        1290,  # an option of the server forbids the statement
    }
)
_READ_ONLY_CODES = frozenset({1792, 1836})
"""Read-only transaction, read-only mode; beside them 1290 with the option --read-only."""
_PACKET_CODES = frozenset({1153, 1301, 2020})
"""More than max_allowed_packet."""
_LIMIT_CODES = frozenset({1203, 1226})
"""More than the account's max_user_connections or another limit of it."""
_SAYS_NO_VALUE = (
    {1045, 1049, 1146, 1969, 2002, 2003, 3024, 3159}
    | _DENIED_CODES
    | _READ_ONLY_CODES
    | _PACKET_CODES
    | _LIMIT_CODES
)
"""Codes whose message names accounts, hosts, tables and limits, never a value from a row."""


_EVERYBODYS = frozenset(
    {
        1021,  # disk full
        1037,  # out of memory
        1038,  # out of sort memory
        1041,  # out of resources
        1054,  # unknown column
        1064,  # syntax error
        1114,  # the table is full
    }
)
"""Codes that every row would meet, beside those of denial and of a lost server."""
_NAMED = re.compile(
    r"CONSTRAINT `(\w+)` (?:failed|FOREIGN KEY)|for key '([\w.]+)'$|[Cc]olumn '(\w+)'"
    r"|[Cc]heck constraint '(\w+)'"
)
"""What the server's messages about values name: a constraint, key or column."""
_NAMING_CODES = frozenset(
    {1048, 1062, 1216, 1217, 1264, 1265, 1292, 1364, 1366, 1406, 1451, 1452, 3819, 4025}
)
_SIGNALLED = 1644
"""A trigger's SIGNAL, unless it sets a code of its own."""


_QUOTES_A_VALUE = frozenset(
    {
        1062,  # duplicate entry
        1105,  # unknown: any text
        1292,  # truncated incorrect value
        1366,  # incorrect value for a column
        1367,  # illegal value found
        1411,  # incorrect value for a function
        1525,  # incorrect value
        1526,  # no partition for a value
        1586,  # duplicate entry for a key's name
        1644,  # SIGNAL
        1690,  # value out of range
        1761,  # a foreign key's duplicate entry
        1762,
        3140,  # invalid JSON text
        4038,  # the same, MariaDB
    }
)
"""Codes whose message may quote a value even where DDL is refused, as it may read the rows."""


class MySQLErrors(Dialect):
    """The part of the dialect that reads the server's errors."""

    def is_transient(self, error: Exception) -> bool:
        return _code(error) in _TRANSIENT_CODES

    def is_denied(self, error: Exception) -> bool:
        return _code(error) in _DENIED_CODES

    def is_read_only(self, error: Exception) -> bool:
        code = _code(error)
        return code in _READ_ONLY_CODES or (code == 1290 and "read-only" in str(error.args[1]))

    def advice(self, error: Exception) -> str | None:
        code = _code(error)
        if code in _PACKET_CODES:
            return "raise max_allowed_packet on the server"
        if code in _LIMIT_CODES:
            return (
                f"{CONNECTIONS}; raise the account's limit (ALTER USER … WITH "
                "MAX_USER_CONNECTIONS …), or use fewer --workers"
            )
        return None

    def is_about_rows(self, error: Exception) -> bool:
        code = _code(error)
        if code in _PACKET_CODES:  # batches fit into a packet, so it is one large row
            return True
        if code is None or code < 1000 or 2000 <= code < 3000:  # the driver's and client's own
            return False
        everybodys = code in _EVERYBODYS or code in _SAYS_NO_VALUE
        return not (everybodys or self.is_timeout(error) or self.is_transient(error))

    def is_timeout(self, error: Exception) -> bool:
        return _code(error) in (1969, 3024)  # MariaDB's and MySQL's

    def describe(self, error: Exception) -> str:
        code = _code(error)
        if code in _SAYS_NO_VALUE or code in _TRANSIENT_CODES:
            return f"{error.args[1]} (error {code})"
        if code is None:
            return type(error).__name__
        if code == _SIGNALLED:
            return f"a trigger raised an error (error {code})"
        named = _NAMED.search(str(error.args[1])) if code in _NAMING_CODES else None
        name = next(filter(None, named.groups()), None) if named else None
        return f"error {code}" + (f" on {name}" if name else "")

    def describe_ddl(self, error: Exception) -> str:
        code = _code(error)
        if code is None or code in _QUOTES_A_VALUE:
            return self.describe(error)
        return f"{error.args[1]} (error {code})"


def _code(error: Exception) -> int | None:
    return error.args[0] if error.args and isinstance(error.args[0], int) else None
