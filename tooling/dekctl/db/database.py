"""The application's database: short transactions, retried where that helps."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import PurePath
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from dekctl.backoff import backoff
from dekctl.config.model import shown_url
from dekctl.db.dialect import NOT_UTF8_HINT, Dialect
from dekctl.errors import DatabaseError, RowRefusedError

Result = TypeVar("Result")

RETRY_SECONDS = 120.0
"""How long a transaction is retried after deadlocks, lock time-outs, restarts or a fail-over."""
FIRST_CONTACT_SECONDS = 5.0
"""The same for a server that has not answered this process yet: likely a wrong address."""
READ_ONLY_SECONDS = 20.0
"""The same for one that has been read-only since this process began: likely a replica."""
FIRST_WAIT_SECONDS = 0.05
LONGEST_WAIT_SECONDS = 5.0

_DEFINES = re.compile(r"\s*(?:CREATE|ALTER|DROP|RENAME|LOCK|SET|REVOKE|BEGIN)\b", re.IGNORECASE)
"""A statement that defines something or sets up a session: no row is in it."""
_DOING = {True: " to change rows", False: " to read"}
SHOWN_CHARACTERS = 120
"""How much of such a statement an error shows."""


class Database:
    """The application's database. Use as a context manager; closes its pool at the end."""

    def __init__(
        self, engine: Engine, dialect: Dialect, give_up: threading.Event | None = None
    ) -> None:
        """Take an engine and its dialect; :func:`dekctl.db.connect.open_database` makes both."""
        self.engine = engine
        self.dialect = dialect
        self.give_up = give_up or threading.Event()
        """When set, nothing is retried: the operator wants to leave."""
        self.closed = threading.Event()
        self.has_written = False
        """Whether a transaction of this run was committed: then a read-only server is passing."""
        self._contacted = False
        self._driver_error: type[Exception] = engine.dialect.loaded_dbapi.Error

    @property
    def shown_url(self) -> str:
        """The URL without its password and its query, which may hold a password too."""
        return shown_url(self.engine.url)

    @property
    def short_name(self) -> str:
        """The database's name, or its file's, without folder and suffix; empty if it has none."""
        return PurePath(self.engine.url.database or "").stem.strip(":")

    @property
    def is_server_here(self) -> bool:
        """Whether a database server shares this machine: its address is the loopback one."""
        host = self.engine.url.host or "localhost"
        return self.dialect.is_remote and host in ("localhost", "127.0.0.1", "::1")

    def has_table(self, name: str) -> bool:
        """Whether there is a table; its schema may stand before it (``app.files``)."""
        schema, _, bare = name.rpartition(".")
        with self.transaction() as connection:
            return sa.inspect(connection).has_table(bare, schema=schema or None)

    def is_same_table(self, name: str, other: str) -> bool:
        """Whether two names mean one table: the schema may be left out where it is the default."""
        default = self.engine.dialect.default_schema_name
        one, two = (n.rpartition(".") for n in (name, other))
        return (one[0] or default, one[2]) == (two[0] or default, two[2])

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed.set()
        self.engine.dispose()

    @contextmanager
    def transaction(self, *, write: bool = False, patient: bool = False) -> Iterator[Connection]:
        """One transaction. ``patient`` lifts the statement time-out, for scans of the table.

        Raises:
            DatabaseError: the database refused or cannot be reached.
        """
        options = {"dekctl_write": write, "dekctl_patient": patient}
        try:
            with (
                self.engine.connect().execution_options(**options) as connection,
                connection.begin(),
            ):
                self._contacted = True
                yield connection
        except DBAPIError as error:
            original = error.orig if isinstance(error.orig, Exception) else error
            statement, lost = error.statement or "", error.connection_invalidated
            raise self.translate(original, lost=lost, statement=statement, write=write) from None
        except self._driver_error as error:  # from COPY and bulk writes, on the driver's cursor
            raise self.translate(error, write=write) from None
        except UnicodeDecodeError:  # psycopg's, which is no error of the DB-API
            raise DatabaseError(
                f"the database {self.shown_url} gave a text that is not UTF-8", hint=NOT_UTF8_HINT
            ) from None
        except SQLAlchemyError as error:
            raise DatabaseError(f"the database layer failed: {type(error).__name__}") from None

    def run(
        self,
        work: Callable[[Connection], Result],
        *,
        write: bool = False,
        patient: bool = False,
        wait_for_primary: bool = True,
    ) -> Result:
        """Run ``work`` in a transaction; retry it after a deadlock, lock time-out or lost server.

        ``work`` may run more than once, even after a commit whose response was lost, so it must
        have no effect outside its transaction. A read-only server is waited for too, as it may be
        the old primary after a fail-over, unless it is a file or ``wait_for_primary`` is false.

        Raises:
            ReadOnlyDatabaseError: the database is read-only, and it is not waited for.
            DatabaseError: retrying took too long, or the error is not one of these.
        """
        attempt = 0
        failed_at: float | None = None
        while True:
            try:
                with self.transaction(write=write, patient=patient) as connection:
                    result = work(connection)
                self.has_written = self.has_written or write
                return result
            except TransientDatabaseError as error:
                read_only = isinstance(error, ReadOnlyDatabaseError)
                if read_only:
                    if not (wait_for_primary and self.dialect.is_remote):
                        raise  # a file has no other primary
                    self.engine.dispose()  # its name may lead to the new primary by now
                now = time.monotonic()
                failed_at = now if failed_at is None else failed_at
                patience = RETRY_SECONDS if self._contacted else FIRST_CONTACT_SECONDS
                if read_only and not self.has_written:
                    patience = READ_ONLY_SECONDS
                if now - failed_at >= patience or self.give_up.is_set():
                    kind = DeniedDatabaseError if read_only else DatabaseError
                    raise kind(
                        f"{error.message} ({attempt + 1} attempts, {now - failed_at:.0f} seconds)",
                        hint=error.hint,
                    ) from None
            self.give_up.wait(backoff(attempt, FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS))
            attempt += 1

    def translate(
        self, error: Exception, *, lost: bool = False, statement: str = "", write: bool = False
    ) -> DatabaseError:
        """Turn a driver's error into one for the user, without any value from a row.

        ``statement`` is what the server refused, where that is known; ``write`` says that it was in
        a transaction that writes.
        """
        defines = _DEFINES.match(statement)
        text = self.dialect.describe_ddl(error) if defines else self.dialect.describe(error)
        where = self.shown_url
        if self.dialect.is_read_only(error):
            return ReadOnlyDatabaseError(
                f"the database {where} is read-only: {text}",
                hint=self.dialect.advice(error)
                or "name the primary in database_url; after a fail-over, run the same command "
                "again: finished batches are kept",
            )
        if lost or self.dialect.is_transient(error):
            return TransientDatabaseError(
                f"the database {where} is busy or went away: {text}",
                hint="run the same command again once it is available; finished batches are kept",
            )
        hint = "check it with: dekctl doctor"
        if defines:
            text = f"{text}; the statement was: {shortened(statement)}"
            hint = "mend what the server names, then run the same command again"
        if self.dialect.is_denied(error):
            hint = "grant the role of database_url that right, or name a role that has it there"
        if self.dialect.is_timeout(error):
            hint = "use a smaller --batch-size, or raise statement_timeout_seconds in [env]"
        hint = self.dialect.advice(error) or hint
        doing = _DOING[write] if self._contacted and not defines else ""
        refused = f"the database {where} refused{doing}: {text}"
        if self.dialect.is_about_rows(error):
            return RowRefusedError(refused, hint=hint, reason=text)
        kind = DeniedDatabaseError if self.dialect.is_denied(error) else DatabaseError
        return kind(refused, hint=hint)

    def now(self, connection: Connection) -> datetime:
        """The current time by the database's clock, in UTC, without zone."""
        value = connection.execute(sa.text(f"SELECT {self.dialect.clock}")).scalar_one()
        return datetime.fromisoformat(value) if isinstance(value, str) else value


def shortened(statement: str) -> str:
    """The beginning of a statement, in one line."""
    line = " ".join(statement.split())
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[: SHOWN_CHARACTERS - 1]}…"


class DeniedDatabaseError(DatabaseError):
    """The database role may not do this."""


class TransientDatabaseError(DatabaseError):
    """The same transaction may succeed when it is retried."""


class ReadOnlyDatabaseError(TransientDatabaseError, DeniedDatabaseError):
    """The server takes no writes: a replica, or the old primary in the seconds of a fail-over."""
