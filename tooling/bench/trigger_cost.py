"""What the row trigger costs: ``python -m bench.trigger_cost``, in microseconds per row.

Each kind of write runs in turn without and with the trigger, several times; the fastest is shown,
as a busy machine only adds. Each is one statement over all rows, so that round trips and commits
hide nothing. The backfill is dekctl's own reading and writing, without KMS.
"""

from __future__ import annotations

import contextlib
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from dekctl.config import TableConfig
from dekctl.db.connect import open_database
from dekctl.db.dialect import Timeouts
from dekctl.db.row import Change
from dekctl.db.table import DekTable
from dekctl.schema.dialects import schema_dialect
from sandbox.mariadb import MariaDBServer
from sandbox.postgres import PostgresServer

ROWS, ROUNDS = 10_000, 9
RESET = (
    "UPDATE encrypted_files SET wrapped_key = encryption_key, wrapped_key_version = 'V2', "
    "kek_id = 'arn', filename = 'f'"
)
BLOB = {"sqlite": "BLOB", "postgresql": "BYTEA", "mysql": "VARBINARY(6144)"}


@contextlib.contextmanager
def prepared(url: str) -> Iterator[tuple[sa.Engine, DekTable]]:
    """An expanded table with ROWS rows that have both keys."""
    engine = sa.create_engine(url)
    blob = BLOB[make_url(url).get_backend_name()]
    row = {"k": secrets.token_bytes(32), "w": secrets.token_bytes(184)}
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                f"CREATE TABLE encrypted_files (id INTEGER PRIMARY KEY, filename VARCHAR(100), "
                f"encryption_key {blob}, wrapped_key {blob}, wrapped_key_version VARCHAR(10), "
                "kek_id VARCHAR(255))"
            )
        )
        connection.execute(
            sa.text("INSERT INTO encrypted_files VALUES (:id, 'f', :k, :w, 'V2', 'arn')"),
            [{"id": number, **row} for number in range(ROWS)],
        )
    with open_database(make_url(url), Timeouts(10, 60)) as database:
        yield engine, DekTable(database, TableConfig())
    engine.dispose()


def writes(engine: sa.Engine, table: DekTable) -> dict[str, Callable[[], int]]:
    """Each kind of write, as a function that returns how many rows it wrote."""

    def update(values: str) -> int:
        with engine.begin() as connection:
            statement = sa.text(f"UPDATE encrypted_files SET {values}")
            keys = {"k": secrets.token_bytes(32), "w": secrets.token_bytes(184)}
            used = {name: key for name, key in keys.items() if f":{name}" in values}
            connection.execute(statement, used)
        return ROWS

    def backfill() -> int:
        rows = table.read(after=None, size=ROWS, due_sql="1 = 1")
        changes = [Change(row, (secrets.token_bytes(184), "V2", "arn")) for row in rows]
        with table.database.transaction(write=True) as connection:
            table.swap(connection, ("wrapped", "version", "kek"), changes)
        return ROWS

    return {
        "UPDATE of another column": lambda: update("filename = 'g'"),
        "UPDATE of both keys": lambda: update("encryption_key = :k, wrapped_key = :w"),
        "UPDATE of the plaintext, which empties": lambda: update("encryption_key = :k"),
        "backfill, read and written": backfill,
    }


def measure(name: str, url: str) -> None:
    """Print a line of the table for each kind of write."""
    with prepared(url) as (engine, table):
        dialect = schema_dialect(table.database)
        for kind, write in writes(engine, table).items():
            seconds: dict[bool, list[float]] = {False: [], True: []}
            for _ in range(ROUNDS):
                for trigger in (False, True):
                    made = dialect.open_trigger(table) if trigger else dialect.drop_trigger(table)
                    with table.database.transaction(write=True) as connection:
                        for statement in made:
                            connection.exec_driver_sql(statement)
                        connection.exec_driver_sql(RESET)
                    started = time.perf_counter()
                    rows = write()
                    seconds[trigger].append((time.perf_counter() - started) / rows)
            without, with_it = (min(seconds[t]) * 1e6 for t in (False, True))
            change = (with_it / without - 1) * 100
            sys.stdout.write(
                f"| {name} | {kind} | {without:.1f} | {with_it:.1f} | {change:+.0f}% |\n"
            )


def main() -> None:
    """Measure on each database that is here."""
    sys.stdout.write("| database | write | without | with | |\n|---|---|---|---|---|\n")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "app.db")
        file.touch()
        measure("SQLite", f"sqlite:///{file}")
    if PostgresServer.find()[0]:
        with PostgresServer.start() as postgres:
            measure("PostgreSQL", postgres.create_database("cost"))
    if MariaDBServer.find()[0]:
        with MariaDBServer.start() as mariadb:
            measure("MariaDB", mariadb.create_database("cost"))


if __name__ == "__main__":
    main()
