"""What each database can do with a table: the raw driver, the same effect, no KMS, none of dekctl.

One connection reads pages and another writes them (SQLite: one does both). A row is written only if
it is still what was read. The wrapped keys are made before. The fastest way we know for each
database: binary COPY and an UPDATE join; one INSERT of many rows into a temporary table and an
UPDATE join; ``executemany``.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from hashlib import sha256
from typing import Any, Protocol

import psycopg
import pymysql
from psycopg.types.string import BytesBinaryDumper
from sqlalchemy import make_url

BLOB = bytes(69)
"""As long as what the local provider makes of a key of 32 bytes."""
FILLER = bytes(32)
KEK = "env:0123456789abcdef"
PAGE = 2000
TABLE = "encrypted_files"
READ = {"wrap": "encryption_key", "scrub": "encryption_key, wrapped_key"}
DUE = {"wrap": "wrapped_key IS NULL", "scrub": "encryption_key IS NOT NULL"}
Rows = list[tuple[Any, ...]]


class Raw(Protocol):
    """Reads and writes pages by a raw driver."""

    def page(self, verb: str, after: tuple[Any, ...] | None) -> Rows:
        """The next rows: key columns, then those of :data:`READ`."""

    def write(self, verb: str, rows: Rows) -> int:
        """Write a page in a transaction of its own; how many rows were as they were read."""

    def close(self) -> None:
        """Close the connections."""


def limit(url: str, keys: dict[str, str], verb: str) -> tuple[float, int]:
    """Do a verb's reading and writing alone; returns seconds and the rows that were written.

    ``keys`` maps each primary-key column to its kind: ``integer``, ``uuid`` or ``text``.
    """
    kinds: dict[str, Callable[[str, dict[str, str]], Raw]] = {
        "postgresql": Postgres,
        "mysql": MariaDB,
        "sqlite": SQLite,
    }
    with closing(kinds[make_url(url).get_backend_name()](url, keys)) as raw:
        started = time.monotonic()
        written = _walk(raw, verb, len(keys))
        return time.monotonic() - started, written


def _walk(raw: Raw, verb: str, width: int) -> int:
    if isinstance(raw, SQLite):
        return sum(raw.write(verb, rows) for rows in _pages(raw, verb, width))
    with ThreadPoolExecutor(1) as writer:  # the reader is one page ahead or more
        writes = [writer.submit(raw.write, verb, rows) for rows in _pages(raw, verb, width)]
        return sum(write.result() for write in writes)


def _pages(raw: Raw, verb: str, width: int) -> Iterator[Rows]:
    after = None
    while rows := raw.page(verb, after):
        yield rows
        after = rows[-1][:width]


def _select(keys: Sequence[str], verb: str, beyond: str) -> str:
    names = ", ".join(keys)
    return f"SELECT {names}, {READ[verb]} FROM {TABLE} {beyond} ORDER BY {names} LIMIT {PAGE}"


def _marks(keys: Sequence[str], mark: str) -> str:
    return ", ".join([mark] * len(keys))


class Postgres:
    """psycopg: COPY in binary into a temporary table, UPDATE join bounded by the key."""

    def __init__(self, url: str, keys: dict[str, str]) -> None:
        dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._reader, self._writer = psycopg.connect(dsn), psycopg.connect(dsn)
        self._writer.adapters.register_dumper(bytes, BytesBinaryDumper)
        self._keys = list(keys)
        kinds = {"integer": "int8", "uuid": "uuid", "text": "text"}
        self._types = [kinds[kind] for kind in keys.values()]
        names = ", ".join(f"{k}::{t} AS {k}" for k, t in zip(self._keys, self._types, strict=True))
        self._writer.execute(
            f"CREATE TEMPORARY TABLE changes ON COMMIT DELETE ROWS AS SELECT {names}, "
            f"''::bytea AS hash, wrapped_key AS blob FROM {TABLE} WITH NO DATA"
        )
        self._writer.commit()

    def page(self, verb: str, after: tuple[Any, ...] | None) -> Rows:
        beyond = f"WHERE ({', '.join(self._keys)}) > ({_marks(self._keys, '%s')})" if after else ""
        rows = self._reader.execute(
            _select(self._keys, verb, beyond), after or (), binary=True
        ).fetchall()
        self._reader.commit()
        return rows

    def write(self, verb: str, rows: Rows) -> int:
        width = len(self._keys)
        cursor = self._writer.cursor()
        wraps = verb == "wrap"
        columns = [*self._keys, "hash", *(["blob"] if wraps else [])]
        with cursor.copy(f"COPY changes ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types([*self._types, "bytea", *(["bytea"] if wraps else [])])
            for row in rows:
                hashed = sha256(b"".join(row[width:])).digest()
                copy.write_row((*row[:width], hashed, BLOB) if wraps else (*row[:width], hashed))
        if wraps:
            sets = "wrapped_key = n.blob, wrapped_key_version = 'V2', kek_id = %s"
            now = "t.encryption_key"
        else:
            sets, now = "encryption_key = NULL", "t.encryption_key || t.wrapped_key"
        same = " AND ".join(f"t.{key} = n.{key}" for key in self._keys)
        key, marks = ", ".join(f"t.{k}" for k in self._keys), _marks(self._keys, "%s")
        # Not "=": the planner would hash by it, and compute each SHA-256 twice.
        cursor.execute(
            f"UPDATE {TABLE} AS t SET {sets} FROM changes AS n WHERE {same} AND ({key}) >= "
            f"({marks}) AND ({key}) <= ({marks}) AND t.{DUE[verb]} "
            f"AND NOT (sha256({now}) IS DISTINCT FROM n.hash)",
            (*([KEK] if wraps else []), *rows[0][:width], *rows[-1][:width]),
        )
        self._writer.commit()
        return cursor.rowcount

    def close(self) -> None:
        self._reader.close()
        self._writer.close()


class MariaDB:
    """PyMySQL: one INSERT for a page into a temporary table, then an UPDATE join.

    A plaintext is overwritten before it is removed, as the promise about InnoDB wants.
    """

    def __init__(self, url: str, keys: dict[str, str]) -> None:
        self._reader, self._writer = self._connect(url), self._connect(url)
        self._keys = list(keys)
        with self._writer.cursor() as cursor:
            cursor.execute("SET @dekctl_own_write = 1")  # for the row trigger
            cursor.execute(
                f"CREATE TEMPORARY TABLE changes (PRIMARY KEY ({', '.join(keys)})) AS SELECT "
                f"{', '.join(keys)}, CAST('' AS BINARY(32)) AS hash, "
                f"CAST('' AS BINARY(69)) AS blob_ FROM {TABLE} WHERE FALSE"
            )

    @staticmethod
    def _connect(url: str) -> pymysql.connections.Connection[Any]:
        to = make_url(url)
        given = to.translate_connect_args(username="user")
        return pymysql.connect(**given)

    def page(self, verb: str, after: tuple[Any, ...] | None) -> Rows:
        beyond = ""
        if after:
            first, *rest = self._keys
            beyond = (
                f"WHERE {first} > %s"
                if not rest
                else f"WHERE {first} >= %s AND (" + (f"{first} > %s OR {rest[0]} > %s)")
            )
            after = after if not rest else (after[0], *after)
        with self._reader.cursor() as cursor:
            cursor.execute(_select(self._keys, verb, beyond), after or ())
            rows = list(cursor.fetchall())
        self._reader.commit()
        return rows

    def write(self, verb: str, rows: Rows) -> int:
        width, wraps = len(self._keys), verb == "wrap"
        blob = (BLOB if wraps else FILLER).hex()
        hashes = [sha256(b"".join(row[width:])).hexdigest() for row in rows]
        values = ",".join(
            f"({','.join(map(_literal, row[:width]))},x'{hashed}',x'{blob}')"
            for row, hashed in zip(rows, hashes, strict=True)
        )
        same = " AND ".join(f"t.{key} = n.{key}" for key in self._keys)
        join = f"UPDATE changes AS n JOIN {TABLE} AS t ON {same} SET"
        with self._writer.cursor() as cursor:
            cursor.execute("DELETE FROM changes")
            cursor.execute(f"INSERT INTO changes VALUES {values}")
            if wraps:
                cursor.execute(
                    f"{join} t.wrapped_key = n.blob_, t.wrapped_key_version = 'V2', "
                    f"t.kek_id = '{KEK}' WHERE t.wrapped_key IS NULL "
                    "AND UNHEX(SHA2(t.encryption_key, 256)) = n.hash"
                )
            else:
                cursor.execute(
                    f"{join} t.encryption_key = LEFT(n.blob_, 32) WHERE UNHEX(SHA2(CONCAT("
                    "t.encryption_key, t.wrapped_key), 256)) = n.hash"
                )
                cursor.execute(
                    f"{join} t.encryption_key = NULL WHERE t.encryption_key = LEFT(n.blob_, 32)"
                )
            written = int(cursor.rowcount)
        self._writer.commit()
        return written

    def close(self) -> None:
        self._reader.close()
        self._writer.close()


def _literal(value: Any) -> str:
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    return str(value) if isinstance(value, int) else f"'{value}'"


class SQLite:
    """The standard library's driver: ``executemany`` in one transaction for each page."""

    def __init__(self, url: str, keys: dict[str, str]) -> None:
        self._connection = sqlite3.connect(make_url(url).database or "")
        self._connection.execute("PRAGMA secure_delete = ON")
        self._keys = list(keys)

    def page(self, verb: str, after: tuple[Any, ...] | None) -> Rows:
        beyond = f"WHERE ({', '.join(self._keys)}) > ({_marks(self._keys, '?')})" if after else ""
        return self._connection.execute(_select(self._keys, verb, beyond), after or ()).fetchall()

    def write(self, verb: str, rows: Rows) -> int:
        same = " AND ".join(f"{key} = ?" for key in self._keys)
        if verb == "wrap":
            sql = f"UPDATE {TABLE} SET wrapped_key = ?, wrapped_key_version = 'V2', kek_id = ? "
            sql += f"WHERE {same} AND encryption_key = ? AND wrapped_key IS NULL"
            parameters = [(BLOB, KEK, *row) for row in rows]
        else:
            sql = f"UPDATE {TABLE} SET encryption_key = NULL "
            sql += f"WHERE {same} AND encryption_key = ? AND wrapped_key = ?"
            parameters = rows
        with self._connection:
            return self._connection.executemany(sql, parameters).rowcount

    def close(self) -> None:
        self._connection.close()
