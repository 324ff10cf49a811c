"""``db/dialects/toy.py``: how rows are read, compared and written."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, event
from sqlalchemy.dialects import registry, sqlite
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from dekctl.db.dialect import Dialect, ResiduePlace
from dekctl.db.row import Change, fingerprint
from dekctl.db.shape import TableShape


class SQLAlchemyToy(SQLiteDialect_pysqlite):
    """What the package of another database's driver brings along."""

    name = "toy"
    supports_statement_cache = True


registry.register("toy", __name__, SQLAlchemyToy.__name__)


class Toy(Dialect):
    """Written from nothing but the interface."""

    name = "toy"
    clock = "strftime('%Y-%m-%d %H:%M:%f', 'now')"
    is_remote = False
    has_schemas = False

    def engine_options(self) -> dict[str, Any]:
        return {"connect_args": {"timeout": self.timeouts.lock}}

    def prepare(self, engine: Engine) -> None:
        @event.listens_for(engine, "connect")
        def _connect(connection: sqlite3.Connection, _record: object) -> None:
            connection.isolation_level = None
            connection.create_function("toy_fingerprint", 4, fingerprint, deterministic=True)

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            write = connection.get_execution_options().get("dekctl_write", False)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    def estimate_rows(self, connection: Connection, table: TableShape) -> int | None:  # noqa: ARG002
        return None

    def residue_places(self, quoted_table: str) -> list[ResiduePlace]:
        return [ResiduePlace("the toy's free pages", f"TIDY {quoted_table}")]

    def selected(self, column: str, *, is_text: bool) -> str:  # noqa: ARG002
        return column

    def fingerprint(self, columns: Sequence[tuple[str, bool] | None]) -> str:
        return f"toy_fingerprint({', '.join(c[0] if c else 'NULL' for c in columns)})"

    def shard_number(self, key: Sequence[str], *, is_integer: bool) -> str:
        return key[0] if is_integer else f"unicode({key[0]})"

    def upsert(self, table: sa.Table, replaced: Sequence[str]) -> sa.Insert:
        insert = sqlite.insert(table)
        return insert.on_conflict_do_update(
            index_elements=list(table.primary_key.columns),
            set_={column: insert.excluded[column] for column in replaced},
        )

    def swap(
        self,
        connection: Connection,
        table: TableShape,
        columns: Sequence[str],
        changes: list[Change],
    ) -> int:
        sets = ", ".join(f"{table.quoted(column)} = ?" for column in columns)
        key = " AND ".join(f"{column} = ?" for column in table.quoted_key)
        return connection.exec_driver_sql(
            f"UPDATE {table.quoted_name} SET {sets} WHERE {key} AND {table.fingerprint_of()} = ?",
            [(*c.values, *c.row.pk, c.row.fingerprint()) for c in changes],
        ).rowcount

    def is_transient(self, error: Exception) -> bool:
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY

    def is_denied(self, error: Exception) -> bool:  # noqa: ARG002
        return False

    def is_timeout(self, error: Exception) -> bool:  # noqa: ARG002
        return False

    def describe(self, error: Exception) -> str:
        return type(error).__name__
