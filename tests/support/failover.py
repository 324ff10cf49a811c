"""A fail-over that loses the last commits, and a ledger that somebody forges.

A standby that takes over has every transaction up to some commit and none after it: here all rows
are put back to such a moment, while dekctl and its memory go on. Connections are not cut; other
tests do that.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from support.waiting import eventually

Rows = dict[tuple[Any, ...], dict[str, Any]]
OWN = "dekctl_"


class Standby:
    """A standby of one database; it follows until :meth:`follow` is called last."""

    def __init__(self, engine: sa.Engine, table: str) -> None:
        self._engine = engine
        self._table = table
        self._seen: dict[str, list[dict[str, Any]]] | None = None

    def follow(self) -> None:
        """Have what is committed now, of one moment."""
        is_sqlite = self._engine.dialect.name == "sqlite"
        engine = self._engine.execution_options(
            isolation_level="SERIALIZABLE" if is_sqlite else "REPEATABLE READ"
        )
        with engine.connect() as connection:
            if is_sqlite:
                connection.exec_driver_sql("BEGIN")  # the driver begins none to read
            self._seen = {
                name: [
                    dict(row)
                    for row in connection.execute(sa.text(f"SELECT * FROM {name}")).mappings()
                ]
                for name in self._names()
            }

    def take_over(self) -> bool:
        """Let everything since be lost. False where tables came or went: then nothing is done."""
        seen = self._seen
        if seen is None or set(seen) != set(self._names()):
            return False
        done: list[bool] = []

        def try_it() -> bool:
            with contextlib.suppress(sa.exc.OperationalError):  # a deadlock, a lock that is held
                done.append(self._put_back(seen))
            return bool(done)

        assert eventually(try_it)
        return done[0]

    def _names(self) -> list[str]:
        names = sa.inspect(self._engine).get_table_names()
        return sorted(name for name in names if name == self._table or name.startswith(OWN))

    def _put_back(self, seen: dict[str, list[dict[str, Any]]]) -> bool:
        with self._engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"LOCK TABLE {', '.join(seen)} IN EXCLUSIVE MODE")
            for name, rows in seen.items():
                columns = {c["name"] for c in sa.inspect(connection).get_columns(name)}
                if any(set(row) != columns for row in rows):
                    connection.rollback()
                    return False
                connection.exec_driver_sql(f"DELETE FROM {name}")
                if rows:
                    table = sa.table(name, *map(sa.column, sorted(columns)))
                    connection.execute(table.insert(), rows)
        return True


@dataclass(frozen=True)
class Forgery:
    """Rows of one of dekctl's tables, as somebody who may write them changes them.

    ``change`` takes the rows and returns the forged ones.
    """

    table: str
    key: tuple[str, ...]
    change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]

    @contextlib.contextmanager
    def made(self, engine: sa.Engine) -> Iterator[None]:
        """Forge; afterwards put back what nobody else has changed since."""
        if not sa.inspect(engine).has_table(self.table):
            yield
            return
        before = self._rows(engine)
        forged = {self._key(row): row for row in self.change([dict(r) for r in before.values()])}
        self._write(engine, before, forged)
        forged = self._rows(engine)  # as the database holds it
        try:
            yield
        finally:
            now = self._rows(engine)
            wanted = dict(now)
            for key in forged:
                if now.get(key) == forged[key] != before.get(key):
                    wanted.pop(key)
            for key, row in before.items():
                if key not in wanted and now.get(key) == forged.get(key):
                    wanted[key] = row
            self._write(engine, now, wanted)

    def _key(self, row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(row[name] for name in self.key)

    def _rows(self, engine: sa.Engine) -> Rows:
        with engine.connect() as connection:
            found = connection.execute(sa.text(f"SELECT * FROM {self.table}")).mappings()
            return {self._key(dict(row)): dict(row) for row in found}

    def _write(self, engine: sa.Engine, old: Rows, new: Rows) -> None:
        with engine.begin() as connection:
            for key in old:
                if old[key] != new.get(key):
                    where = " AND ".join(f"{name} = :{name}" for name in self.key)
                    values = dict(zip(self.key, key, strict=True))
                    connection.execute(sa.text(f"DELETE FROM {self.table} WHERE {where}"), values)
            for key, row in new.items():
                if old.get(key) != row:
                    table = sa.table(self.table, *map(sa.column, row))
                    connection.execute(table.insert(), row)


Forge = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]


def _each(**values: Any) -> Forge:
    return lambda rows: [{**row, **values} for row in rows]


def _facts(**facts: Any) -> Forge:
    return lambda rows: [
        {**row, "facts": json.dumps({**json.loads(row["facts"]), **facts})} for row in rows
    ]


def _one_more(**values: Any) -> Forge:
    return lambda rows: [*rows, *({**row, **values} for row in rows[:1])]


def _next_one(column: str) -> Forge:
    """Each row gets the next one's value."""
    return lambda rows: [
        {**row, column: other[column]} for row, other in zip(rows, rows[1:] + rows[:1], strict=True)
    ]


SQL = "BLOB); DROP TABLE encrypted_files; CREATE TABLE dekctl_forged (x INTEGER); --"
TABLES = ("dekctl_tables", ("table_name",))
RUNS = ("dekctl_runs", ("run_id",))
BRANCH_KEYS = ("dekctl_branch_keys", ("branch_id",))
QUARANTINE = ("dekctl_quarantine", ("table_name", "pk_hash"))
FAR = "2999-01-01 00:00:00.000"

FORGERIES: dict[str, Forgery] = {
    "a type that is SQL": Forgery(*TABLES, _facts(plaintext_type=SQL)),
    "a definition that is SQL": Forgery(*TABLES, _facts(plaintext_definition=SQL)),
    "a column of the application": Forgery(*TABLES, _facts(added=["filename"])),
    "another column of keys": Forgery(*TABLES, _facts(columns={"plaintext_column": "filename"})),
    "no entry": Forgery(*TABLES, lambda _: []),
    "one more table": Forgery(*TABLES, _one_more(table_name=f"x'; {SQL}")),
    "a run of tomorrow": Forgery(*RUNS, _each(state="running", host="far", heartbeat_at=FAR)),
    "a run without a time": Forgery(*RUNS, _each(state="running", host="far", heartbeat_at="?")),
    "a result that is none": Forgery(*RUNS, _each(result="[1]", position=SQL, shard="x")),
    "exchanged branch keys": Forgery(*BRANCH_KEYS, _next_one("wrapped")),
    "damaged branch keys": Forgery(*BRANCH_KEYS, _each(wrapped=b"\0")),
    "branch keys of another KEK": Forgery(*BRANCH_KEYS, _each(kek_id="env:0123456789abcdef")),
    "branch keys of another table": Forgery(*BRANCH_KEYS, _each(context_name="other")),
    "no branch keys": Forgery(*BRANCH_KEYS, lambda _: []),
    "a branch key more": Forgery(*BRANCH_KEYS, _one_more(branch_id="0" * 32)),
    "no quarantine": Forgery(*QUARANTINE, lambda _: []),
    "a row in quarantine": Forgery(*QUARANTINE, _one_more(pk_hash=SQL[:60], pk=SQL, reason=SQL)),
}


def assert_no_sql_ran(engine: sa.Engine, table: str) -> None:
    """Fail where a forged text was run."""
    inspector = sa.inspect(engine)
    assert inspector.has_table(table)
    assert not inspector.has_table("dekctl_forged")
    assert "filename" in {column["name"] for column in inspector.get_columns(table)}
