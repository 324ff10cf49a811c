"""PostgreSQL: binary COPY into a temporary table, then one UPDATE join bounded by the key."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, event
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql.ranges import AbstractRange
from sqlalchemy.types import TypeEngine

from dekctl.db.batch import batch_of, is_known
from dekctl.db.dialect import ResiduePlace
from dekctl.db.dialects.postgresql_errors import PostgreSQLErrors
from dekctl.db.dialects.postgresql_session import (
    OWN_WRITE,
    own_options,
    session_sql,
    unknown_option,
)
from dekctl.db.psycopg_dates import read_every_date
from dekctl.db.row import Change
from dekctl.db.shape import TableShape
from dekctl.errors import DatabaseError


class PostgreSQL(PostgreSQLErrors):
    """PostgreSQL 11 or newer through psycopg 3."""

    name = "postgresql"
    driver = "psycopg"
    extra = "postgresql"
    schemas_are_its_own = True
    writers = 2  # one page is sent while the other's UPDATE runs: 20% faster
    clock = "timezone('utc', clock_timestamp())"

    def engine_options(self) -> dict[str, Any]:
        # No prepared statements: they break behind a transaction pooler, and pages are few.
        arguments: dict[str, Any] = {"prepare_threshold": None, "connect_timeout": 10}
        # A lost host is noticed within a minute, even in a statement without a limit.
        arguments |= {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
        arguments["tcp_user_timeout"] = 60_000
        # Before SQLAlchemy's first questions: a SQL_ASCII database would answer in bytes.
        arguments["client_encoding"] = "utf8"
        return {"connect_args": arguments}

    def own_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return own_options(options)

    def unknown_option(self, arguments: Mapping[str, Any]) -> str | None:
        return unknown_option(arguments)

    def socket_of(self, connection: Any) -> int:
        return int(connection.pgconn.socket)

    def prepare(self, engine: Engine) -> None:
        own = session_sql(self.timeouts.lock, engine.url)
        statement = int(self.timeouts.statement * 1000)

        @event.listens_for(engine, "connect")
        def _connect(connection: Any, _record: object) -> None:
            connection.autocommit = True  # the driver's BEGIN would be one more round trip
            read_every_date(connection)

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            # SET LOCAL, not at connect: a pooler may hand us another session for each transaction,
            # with what its last user has set.
            patient = connection.get_execution_options().get("dekctl_patient", False)
            connection.exec_driver_sql(
                f"BEGIN ISOLATION LEVEL READ COMMITTED; {own}; "
                f"SET LOCAL statement_timeout = {0 if patient else statement}"
            )

    def selected(self, column: str, *, is_text: bool) -> str:
        # A char(n) column loses its padding in this cast, here and in the fingerprint alike.
        return f"{column}::text" if is_text else column

    def hex_of(self, column: str, start: int, length: int) -> str:
        return f"encode(substring({column} FROM {start} FOR {length}), 'hex')"

    def fingerprint(self, columns: Sequence[tuple[str, bool] | None]) -> str:
        parts = []
        for column in columns:
            if column is None:
                parts.append("'-'::bytea")
                continue
            sql, is_text = column
            value = f"convert_to({sql}::text, 'UTF8')" if is_text else sql
            length = f"convert_to(octet_length({value})::text || ':', 'UTF8')"
            parts.append(f"coalesce({length} || {value}, '-'::bytea)")
        return f"sha256({' || '.join(parts)})"

    def shard_number(self, key: Sequence[str], *, is_integer: bool) -> str:
        if is_integer:
            return key[0]
        return f"(hashtext(ROW({', '.join(key)})::text) & 2147483647)"

    def unfit_as_key(self, kind: TypeEngine[Any]) -> str | None:
        if isinstance(kind, postgresql.DOMAIN):
            return self.unfit_as_key(kind.data_type)
        if isinstance(kind, postgresql.MONEY):
            return "reads as the server's lc_monetary says, but keys are bound to what is read"
        networks = postgresql.INET | postgresql.CIDR
        if isinstance(kind, networks | sa.Boolean | AbstractRange | postgresql.HSTORE):
            return "has several texts for one value, so no key can be bound to it"
        if isinstance(kind, sa.Time) and kind.timezone:
            return "has several values for one moment, so no key can be bound to it"
        return super().unfit_as_key(kind)

    def unfit_table(self, connection: Connection, table: str, schema: str | None) -> str | None:
        children = connection.execute(
            sa.text(
                "SELECT inhrelid::regclass::text FROM pg_inherits JOIN pg_class ON oid = inhparent "
                "WHERE inhparent = CAST(:name AS regclass) AND relkind = 'r' ORDER BY 1"
            ),
            {"name": _full_name(connection, table, schema)},
        ).scalars()
        child = next(iter(children), None)
        return (
            f"includes rows of {child} (INHERITS), which its own keys do not cover"
            if child
            else None
        )

    def invalid_indexes(
        self, connection: Connection, table: str, schema: str | None
    ) -> frozenset[str]:
        found = connection.execute(
            sa.text(
                "SELECT relname FROM pg_index JOIN pg_class ON oid = indexrelid "
                "WHERE indrelid = CAST(:name AS regclass) AND NOT indisvalid"
            ),
            {"name": _full_name(connection, table, schema)},
        ).scalars()
        return frozenset(found)

    def schemas_with(self, connection: Connection, table: str) -> list[str]:
        found = connection.execute(
            sa.text("SELECT table_schema FROM information_schema.tables WHERE table_name = :name"),
            {"name": table},
        )
        return sorted(found.scalars())

    def estimate_rows(self, connection: Connection, table: TableShape) -> int | None:
        found = connection.execute(
            sa.text("SELECT reltuples FROM pg_class WHERE oid = CAST(:name AS regclass)"),
            {"name": table.quoted_name},
        ).scalar_one()
        return int(found) if found >= 0 else None  # -1: never analysed

    def copiers(self, connection: Connection, table: TableShape) -> list[str]:
        return self._rewriters(connection, table, own="")

    def may_be_rewritten(self, connection: Connection, table: TableShape) -> bool:
        # One that only has the name of our own may fire for dekctl's writes, too.
        own = f"AND (current_setting('{OWN_WRITE}'::text, true) IS DISTINCT FROM 'on'::text)"
        return bool(self._rewriters(connection, table, own))

    def _rewriters(self, connection: Connection, table: TableShape, own: str) -> list[str]:
        """Triggers and rules on UPDATE, without our own: its definition contains ``own``."""
        found = connection.execute(
            sa.text(
                "WITH RECURSIVE parts AS (SELECT CAST(:name AS regclass)::oid AS part UNION "
                "SELECT inhrelid FROM pg_inherits JOIN parts ON inhparent = part) "
                "SELECT 'the trigger ' || tgname FROM pg_trigger AS t JOIN parts ON part = tgrelid "
                "WHERE NOT tgisinternal AND tgtype & 16 > 0 "  # 16: on UPDATE
                "AND (tgname <> :name_of_own OR position(:own IN pg_get_triggerdef(t.oid)) = 0) "
                "UNION SELECT 'the rule ' || rulename FROM pg_rewrite "
                "JOIN parts ON part = ev_class WHERE ev_type = '2' ORDER BY 1"  # UPDATE
            ),
            {"name": table.quoted_name, "name_of_own": table.config.trigger, "own": own},
        )
        return list(found.scalars())

    def run_deferred_triggers(self, connection: Connection) -> None:
        connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")

    def residue_places(self, quoted_table: str) -> list[ResiduePlace]:
        return [
            ResiduePlace(
                "dead rows in the table's file, until they are overwritten",
                f"VACUUM (FULL, ANALYZE) {quoted_table}; -- rewrites the table; locked meanwhile",
            ),
            ResiduePlace(
                "WAL segments on disk and in the archive",
                "CHECKPOINT; SELECT pg_switch_wal(); -- then let the archive expire",
            ),
        ]

    def has_collation(self, kind: TypeEngine[Any]) -> bool:
        return super().has_collation(kind) or isinstance(kind, postgresql.DOMAIN)

    def upsert(self, table: sa.Table, replaced: Sequence[str]) -> sa.Insert:
        insert = postgresql.insert(table)
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
        batch = batch_of(columns, changes)
        cursor = _cursor(connection)
        temporary = _send(cursor, table, batch.sent, batch.rows)
        parameters = list(batch.set_once.values())
        sets = [f"{table.quoted(column)} = %s" for column in batch.set_once]
        sets += [
            f"{table.quoted(column)} = changed.{table.quoted(column)}" for column in batch.sent
        ]
        keys = table.quoted_key
        where = [f"t.{key} = changed.{key}" for key in keys]  # by the index, then to the byte
        where += [f't.{k}::text COLLATE "C" = changed.{k}::text' for k in table.text_key]
        # Without the bounds the planner reads the whole index (measured: a quarter of the speed).
        marks = ", ".join(["%s"] * len(keys))
        key = ", ".join(f"t.{k}" for k in keys)
        where.append(f"({key}) >= ({marks}) AND ({key}) <= ({marks})")
        parameters += [*changes[0].row.pk, *changes[-1].row.pk]
        print_now = table.fingerprint_of("t", batch.hashed)
        known, values = is_known(table, batch.known, lambda sql: f'{sql}::text COLLATE "C" = %s')
        # One expression that the planner cannot use for estimates or a hash join: it would plan for
        # one row, and compute each SHA-256 twice.
        now = f"CASE WHEN {known} THEN {print_now} END"
        where.append(f"NOT ({now} IS DISTINCT FROM changed.dekctl_fingerprint)")
        cursor.execute(
            f"UPDATE {table.quoted_name} AS t SET {', '.join(sets)} "
            f"FROM {temporary} AS changed WHERE {' AND '.join(where)}",
            [*parameters, *values],
        )
        return int(cursor.rowcount)

    def revoked(self, tables: Sequence[str]) -> list[str]:
        # ALTER DEFAULT PRIVILEGES may have granted it.
        return [f"REVOKE ALL ON {', '.join(tables)} FROM PUBLIC"]

    @contextmanager
    def one_at_a_time(self, connection: Connection, task: str) -> Iterator[None]:
        # Of the transaction, so that it works behind a connection pooler too.
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext(:task))"), {"task": task})
        yield


def _full_name(connection: Connection, table: str, schema: str | None) -> str:
    quote = connection.dialect.identifier_preparer.quote
    return f"{quote(schema)}.{quote(table)}" if schema else quote(table)


def _cursor(connection: Connection) -> Any:
    """The driver's cursor inside SQLAlchemy's transaction: COPY has no SQLAlchemy form."""
    from psycopg.types.string import BytesBinaryDumper  # noqa: PLC0415 - psycopg is optional

    cursor: Any = connection.connection.cursor()
    # Else COPY gives bytea to the dumper of DB-API's Binary, which is not written in C.
    cursor.adapters.register_dumper(bytes, BytesBinaryDumper)
    return cursor


def _send(
    cursor: Any, table: TableShape, sent: Sequence[str], rows: Iterable[tuple[Any, ...]]
) -> str:
    """Copy rows (key, values of ``sent``, fingerprint) to a temporary table; return its name."""
    wanted = ", ".join([*table.quoted_key, *map(table.quoted, sent)])
    # The shape is part of the name: a pooled session may still have a table of another shape.
    shape = hashlib.sha256(f"{table.quoted_name} {wanted}".encode()).hexdigest()[:16]
    name = f"dekctl_changes_{shape}"
    rows_now = f"SELECT {wanted}, ''::bytea AS dekctl_fingerprint FROM {table.quoted_name}"
    create = (
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {name} ON COMMIT DELETE ROWS "
        f"AS {rows_now} WITH NO DATA"
    )
    compare = f"SELECT * FROM pg_temp.{name} LIMIT 0; {rows_now} LIMIT 0"
    _set_up(cursor, f"{create}; {compare}")
    columns, columns_now = _column_types(cursor), _column_types(cursor)
    if columns != columns_now:  # it was made before a column's type was changed
        cursor.execute(f"DROP TABLE pg_temp.{name}; {create}; {compare}")
        cursor.nextset()
        columns = _column_types(cursor)
    types = [column[0] for column in columns]
    binary = all(_has_binary_form(cursor, oid) for oid in types)
    form = " (FORMAT BINARY)" if binary else ""
    with cursor.copy(f"COPY pg_temp.{name} FROM STDIN{form}") as copy:
        if binary:
            copy.set_types(types)
        for row in rows:
            copy.write_row(row)
    return f"pg_temp.{name}"


def _set_up(cursor: Any, statements: str) -> None:
    """Execute what makes a temporary table: no row is in it, so no row is to blame for an error."""
    import psycopg  # noqa: PLC0415 - optional; here it is installed

    try:
        cursor.execute(statements)
    except psycopg.errors.RaiseException as error:
        raise DatabaseError(
            "an event trigger of the database refuses the temporary table through which dekctl "
            f"writes; the server's log shows its error (SQLSTATE {error.sqlstate})",
            hint="let it pass CREATE TABLE AS in pg_temp, then run the same command again",
        ) from None


def _column_types(cursor: Any) -> list[tuple[Any, ...]]:
    """The types of the next result's columns: OID, lengths, precision and scale."""
    cursor.nextset()
    return [tuple(column)[1:] for column in cursor.description]


def _has_binary_form(cursor: Any, oid: int) -> bool:
    """Whether the driver can send a type in binary; it cannot for char(n) or an enum."""
    import psycopg  # noqa: PLC0415 - optional; here it is installed

    try:
        cursor.adapters.get_dumper_by_oid(oid, psycopg.pq.Format.BINARY)
    except psycopg.ProgrammingError:
        return False
    return True
