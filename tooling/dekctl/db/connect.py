"""From a URL to a :class:`Database`: the one table of the databases that dekctl knows."""

from __future__ import annotations

import threading

import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.exc import NoSuchModuleError

from dekctl.config import EnvConfig
from dekctl.db.database import Database
from dekctl.db.dialect import Dialect, Timeouts
from dekctl.db.dialects.mysql import MySQL
from dekctl.db.dialects.postgresql import PostgreSQL
from dekctl.db.dialects.sqlite import SQLite
from dekctl.db.sever import sever_on_give_up
from dekctl.errors import UsageError

DIALECTS: dict[str, type[Dialect]] = {
    "postgresql": PostgreSQL,
    "mysql": MySQL,
    "mariadb": MySQL,
    "sqlite": SQLite,
}
"""By the name that a URL begins with. Schema steps find theirs by :attr:`Dialect.name`."""


def database_of(env: EnvConfig, give_up: threading.Event | None = None) -> Database:
    """The database of an environment; see :func:`open_database`."""
    timeouts = Timeouts(env.lock_timeout_seconds, env.statement_timeout_seconds)
    return open_database(env.url(), timeouts, give_up)


def open_database(url: URL, timeouts: Timeouts, give_up: threading.Event | None = None) -> Database:
    """Prepare connections to a database; none is opened yet.

    Once ``give_up`` is set, nothing is retried, and connections are closed within seconds.

    Raises:
        UsageError: dekctl does not know the database, or its driver is not installed.
    """
    name = url.get_backend_name()
    known = DIALECTS.get(name)
    if known is None:
        *most, last = (f"{k}+{d.driver}://" if d.driver else f"{k}://" for k, d in DIALECTS.items())
        raise UsageError(
            f"dekctl does not know the database {name!r}",
            hint=f"use a URL that begins with {', '.join(most)} or {last}",
        )
    url = url.set(drivername=f"{name}+{known.driver}" if known.driver else name)
    dialect = known(timeouts)
    url = url.set(query=dialect.own_options(url.query))
    try:
        engine = sa.create_engine(
            url, hide_parameters=True, pool_pre_ping=True, **dialect.engine_options()
        )
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise UsageError(
            f"the driver for {url.drivername} is not installed ({error})",
            hint=f"install it: pip install 'dekctl[{known.extra}]'"
            if known.extra
            else f"use a URL that begins with {name}://",
        ) from None
    _, arguments = engine.dialect.create_connect_args(url) if dialect.is_remote else ((), {})
    unknown = dialect.unknown_option(arguments)
    if unknown is not None:
        raise UsageError(
            f"the driver {url.drivername} does not know the option {unknown!r} of database_url",
            hint=f"remove {unknown} from database_url, or use the driver's own name for it",
        )
    dialect.prepare(engine)
    database = Database(engine, dialect, give_up)
    if dialect.is_remote:
        sever_on_give_up(engine, dialect.socket_of, database.give_up, database.closed)
    return database
