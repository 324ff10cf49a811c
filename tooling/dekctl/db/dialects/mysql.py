"""MariaDB and MySQL: bulk insert into a temporary table, then one UPDATE join."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, event
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

from dekctl.db.batch import batch_of, is_known
from dekctl.db.dialect import ResiduePlace, Timeouts
from dekctl.db.dialects.mysql_ddl import keep_ddl_out_of_queues
from dekctl.db.dialects.mysql_errors import MySQLErrors
from dekctl.db.dialects.mysql_exposure import MySQLExposure
from dekctl.db.dialects.mysql_session import (
    OWN_WRITE,
    begin_session,
    own_options,
    unknown_option,
)
from dekctl.db.groups import GroupCount, count_sampled
from dekctl.db.row import Change, filler, refused_by_trigger
from dekctl.db.shape import TableShape
from dekctl.errors import DatabaseError

MAX_STATEMENT = 1_024_000
"""Bytes of one INSERT of many rows, as the driver has it."""

RESPONSE_SECONDS = 15.0
"""How long to wait for a response beyond the statement's limit before the server counts as lost."""


class MySQL(MySQLErrors, MySQLExposure):
    """MariaDB 10.6 or MySQL 8 or newer through PyMySQL."""

    name = "mysql"
    driver = "pymysql"
    extra = "mysql"
    clock = "UTC_TIMESTAMP(6)"

    def __init__(self, timeouts: Timeouts) -> None:
        super().__init__(timeouts)
        self._self_updating_columns: dict[str, list[str]] = {}
        self._max_packet = MAX_STATEMENT

    def engine_options(self) -> dict[str, Any]:
        return {
            "connect_args": {
                "connect_timeout": 10,
                "charset": "utf8mb4",
                "read_timeout": 10,  # for the server's greeting; see _begin for what follows
                "write_timeout": self._response_seconds,
            },
        }

    @property
    def _response_seconds(self) -> float:
        """How long the driver waits: the server's own limit should come first."""
        return self.timeouts.statement + RESPONSE_SECONDS

    def own_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return own_options(options)

    def unknown_option(self, arguments: Mapping[str, Any]) -> str | None:
        return unknown_option(arguments)

    def socket_of(self, connection: Any) -> int:
        return int(connection._sock.fileno())

    def prepare(self, engine: Engine) -> None:
        lock = max(1, round(self.timeouts.lock))
        keep_ddl_out_of_queues(engine, lock)

        # First of all: SQLAlchemy asks for the mode, to know how names are quoted.
        @event.listens_for(engine, "connect", insert=True)
        def _connect(connection: Any, _record: object) -> None:
            with connection.cursor() as cursor:
                begin_session(cursor, lock)
                cursor.execute("SELECT @@max_allowed_packet")
                [self._max_packet] = cursor.fetchone()

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            patient = connection.get_execution_options().get("dekctl_patient", False)
            seconds = 0 if patient else self.timeouts.statement
            driver: Any = connection.connection.dbapi_connection
            # The driver looks at it before each read, and offers no other way to change it.
            driver._read_timeout = None if patient else self._response_seconds
            if getattr(connection.dialect, "is_mariadb", False):
                limit = f"max_statement_time = {seconds}"
            else:  # MySQL bounds SELECT only
                limit = f"max_execution_time = {int(seconds * 1000)}"
            connection.exec_driver_sql(f"SET SESSION {limit}, {OWN_WRITE} = 1")

    def selected(self, column: str, *, is_text: bool) -> str:  # noqa: ARG002
        return column

    def fingerprint(self, columns: Sequence[tuple[str, bool] | None]) -> str:
        parts = []
        for column in columns:
            if column is None:
                parts.append("_binary '-'")
                continue
            sql, is_text = column
            value = f"CAST(CONVERT({sql} USING utf8mb4) AS BINARY)" if is_text else sql
            parts.append(f"COALESCE(CONCAT(LENGTH({value}), _binary ':', {value}), _binary '-')")
        return f"UNHEX(SHA2(CONCAT({', '.join(parts)}), 256))"

    def shard_number(self, key: Sequence[str], *, is_integer: bool) -> str:
        return key[0] if is_integer else f"CRC32(CONCAT_WS('/', {', '.join(key)}))"

    def unfit_as_key(self, kind: TypeEngine[Any]) -> str | None:
        if isinstance(kind, mysql.ENUM | mysql.SET):
            return "is sorted in one order and compared in another"
        if isinstance(kind, sa.TIMESTAMP):
            # The reader cannot know the zone that wrap had: a key would open in one session only.
            return "each session reads in its own time zone, but keys are bound to what is read"
        if isinstance(kind, mysql.BIT):
            return "is read as bytes and compared as a number"
        if isinstance(kind, sa.Time):
            return "is read as a length of time, which has several texts"
        return super().unfit_as_key(kind)

    def compare_keys(self, key: Sequence[str], operator: str, values: Sequence[str]) -> str:
        # Neither server uses an index for (a, b) > (x, y); spelled out, it does.
        strict = operator[0]
        alternatives = []
        for last in range(len(key)):
            equal = [f"{key[i]} = {values[i]}" for i in range(last)]
            final = operator if last == len(key) - 1 else strict
            alternatives.append(" AND ".join([*equal, f"{key[last]} {final} {values[last]}"]))
        return f"({' OR '.join(f'({a})' for a in alternatives)})"

    def schemas_with(self, connection: Connection, table: str) -> list[str]:
        found = connection.execute(
            sa.text("SELECT table_schema FROM information_schema.tables WHERE table_name = :name"),
            {"name": table},
        )
        return sorted(found.scalars())

    def estimate_rows(self, connection: Connection, table: TableShape) -> int | None:
        return connection.execute(
            sa.text(
                "SELECT table_rows FROM information_schema.tables WHERE table_name = :name "
                "AND table_schema = COALESCE(:schema, DATABASE())"
            ),
            {"name": table.config.bare_name, "schema": table.config.schema},
        ).scalar_one_or_none()

    def count_groups(
        self,
        connection: Connection,
        table: TableShape,
        by: Mapping[str, str],
        moment: str | None = None,
    ) -> list[GroupCount]:
        # GROUP BY looks each row up in a temporary table, for a third of the speed.
        return count_sampled(connection, table, by, moment, _same)

    def residue_places(self, quoted_table: str) -> list[ResiduePlace]:
        return [
            ResiduePlace(
                "free space in the table's pages (each key was overwritten in its place first)",
                f"OPTIMIZE TABLE {quoted_table}; -- rewrites the table",
            ),
            ResiduePlace(
                "the binary log",
                "FLUSH BINARY LOGS; PURGE BINARY LOGS BEFORE NOW(); -- once replicas have it",
            ),
            ResiduePlace(
                "the undo and redo logs",
                "later writes overwrite them; "
                "SET GLOBAL innodb_undo_log_truncate = ON shortens the undo log",
            ),
        ]

    def upsert(self, table: sa.Table, replaced: Sequence[str]) -> sa.Insert:
        insert = mysql.insert(table)
        return insert.on_duplicate_key_update({c: insert.inserted[c] for c in replaced})

    def swap(
        self,
        connection: Connection,
        table: TableShape,
        columns: Sequence[str],
        changes: list[Change],
    ) -> int:
        return self._write(connection, table, columns, changes)

    def erase(
        self,
        connection: Connection,
        table: TableShape,
        columns: Sequence[str],
        changes: list[Change],
    ) -> int:
        # InnoDB writes a value of the same length into the old one's place, in the clustered index.
        fillers = [filler(change.row.plaintext or b"") for change in changes]
        return self._write(connection, table, columns, changes, fillers)

    def _write(
        self,
        connection: Connection,
        table: TableShape,
        columns: Sequence[str],
        changes: list[Change],
        fillers: Sequence[str | bytes] = (),
    ) -> int:
        """Write changes; with ``fillers`` each plaintext is first overwritten by one of them."""
        batch = batch_of(columns, changes, fillers)
        keys = table.quoted_key
        wanted = [*keys, *map(table.quoted, batch.sent)]
        print_type = "CAST('' AS BINARY(32)) AS"
        if fillers:
            wanted.append(f"{table.quoted('plaintext')} AS dekctl_filler")
            wanted.append(f"{print_type} dekctl_overwritten")
        temporary = "dekctl_changes"
        cursor: Any = connection.connection.cursor()
        # Not kept for the next page: the application may change a column's type in between.
        cursor.execute(f"DROP TEMPORARY TABLE IF EXISTS {temporary}")
        cursor.execute(
            f"CREATE TEMPORARY TABLE {temporary} (PRIMARY KEY ({', '.join(keys)})) "
            f"AS SELECT {', '.join(wanted)}, {print_type} dekctl_fingerprint "
            f"FROM {table.quoted_name} WHERE FALSE"
        )
        # The server takes no larger packet than its limit.
        _insert(cursor, temporary, batch.rows, min(MAX_STATEMENT, self._max_packet * 3 // 4))
        # "ON UPDATE CURRENT_TIMESTAMP" columns are the application's: set to itself, one stays.
        kept = [f"t.{column} = t.{column}" for column in self._self_updating(connection, table)]
        sets = [f"t.{table.quoted(column)} = %s" for column in batch.set_once]
        sets += [f"t.{table.quoted(c)} = changed.{table.quoted(c)}" for c in batch.sent]
        same = [f"t.{key} = changed.{key}" for key in keys]  # by the index, then to the byte
        same += [f"CAST(t.{k} AS BINARY) = CAST(changed.{k} AS BINARY)" for k in table.text_key]
        join = f"UPDATE {temporary} AS changed JOIN {table.quoted_name} AS t ON "
        join += f"{' AND '.join(same)} SET "
        known, values = is_known(
            table,
            batch.known,
            lambda sql: f"CAST(CONVERT({sql} USING utf8mb4) AS BINARY) = CAST(%s AS BINARY)",
        )
        print_now = table.fingerprint_of("t", batch.hashed)
        unchanged = f" WHERE {known} AND {print_now} = changed."
        assign = ", ".join([*sets, *kept])
        new = [*batch.set_once.values(), *values]
        if not fillers:
            cursor.execute(f"{join}{assign}{unchanged}dekctl_fingerprint", new)
            return int(cursor.rowcount)
        overwrite = ", ".join([f"t.{table.quoted('plaintext')} = changed.dekctl_filler", *kept])
        cursor.execute(f"{join}{overwrite}{unchanged}dekctl_fingerprint", values)
        locked = int(cursor.rowcount)
        cursor.execute(f"{join}{assign}{unchanged}dekctl_overwritten", new)
        if cursor.rowcount != locked:  # nobody else can have changed them
            raise refused_by_trigger(table.config.name)
        return locked

    def _self_updating(self, connection: Connection, table: TableShape) -> list[str]:
        if table.quoted_name not in self._self_updating_columns:
            found = connection.execute(
                sa.text(
                    "SELECT column_name FROM information_schema.columns WHERE table_name = :name "
                    "AND table_schema = COALESCE(:schema, DATABASE()) "
                    "AND extra LIKE :extra"
                ),
                {
                    "name": table.config.bare_name,
                    "schema": table.config.schema,
                    "extra": "%on update%",
                },
            ).scalars()
            quote = connection.dialect.identifier_preparer.quote
            self._self_updating_columns[table.quoted_name] = [quote(name) for name in found]
        return self._self_updating_columns[table.quoted_name]

    @contextmanager
    def one_at_a_time(self, connection: Connection, task: str) -> Iterator[None]:
        # A named lock is the server's, not the database's, and its name has 64 characters.
        lock = {"task": f"{connection.engine.url.database}.{task}"[-64:]}
        # Its DDL commits, so no lock of a transaction would last.
        if not connection.execute(sa.text("SELECT GET_LOCK(:task, 60)"), lock).scalar_one():
            raise DatabaseError(f"another process is at {task} for a minute")
        try:
            yield
        finally:
            if not connection.invalidated:  # else the server has released it
                connection.execute(sa.text("SELECT RELEASE_LOCK(:task)"), lock)


def _insert(cursor: Any, table: str, rows: Sequence[tuple[Any, ...]], most: int) -> None:
    """Insert rows, as many at once as fit into about ``most`` bytes.

    Bytes are sent as hexadecimal digits, and integers as they are: the driver's own way takes three
    times as long.
    """
    texts: list[str] = []
    values: list[Any] = []
    size = 0
    for row in rows:
        others: list[Any] = []
        marks = [_mark(value, others) for value in row]
        text = f"({','.join(marks)})"
        length = len(text)
        for value in others:
            length += 4 * len(value) if isinstance(value, str) else 32
        if texts and size + length > most:
            cursor.execute(f"INSERT INTO {table} VALUES {','.join(texts)}", values)
            texts, values, size = [], [], 0
        texts.append(text)
        values += others
        size += length
    cursor.execute(f"INSERT INTO {table} VALUES {','.join(texts)}", values)


def _mark(value: Any, others: list[Any]) -> str:
    """SQL of a value; one that the driver has to escape is added to ``others``."""
    kind = type(value)
    if kind is bytes:
        return f"x'{value.hex()}'"
    if kind is int:
        return str(value)
    others.append(value)
    return "%s"


def _same(name: str, mark: str, value: Any) -> str:
    """SQL that compares a column with a parameter, to the byte."""
    if isinstance(value, str | bytes):
        return f"CAST({name} AS BINARY) <=> CAST(%({mark})s AS BINARY)"
    return f"{name} <=> %({mark})s"
