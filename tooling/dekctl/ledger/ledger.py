"""The run ledger: who ran what, from when to when, with which KEK, how far, and how it ended.

It is stored next to the application's table. It records runs and locks out a second run on the same
rows. It is never the truth about a row: rows carry their own state, and a ledger that is lost loses
no key. (Branch keys are stored elsewhere: :mod:`dekctl.branch_keys.table`.)

A running command renews its heartbeat. One whose heartbeat is older than the lease, or whose
process is gone from this machine, is dead: the next start marks it "abandoned".
"""

from __future__ import annotations

import getpass
import json
import os
import socket
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from dekctl.db.database import Database
from dekctl.db.shape import Shard
from dekctl.errors import DekctlError, RefusedError, UsageError
from dekctl.kms.context import key_name
from dekctl.ledger.metadata import parse_metadata
from dekctl.ledger.process import process_started, this_machine
from dekctl.ledger.quarantine import Quarantine
from dekctl.ledger.run import Run, RunState
from dekctl.ledger.tables import parse_time, tables, time_text
from dekctl.ledger.upgrade import upgrade

LEASE_SECONDS = 20.0
"""A run on another machine whose heartbeat is older is dead."""


class Ledger:
    """The ledger of one database."""

    def __init__(self, database: Database, schema: str | None, env: str) -> None:
        self.database = database
        self.env = env
        self.schema = schema
        made = tables(schema)
        self._tables, self._runs = made["tables"], made["runs"]
        self.quarantine = Quarantine(database, schema)
        self._exists = False

    def exists(self) -> bool:
        """Whether there is a ledger. The first look upgrades one that an older dekctl made.

        Raises:
            RefusedError: a newer dekctl made it, or the database role may not upgrade it.
            DatabaseError: the database refused or cannot be reached.
        """
        if not self._exists:
            self._exists = upgrade(self.database, self.schema, create=False).exists
        return self._exists

    # -- tables --------------------------------------------------------------------------------

    def table_metadata(self, table_name: str) -> dict[str, Any]:
        """What ``schema expand`` stored about a table; empty if it stored nothing.

        See :func:`dekctl.schema.actions.save_metadata` for the fields.

        Raises:
            RefusedError: what is stored is nothing that it could have stored.
        """
        with self.database.transaction() as connection:
            text = connection.execute(
                sa.select(self._tables.c.facts).where(self._tables.c.table_name == table_name)
            ).scalar_one_or_none()
        return parse_metadata(table_name, text) if text else {}

    def all_metadata(self) -> dict[str, dict[str, Any]]:
        """What was saved about every table, by context name.

        Raises:
            RefusedError: of one table it is nothing that ``schema expand`` could have stored.
        """
        with self.database.transaction() as connection:
            rows = connection.execute(sa.select(self._tables.c.table_name, self._tables.c.facts))
            return {name: parse_metadata(name, text) for name, text in rows}

    def save_metadata(self, table_name: str, metadata: Mapping[str, Any]) -> None:
        """Save what is known about a table, instead of what the ledger has."""
        text = json.dumps(metadata, sort_keys=True)
        parse_metadata(table_name, text)  # what cannot be read must not be written
        upsert = self.database.dialect.upsert(self._tables, ["facts"])
        upsert = upsert.values(table_name=table_name, facts=text)
        self.database.run(lambda c: c.execute(upsert), write=True)

    def rename(self, old: str, new: str) -> None:
        """Give a table another context name: its metadata, its runs and its quarantine."""

        def move(connection: Connection) -> None:
            # What was found under the new name before the rows were bound to it says nothing.
            found = self.quarantine.table
            connection.execute(found.delete().where(found.c.table_name == new))
            for table in (self._tables, self._runs, self.quarantine.table):
                connection.execute(
                    table.update().where(table.c.table_name == old).values(table_name=new)
                )

        self.database.run(move, write=True)

    # -- runs ----------------------------------------------------------------------------------

    def start(
        self,
        operation: str,
        table_name: str,
        *,
        shard: Shard | None,
        writes: bool,
        kek_id: str | None,
        version: str,
        takes_over: bool = False,
        result: Mapping[str, Any] | None = None,
    ) -> Run:
        """Record a new run, unless another one is working on the same rows.

        Args:
            operation: the command, as it is shown.
            table_name: the table's context name.
            shard: the part of the rows that it works on; None for all.
            writes: whether it changes rows; others may run beside any run.
            kek_id: the KEK that it wraps with, if known.
            version: the version of dekctl.
            takes_over: the ledger need not know the table yet; for ``schema expand``.
            result: what is known of its result before it begins.

        Raises:
            RefusedError: another run is working on the same rows.
            UsageError: the ledger does not know the table.
            ReadOnlyDatabaseError: the database is read-only; a run that writes waits first.
        """
        run = Run(str(uuid.uuid4()), operation, table_name, shard, writes)
        run.result = dict(result or {})

        def enter(connection: Connection) -> None:
            # Runs that start on this table at the same time wait for each other here.
            known = connection.execute(
                sa.select(self._tables.c.table_name)
                .where(self._tables.c.table_name == table_name)
                .with_for_update()
            ).first()
            if known is None and writes and not takes_over:
                raise UsageError(
                    f"{table_name} has dekctl's columns but is not in the ledger",
                    hint="take the table over with: dekctl schema expand",
                )
            now = self.database.now(connection)
            for other in self._running(connection, table_name):
                if other["run_id"] == run.run_id:
                    return  # an earlier attempt was committed, only the response was lost
                if is_dead(other, now):
                    self._close(connection, other["run_id"], RunState.ABANDONED, now)
                elif writes and not other["dry_run"] and not _disjoint(shard, other["shard"]):
                    raise RefusedError(
                        _still_running(other),
                        hint="wait until it ends, or split the work: --shard 1/2 and --shard 2/2",
                    )
            connection.execute(
                self._runs.insert().values(
                    run_id=run.run_id,
                    operation=operation,
                    table_name=table_name,
                    env=self.env,
                    shard=str(shard) if shard else None,
                    dry_run=not writes,
                    state=RunState.RUNNING.value,
                    who=_user(),
                    host=socket.gethostname(),
                    pid=os.getpid(),
                    process_started=f"{this_machine()}/{process_started(os.getpid()) or ''}",
                    started_at=time_text(now),
                    heartbeat_at=time_text(now),
                    kek_id=kek_id,
                    dekctl_version=version,
                    result=json.dumps(run.result) if run.result else None,
                )
            )

        self.database.run(enter, write=True, wait_for_primary=writes)
        return run

    def refuse_while_writing(self, table_name: str) -> None:
        """Refuse while a run is writing to the table.

        Raises:
            RefusedError: a run is.
        """
        with self.database.transaction() as connection:
            now = self.database.now(connection)
            for run in self._running(connection, table_name):
                if not run["dry_run"] and not is_dead(run, now):
                    raise RefusedError(_still_running(run), hint="wait until it ends, or stop it")

    def beat(self, run: Run) -> None:
        """Renew the heartbeat and record the progress.

        Raises:
            DekctlError: another process marked the run as abandoned (this one was suspended).
            DatabaseError: the database refused or cannot be reached.
        """

        result = run.progress() if run.progress is not None else run.result

        def renew(connection: Connection) -> int:
            now = self.database.now(connection)
            return connection.execute(
                self._runs.update()
                .where(
                    self._runs.c.run_id == run.run_id, self._runs.c.state == RunState.RUNNING.value
                )
                .values(
                    heartbeat_at=time_text(now),
                    position=key_name(run.position) if run.position else None,
                    result=json.dumps(result),
                )
            ).rowcount

        # One attempt: the next is due soon, and the end of a run must not wait for this one.
        with self.database.transaction(write=True) as connection:
            renewed = renew(connection)
        if renewed == 0:
            raise DekctlError(
                f"run {run.run_id} is not running any more, says the ledger: it was marked as "
                "abandoned while this process was suspended, or a fail-over lost its entry",
                hint="run the same command again; it resumes with the remaining rows",
            )

    def end(self, run: Run, state: RunState, error: str | None = None) -> None:
        """Close a run: it finished, failed, or was interrupted."""

        def close(connection: Connection) -> None:
            now = self.database.now(connection)
            known = {"kek_id": run.kek_id} if run.kek_id is not None else {}
            self._close(
                connection,
                run.run_id,
                state,
                now,
                **known,
                result=json.dumps(run.result),
                position=key_name(run.position) if run.position else None,
                error=error,
            )

        self.database.run(close, write=True)

    def _running(self, connection: Connection, table_name: str) -> list[dict[str, Any]]:
        found = connection.execute(
            sa.select(self._runs).where(
                self._runs.c.table_name == table_name, self._runs.c.state == RunState.RUNNING.value
            )
        ).mappings()
        return [dict(row) for row in found]

    def _close(
        self, connection: Connection, run_id: str, state: RunState, now: datetime, **values: Any
    ) -> None:
        connection.execute(
            self._runs.update()
            .where(self._runs.c.run_id == run_id)
            .values(state=state.value, ended_at=time_text(now), **values)
        )


def is_dead(run: Mapping[str, Any], now: datetime) -> bool:
    """Whether the process of a run that the ledger calls running is gone."""
    machine, _, started = str(run["process_started"]).rpartition("/")
    if run["host"] == socket.gethostname() and machine == this_machine():
        return process_started(run["pid"]) != started
    beat = parse_time(run["heartbeat_at"])
    # Nobody who lives writes a time of tomorrow, by this very clock, or none.
    return beat is None or abs((now - beat).total_seconds()) > LEASE_SECONDS


def _still_running(run: Mapping[str, Any]) -> str:
    return (
        f"{run['operation']} of {run['who']}@{run['host']} (process {run['pid']}, run "
        f"{run['run_id']}) has been running on {run['table_name']} since {run['started_at']} UTC"
    )


def _disjoint(mine: Shard | None, other: str | None) -> bool:
    if mine is None or not other:
        return False
    index, _, count = other.partition("/")
    return count == str(mine.count) and index.isdecimal() and int(index) != mine.index


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
