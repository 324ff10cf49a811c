"""One connection to the application's database: short transactions, retried where it helps."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, SQLAlchemyError

from dekctl.config import EnvConfig
from dekctl.db.dialect import Backend, Timeouts
from dekctl.db.dialects.mysql import MySQLBackend
from dekctl.db.dialects.postgresql import PostgreSQLBackend
from dekctl.db.dialects.sqlite import SQLiteBackend
from dekctl.db.sever import sever_when_given_up
from dekctl.errors import DatabaseError, UsageError

Result = TypeVar("Result")

PATIENCE_SECONDS = 120.0
"""How long a transaction is tried again after deadlocks, lock time-outs, restarts, a fail-over."""
FIRST_CONTACT_SECONDS = 5.0
"""The same for a server that has not answered this process yet: likely a wrong address."""
LONGEST_WAIT_SECONDS = 5.0

_BACKENDS: dict[str, type[Backend]] = {
    "postgresql": PostgreSQLBackend,
    "mysql": MySQLBackend,
    "mariadb": MySQLBackend,
    "sqlite": SQLiteBackend,
}
_EXTRAS = {"postgresql": "postgresql", "mysql": "mysql", "mariadb": "mysql"}


class Database:
    """The application's database. Use as a context manager; closes its pool at the end."""

    def __init__(self, url: URL, timeouts: Timeouts) -> None:
        """Prepare connections; none is opened yet.

        Raises:
            UsageError: dekctl does not know the dialect, or its driver is not installed.
        """
        self.url = url
        dialect = url.get_backend_name()
        backend = _BACKENDS.get(dialect)
        if backend is None:
            raise UsageError(
                f"dekctl does not know the database {dialect!r}",
                hint="use a postgresql+psycopg://, mysql+pymysql:// or sqlite:/// URL",
            )
        if dialect == "postgresql" and url.drivername != "postgresql+psycopg":
            self.url = url = url.set(drivername="postgresql+psycopg")
        if dialect in {"mysql", "mariadb"} and url.drivername != f"{dialect}+pymysql":
            self.url = url = url.set(drivername=f"{dialect}+pymysql")
        self.backend = backend(timeouts)
        try:
            self.engine = sa.create_engine(
                url,
                hide_parameters=True,
                pool_pre_ping=True,
                **self.backend.engine_options(),
            )
        except (ModuleNotFoundError, NoSuchModuleError) as error:
            extra = _EXTRAS.get(dialect, "dev")
            raise UsageError(
                f"the driver for {url.drivername} is not installed ({error})",
                hint=f"install it: pip install 'dekctl[{extra}]'",
            ) from None
        self.give_up = threading.Event()
        """When set, nothing is tried again: the operator wants to leave."""
        self.closed = threading.Event()
        self._contacted = False
        self._driver_error: type[Exception] = self.engine.dialect.loaded_dbapi.Error
        self.backend.prepare(self.engine)
        sever_when_given_up(self)

    @classmethod
    def of(cls, env: EnvConfig) -> Database:
        """The database of an environment."""
        timeouts = Timeouts(env.lock_timeout_seconds, env.statement_timeout_seconds)
        return cls(env.url(), timeouts)

    @property
    def shown_url(self) -> str:
        """The URL for people: without its password and its query, which may hold one too."""
        return self.url.set(query={}).render_as_string(hide_password=True)

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed.set()
        self.engine.dispose()

    @contextmanager
    def transaction(self, *, write: bool = False, patient: bool = False) -> Iterator[Connection]:
        """One transaction. ``patient`` lifts the statement time-out, for counts over the table.

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
            raise self.translate(original, lost=error.connection_invalidated) from None
        except self._driver_error as error:  # from COPY and bulk writes, on the driver's cursor
            raise self.translate(error) from None
        except SQLAlchemyError as error:
            raise DatabaseError(f"the database layer failed: {type(error).__name__}") from None

    def run(
        self, work: Callable[[Connection], Result], *, write: bool = False, patient: bool = False
    ) -> Result:
        """Run ``work`` in a transaction, again after a deadlock, a lock time-out or a lost server.

        ``work`` may run more than once, so it must have no effect outside its transaction. It may
        also run again after a commit whose answer was lost.

        Raises:
            DatabaseError: the patience ran out, or the error is not of that kind.
        """
        attempt = 0
        failed_at: float | None = None
        while True:
            try:
                with self.transaction(write=write, patient=patient) as connection:
                    return work(connection)
            except TransientDatabaseError as error:
                now = time.monotonic()
                failed_at = now if failed_at is None else failed_at
                patience = PATIENCE_SECONDS if self._contacted else FIRST_CONTACT_SECONDS
                if now - failed_at >= patience or self.give_up.is_set():
                    raise DatabaseError(
                        f"{error.message}, {attempt + 1} times in {now - failed_at:.0f} seconds",
                        hint=error.hint,
                    ) from None
            longest = min(LONGEST_WAIT_SECONDS, 0.05 * 2 ** min(attempt, 10))
            self.give_up.wait(random.uniform(0, longest))  # noqa: S311 - no secret
            attempt += 1

    def translate(self, error: Exception, *, lost: bool = False) -> DatabaseError:
        """Make an error for people out of a driver's, leaving out whatever a row may hold."""
        text = self.backend.describe(error)
        where = self.shown_url
        if lost or self.backend.is_transient(error):
            return TransientDatabaseError(
                f"the database {where} is busy or went away: {text}",
                hint="run the same command again when it is back; finished batches are kept",
            )
        hint = "check it with: dekctl doctor"
        if self.backend.is_timeout(error):
            hint = "use a smaller --batch-size, or raise statement_timeout_seconds in [env]"
        hint = self.backend.advice(error) or hint
        return DatabaseError(f"the database {where} refused: {text}", hint=hint)

    def now(self, connection: Connection) -> datetime:
        """The database's own clock, UTC, without zone."""
        value = connection.execute(sa.text(f"SELECT {self.backend.clock}")).scalar_one()
        return datetime.fromisoformat(value) if isinstance(value, str) else value


class TransientDatabaseError(DatabaseError):
    """The same transaction may succeed when it is tried again."""
