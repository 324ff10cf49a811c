"""SQLite: one writer at a time, so updates row by row in one transaction are fastest."""

from __future__ import annotations

import re
import sqlite3
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from operator import attrgetter
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.types import TypeEngine

from dekctl.db.dialect import Dialect, ResiduePlace
from dekctl.db.groups import GroupCount, count_sampled
from dekctl.db.row import KEY_COLUMNS, Change
from dekctl.db.shape import TableShape
from dekctl.kms.context import NoText

_HASH = "dekctl_hash"
READ_SECONDS = 30.0
"""How long a transaction that only reads may wait until it can begin."""


def bare_words(sql: str) -> list[str]:
    """The bare words of a definition, in capitals: no strings, quoted names or comments."""
    quoted = r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/"
    return re.findall(r"[\w$]+", re.sub(quoted, " ", sql.upper(), flags=re.DOTALL))


def _hash(*key: object) -> int:
    return zlib.crc32(repr(key).encode())


def _text(stored: bytes) -> str | NoText:
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return NoText(stored)


def _is_rowid(connection: Connection, table: TableShape) -> bool:
    """Whether the primary key is the rowid, which is always a number.

    It is for ``INTEGER PRIMARY KEY`` alone: not for INT, BIGINT, DESC, UNIQUE or WITHOUT ROWID, all
    of which have an index of their own.
    """
    if not table.key_is_integer:
        return False
    found = connection.exec_driver_sql(
        "SELECT count(*) FROM pragma_table_info(?) AS c WHERE c.name = ? COLLATE NOCASE "
        "AND c.pk = 1 AND upper(c.type) = 'INTEGER' "
        "AND NOT EXISTS (SELECT 1 FROM pragma_index_list(?) AS i WHERE i.origin = 'pk')",
        (table.config.bare_name, table.config.primary_key[0], table.config.bare_name),
    )
    return bool(found.scalar_one())


def _wait_to_read(connection: Connection) -> None:
    """Take the read lock now, which no later statement of the transaction has to wait for.

    Writers that follow each other closely keep a reader out for longer than any of them holds the
    lock, so ``lock_timeout_seconds`` alone would end a command although nothing is stuck.
    """
    give_up = time.monotonic() + READ_SECONDS
    while True:
        try:
            connection.exec_driver_sql("SELECT 1 FROM sqlite_master LIMIT 1")
        except sa.exc.OperationalError as error:
            if not _is_busy(error.orig) or time.monotonic() > give_up:
                raise
        else:
            return


def _is_busy(error: BaseException | None) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


@contextmanager
def _without_trigger(connection: Connection, table: TableShape) -> Iterator[None]:
    """Take the row trigger away for dekctl's own writes of plaintexts, within the transaction.

    SQLite has no setting that a trigger could read; no other connection sees the table without it.
    """
    quote = connection.dialect.identifier_preparer.quote
    found = connection.exec_driver_sql(
        "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND name = ?",
        (table.config.trigger,),
    ).all()
    for name, _ in found:
        connection.exec_driver_sql(f"DROP TRIGGER {quote(name)}")
    yield
    for _, sql in found:
        connection.exec_driver_sql(sql)


class SQLite(Dialect):
    """SQLite through the standard library's driver."""

    name = "sqlite"
    is_remote = False
    has_schemas = False
    clock = "strftime('%Y-%m-%d %H:%M:%f', 'now')"

    def engine_options(self) -> dict[str, Any]:
        return {"connect_args": {"timeout": self.timeouts.lock}}

    def prepare(self, engine: Engine) -> None:
        @event.listens_for(engine, "do_connect")
        def _refuse_to_create(_dialect: object, _record: object, args: Any, _options: Any) -> None:
            # SQLite would create an empty database for a mistyped path.
            file = args[0]
            if file != ":memory:" and not file.startswith("file:") and not Path(file).exists():
                raise sqlite3.OperationalError("the file does not exist")

        @event.listens_for(engine, "connect")
        def _connect(connection: sqlite3.Connection, _record: object) -> None:
            # The driver begins too late, and not before DDL; "begin" below does it instead.
            connection.isolation_level = None
            connection.text_factory = _text
            connection.create_function(_HASH, -1, _hash, deterministic=True)
            # Freed cells are zeroed, so that no scrubbed key stays in a free page.
            connection.execute("PRAGMA secure_delete = ON").close()

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            write = connection.get_execution_options().get("dekctl_write", False)
            # IMMEDIATE: a reader that becomes a writer later would fail at once as "locked".
            connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
            if not write:
                _wait_to_read(connection)

    def selected(self, column: str, *, is_text: bool) -> str:  # noqa: ARG002
        return column

    def shard_number(self, key: Sequence[str], *, is_integer: bool) -> str:
        # As blobs: the driver calls no function with a text that is not UTF-8.
        blobs = (f"CAST({column} AS BLOB)" for column in key)
        return key[0] if is_integer else f"{_HASH}({', '.join(blobs)})"

    def parameter(self, name: str, value: Any) -> str:
        return f"CAST({name} AS TEXT)" if isinstance(value, NoText) else name

    def ambiguous_key(self, connection: Connection, table: TableShape) -> tuple[str, str] | None:
        if _is_rowid(connection, table):
            return None
        # In any other column 1 and '1', or '1' and x'31', are different keys, and one may be NULL.
        wanted = ", ".join(
            f"min(typeof({column})), max(typeof({column})), max({column} IS NULL)"
            for column in table.quoted_key
        )
        found = connection.exec_driver_sql(f"SELECT {wanted} FROM {table.quoted_name}").one()
        for i, name in enumerate(table.config.primary_key):
            column, (least, greatest, empty) = table.quoted_key[i], found[3 * i : 3 * i + 3]
            if empty:
                rows = f"SELECT rowid FROM {table.quoted_name} WHERE {column} IS NULL"
                return f"{name} holds no value in some rows: their primary key is NULL", rows
            if least != greatest:
                kinds = f"SELECT typeof({column}), count(*) FROM {table.quoted_name} GROUP BY 1"
                return (
                    f"{name} holds different kinds of values ({least}, {greatest}), which can "
                    "read the same: keys bound to such rows could be exchanged",
                    kinds,
                )
        return None

    def estimate_rows(self, connection: Connection, table: TableShape) -> int | None:  # noqa: ARG002
        return None  # it has none; rows are counted up to a limit

    def count_groups(
        self,
        connection: Connection,
        table: TableShape,
        by: Mapping[str, str],
        moment: str | None = None,
    ) -> list[GroupCount]:
        # GROUP BY sorts all rows, for a sixth of the speed.
        return count_sampled(
            connection, table, by, moment, lambda name, mark, _: f"{name} COLLATE BINARY IS :{mark}"
        )

    def copiers(self, connection: Connection, table: TableShape) -> list[str]:
        # Before ON stands the event.
        return [
            f"the trigger {name}"
            for name, sql in self._triggers(connection, table)
            if name != table.config.trigger
            and "UPDATE" in (words := bare_words(sql))[: words.index("ON")]
        ]

    def may_be_rewritten(self, connection: Connection, table: TableShape) -> bool:
        # Our own is taken away while plaintexts are written, and others do not fire it. One that
        # only has its name may.
        own = f" AFTER UPDATE OF {table.quoted('plaintext')} ON {table.quoted_name} "
        return any(
            name != table.config.trigger or own not in sql
            for name, sql in self._triggers(connection, table)
        )

    def _triggers(self, connection: Connection, table: TableShape) -> list[tuple[str, str]]:
        found = connection.exec_driver_sql(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' "
            "AND tbl_name = ? COLLATE NOCASE ORDER BY name",
            (table.config.bare_name,),
        )
        return [(name, sql) for name, sql in found]

    def residue_places(self, quoted_table: str) -> list[ResiduePlace]:  # noqa: ARG002
        return [
            ResiduePlace(
                "the write-ahead log, and free pages from before secure_delete was on",
                "PRAGMA secure_delete = ON; VACUUM; PRAGMA wal_checkpoint(TRUNCATE);",
            ),
        ]

    def stored_time(self, kind: TypeEngine[Any], moment: datetime) -> Any:  # noqa: ARG002
        return f"{moment.replace(tzinfo=None):%Y-%m-%d %H:%M:%S.%f}"  # it has no type for times

    def upsert(self, table: sa.Table, replaced: Sequence[str]) -> sa.Insert:
        insert = sqlite.insert(table)
        return insert.on_conflict_do_update(
            index_elements=list(table.primary_key.columns),
            set_={c: insert.excluded[c] for c in replaced},
        )

    def swap(
        self,
        connection: Connection,
        table: TableShape,
        columns: Sequence[str],
        changes: list[Change],
    ) -> int:
        # The values themselves are compared: no statement leaves this process, so no log shows one.
        rows = [change.row for change in changes]
        old = {c: tuple(map(attrgetter(c), rows)) for c in KEY_COLUMNS if table.has(c)}
        empty = [column for column, values in old.items() if values.count(None) == len(rows)]
        compared = [column for column in old if column not in empty]
        width, keys = len(columns), table.quoted_key
        sets = ", ".join(f"{table.quoted(c)} = ?{i + 1}" for i, c in enumerate(columns))
        same = [f"{k} = ?{width + i + 1}" for i, k in enumerate(keys)]  # by the index
        same += [f"{k} COLLATE BINARY = ?{width + i + 1}" for i, k in enumerate(keys)]
        same += [
            f"{table.quoted(column)} COLLATE BINARY IS ?{width + len(keys) + i + 1}"
            for i, column in enumerate(compared)
        ]
        same += [table.is_null(column) for column in empty]  # each value less to bind is time saved
        statement = f"UPDATE {table.quoted_name} SET {sets} WHERE {' AND '.join(same)}"
        new = zip(*(change.values for change in changes), strict=True)
        key = zip(*(row.pk for row in rows), strict=True)
        parameters = list(zip(*new, *key, *(old[c] for c in compared), strict=True))
        with _without_trigger(connection, table) if "plaintext" in columns else nullcontext():
            return connection.exec_driver_sql(statement, parameters).rowcount

    def is_transient(self, error: Exception) -> bool:
        return _is_busy(error)

    def is_denied(self, error: Exception) -> bool:  # noqa: ARG002
        return False  # it has no rights

    def is_read_only(self, error: Exception) -> bool:
        return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY

    def advice(self, error: Exception) -> str | None:
        if self.is_read_only(error):
            return (
                "let this user write to the file and to its folder, and open it without mode=ro; "
                "then run the same command again"
            )
        return None

    def is_about_rows(self, error: Exception) -> bool:
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in (
            sqlite3.SQLITE_CONSTRAINT,
            sqlite3.SQLITE_MISMATCH,
            sqlite3.SQLITE_TOOBIG,
        )

    def is_timeout(self, error: Exception) -> bool:  # noqa: ARG002
        return False  # it has no such limit

    def describe(self, error: Exception) -> str:
        # SQLite's messages name tables and columns. Two sources quote values: the driver, for text
        # that is not UTF-8, and an application's trigger.
        if isinstance(error, UnicodeError) or "decode to UTF-8" in str(error):
            return "a text value is not UTF-8; does plaintext_column have a binary type?"
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_CONSTRAINT_TRIGGER:
            return "a trigger raised an error"
        return str(error)
