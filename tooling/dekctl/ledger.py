"""The run ledger: who ran what, from when to when, with which KEK, how far, and how it ended.

It lives beside the application's table. It is a record and a lock against double work, never the
truth about a row: rows carry their own state, and the ledger could be emptied without losing a key.

A running command renews its heartbeat. One whose heartbeat is older than the lease, or whose
process is gone from this machine, is dead: the next start marks it "abandoned".
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import socket
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import mysql, postgresql, sqlite

from dekctl.db.database import Database
from dekctl.db.rows import PrimaryKey
from dekctl.db.table import Shard
from dekctl.errors import DatabaseError, DekctlError, RefusedError, UsageError
from dekctl.kms.context import primary_key_text

HEARTBEAT_SECONDS = 3.0
LEASE_SECONDS = 20.0


def tables(schema: str | None) -> dict[str, sa.Table]:
    """The ledger's tables, as migration 0001 makes them."""
    metadata = sa.MetaData(schema=schema)
    return {
        "tables": sa.Table(
            "dekctl_tables",
            metadata,
            sa.Column("table_name", sa.String(255), primary_key=True),
            sa.Column("facts", sa.Text, nullable=False),
        ),
        "runs": sa.Table(
            "dekctl_runs",
            metadata,
            sa.Column("run_id", sa.String(36), primary_key=True),
            sa.Column("operation", sa.String(32), nullable=False),
            sa.Column("table_name", sa.String(255), nullable=False),
            sa.Column("env", sa.String(64), nullable=False),
            sa.Column("shard", sa.String(32)),
            sa.Column("dry_run", sa.Boolean, nullable=False),
            sa.Column("state", sa.String(16), nullable=False),
            sa.Column("who", sa.String(255), nullable=False),
            sa.Column("host", sa.String(255), nullable=False),
            sa.Column("pid", sa.Integer, nullable=False),
            sa.Column("process_started", sa.String(64), nullable=False),
            sa.Column("started_at", sa.String(32), nullable=False),
            sa.Column("heartbeat_at", sa.String(32), nullable=False),
            sa.Column("ended_at", sa.String(32)),
            sa.Column("kek_id", sa.String(2048)),
            sa.Column("dekctl_version", sa.String(32), nullable=False),
            sa.Column("position", sa.Text),
            sa.Column("result", sa.Text),
            sa.Column("error", sa.Text),
        ),
        "quarantine": sa.Table(
            "dekctl_quarantine",
            metadata,
            sa.Column("table_name", sa.String(255), primary_key=True),
            sa.Column("pk_hash", sa.String(64), primary_key=True),
            sa.Column("pk", sa.Text, nullable=False),
            sa.Column("operation", sa.String(32), nullable=False),
            sa.Column("reason", sa.Text, nullable=False),
            sa.Column("run_id", sa.String(36), nullable=False),
            sa.Column("since", sa.String(32), nullable=False),
        ),
    }


@dataclass(slots=True)
class Run:
    """One command's entry in the ledger."""

    run_id: str
    operation: str
    table_name: str
    shard: Shard | None
    writes: bool
    position: PrimaryKey | None = None
    result: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A row set aside: which, by what, why, and since when (UTC)."""

    pk: str
    operation: str
    reason: str
    since: str


class Ledger:
    """The ledger of one database."""

    def __init__(self, database: Database, schema: str | None, env: str) -> None:
        self.database = database
        self.env = env
        self.schema = schema
        made = tables(schema)
        self._tables, self._runs, self._quarantine = (
            made["tables"],
            made["runs"],
            made["quarantine"],
        )

    def exists(self) -> bool:
        """Whether the schema step that makes the ledger has run."""
        with self.database.transaction() as connection:
            return sa.inspect(connection).has_table(self._runs.name, schema=self.schema)

    # -- facts about a table -------------------------------------------------------------------

    def facts(self, table_name: str) -> dict[str, Any]:
        """What was noted about a table when it was expanded; empty where nothing was."""
        with self.database.transaction() as connection:
            text = connection.execute(
                sa.select(self._tables.c.facts).where(self._tables.c.table_name == table_name)
            ).scalar_one_or_none()
        return json.loads(text) if text else {}

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
    ) -> Run:
        """Enter a run, unless another one is at work on the same rows.

        Raises:
            RefusedError: another run is at work.
        """
        run = Run(str(uuid.uuid4()), operation, table_name, shard, writes)

        def enter(connection: Connection) -> None:
            # Everyone who starts on this table waits here for one another.
            known = connection.execute(
                sa.select(self._tables.c.table_name)
                .where(self._tables.c.table_name == table_name)
                .with_for_update()
            ).first()
            if known is None and writes:
                raise UsageError(
                    f"{table_name} has dekctl's columns but is not in the ledger",
                    hint="take the table over with: dekctl schema expand",
                )
            now = self.database.now(connection)
            for other in self._running(connection, table_name):
                if other["run_id"] == run.run_id:
                    return  # an earlier try was committed, only its answer was lost
                if self._is_dead(other, now):
                    self._close(connection, other["run_id"], "abandoned", now)
                elif writes and not other["dry_run"] and not _disjoint(shard, other["shard"]):
                    raise RefusedError(
                        _at_work(other),
                        hint="wait until it ends, or share the work: --shard 1/2 and --shard 2/2",
                    )
            connection.execute(
                self._runs.insert().values(
                    run_id=run.run_id,
                    operation=operation,
                    table_name=table_name,
                    env=self.env,
                    shard=str(shard) if shard else None,
                    dry_run=not writes,
                    state="running",
                    who=_user(),
                    host=socket.gethostname(),
                    pid=os.getpid(),
                    process_started=f"{_machine()}/{process_started(os.getpid()) or ''}",
                    started_at=_stamp(now),
                    heartbeat_at=_stamp(now),
                    kek_id=kek_id,
                    dekctl_version=version,
                )
            )

        self.database.run(enter, write=True)
        return run

    def refuse_while_writing(self, table_name: str) -> None:
        """Refuse while a run that writes to the table is at work.

        Raises:
            RefusedError: one is.
        """
        with self.database.transaction() as connection:
            now = self.database.now(connection)
            for run in self._running(connection, table_name):
                if not run["dry_run"] and not self._is_dead(run, now):
                    raise RefusedError(_at_work(run), hint="wait until it ends, or stop it")

    def beat(self, run: Run) -> None:
        """Renew the heartbeat and note how far the run is.

        Raises:
            DekctlError: the run was declared dead meanwhile (this process was stopped for long).
        """

        def renew(connection: Connection) -> int:
            now = self.database.now(connection)
            return connection.execute(
                self._runs.update()
                .where(self._runs.c.run_id == run.run_id, self._runs.c.state == "running")
                .values(
                    heartbeat_at=_stamp(now),
                    position=primary_key_text(run.position) if run.position else None,
                    result=json.dumps(run.result),
                )
            ).rowcount

        # One try: the next beat is near, and nobody should wait for this one at the end of a run.
        with self.database.transaction(write=True) as connection:
            renewed = renew(connection)
        if renewed == 0:
            raise DekctlError(
                f"run {run.run_id} was declared abandoned while this process stood still",
                hint="run the same command again; finished batches are kept",
            )

    def end(self, run: Run, state: str, error: str | None = None) -> None:
        """Close a run as ``finished``, ``interrupted`` or ``failed``."""

        def close(connection: Connection) -> None:
            now = self.database.now(connection)
            self._close(
                connection,
                run.run_id,
                state,
                now,
                result=json.dumps(run.result),
                position=primary_key_text(run.position) if run.position else None,
                error=error,
            )

        self.database.run(close, write=True)

    def history(self, limit: int = 20) -> list[dict[str, Any]]:
        """The newest runs, newest first, as plain values."""
        with self.database.transaction() as connection:
            found = connection.execute(
                sa.select(self._runs).order_by(self._runs.c.started_at.desc()).limit(limit)
            ).mappings()
            return [
                {**row, "result": json.loads(row["result"]) if row["result"] else None}
                for row in found
            ]

    def _running(self, connection: Connection, table_name: str) -> list[dict[str, Any]]:
        found = connection.execute(
            sa.select(self._runs).where(
                self._runs.c.table_name == table_name, self._runs.c.state == "running"
            )
        ).mappings()
        return [dict(row) for row in found]

    def _is_dead(self, run: Mapping[str, Any], now: datetime) -> bool:
        machine, _, started = str(run["process_started"]).rpartition("/")
        if run["host"] == socket.gethostname() and machine == _machine():
            return process_started(run["pid"]) != started
        silent = now - datetime.fromisoformat(run["heartbeat_at"])
        return silent.total_seconds() > LEASE_SECONDS

    def _close(
        self, connection: Connection, run_id: str, state: str, now: datetime, **values: Any
    ) -> None:
        connection.execute(
            self._runs.update()
            .where(self._runs.c.run_id == run_id)
            .values(state=state, ended_at=_stamp(now), **values)
        )

    # -- quarantine ----------------------------------------------------------------------------

    def quarantine(
        self, connection: Connection, run: Run, faults: Sequence[tuple[PrimaryKey, str]]
    ) -> None:
        """Set rows aside with a reason that never shows a key. Again replaces the reason."""
        if not faults:
            return
        now = _stamp(self.database.now(connection))
        connection.execute(
            self._upsert(),
            [
                {
                    "table_name": run.table_name,
                    "pk_hash": _hash(pk),
                    "pk": primary_key_text(pk),
                    "operation": run.operation,
                    "reason": reason,
                    "run_id": run.run_id,
                    "since": now,
                }
                for pk, reason in faults
            ],
        )

    def _upsert(self) -> Any:
        """Another process may set the same row aside at the same moment: the later one counts."""
        replaced = ("operation", "reason", "run_id", "since")
        name = self.database.backend.name
        if name == "mysql":
            insert = mysql.insert(self._quarantine)
            return insert.on_duplicate_key_update({c: insert.inserted[c] for c in replaced})
        insert_or = (sqlite if name == "sqlite" else postgresql).insert(self._quarantine)
        return insert_or.on_conflict_do_update(
            index_elements=["table_name", "pk_hash"],
            set_={c: insert_or.excluded[c] for c in replaced},
        )

    def release(self, connection: Connection, table_name: str, keys: Sequence[PrimaryKey]) -> None:
        """Take rows out of quarantine."""
        for start in range(0, len(keys), 500):
            hashes = [_hash(pk) for pk in keys[start : start + 500]]
            connection.execute(
                self._quarantine.delete().where(
                    self._quarantine.c.table_name == table_name,
                    self._quarantine.c.pk_hash.in_(hashes),
                )
            )

    def quarantined_among(
        self, connection: Connection, table_name: str, keys: Sequence[PrimaryKey]
    ) -> set[PrimaryKey]:
        """Which of these rows are in quarantine."""
        by_hash = {_hash(pk): pk for pk in keys}
        hashes = list(by_hash)
        found: set[PrimaryKey] = set()
        for start in range(0, len(hashes), 500):
            rows = connection.execute(
                sa.select(self._quarantine.c.pk_hash).where(
                    self._quarantine.c.table_name == table_name,
                    self._quarantine.c.pk_hash.in_(hashes[start : start + 500]),
                )
            )
            found |= {by_hash[row.pk_hash] for row in rows}
        return found

    def count_quarantined(self, connection: Connection, table_name: str) -> int:
        """How many rows are in quarantine."""
        return connection.execute(
            sa.select(sa.func.count()).where(self._quarantine.c.table_name == table_name)
        ).scalar_one()

    def quarantine_list(self, table_name: str, limit: int = 20) -> list[Quarantined]:
        """The rows in quarantine, oldest first."""
        q = self._quarantine.c
        with self.database.transaction() as connection:
            rows = connection.execute(
                sa.select(q.pk, q.operation, q.reason, q.since)
                .where(q.table_name == table_name)
                .order_by(q.since, q.pk_hash)
                .limit(limit)
            )
            return [Quarantined(*row) for row in rows]


class Heartbeat:
    """Renews a run's heartbeat from a thread of its own while the ``with`` block lasts.

    ``lost`` is set to the error when the ledger says that the run is dead or cannot be reached;
    the engine looks at it between pages.
    """

    def __init__(self, ledger: Ledger, run: Run) -> None:
        self.lost: DekctlError | None = None
        self._ledger = ledger
        self._run = run
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="dekctl-heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            try:
                self._ledger.beat(self._run)
            except DatabaseError:
                continue  # the engine meets the same database and says so better
            except DekctlError as error:
                self.lost = error
                return


def _machine() -> str:
    """What tells this machine's process numbers from others': its boot, and its PID namespace.

    Containers may share a host's name, and even a number, without seeing each other's processes.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = Path("/proc/self/ns/pid").readlink().name
    except OSError:
        return ""
    return f"{boot[:18]}/{namespace.removeprefix('pid:').strip('[]')}"


def process_started(pid: int) -> str | None:
    """When a process of this host started, in the host's own units; None where it is gone.

    Linux tells in ``/proc/PID/stat``, field 22 (proc(5)). Elsewhere only being alive is known.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "alive"


def _at_work(run: Mapping[str, Any]) -> str:
    return (
        f"{run['operation']} of {run['who']}@{run['host']} (process {run['pid']}, run "
        f"{run['run_id']}) is at work on {run['table_name']} since {run['started_at']} UTC"
    )


def _disjoint(mine: Shard | None, other: str | None) -> bool:
    if mine is None or not other:
        return False
    index, count = map(int, other.split("/"))
    return count == mine.count and index != mine.index


def _stamp(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(sep=" ", timespec="milliseconds")


def _hash(pk: PrimaryKey) -> str:
    return hashlib.sha256(primary_key_text(pk).encode()).hexdigest()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
