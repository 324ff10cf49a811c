"""The table ``dekctl_branch_keys``: the branch keys of every table, wrapped by KMS.

It is no part of the ledger, although the lineage ``migrations/ledger`` makes both. A ledger can be
thrown away; without its branch key no V3 row can be decrypted. So this table is backed up and
restored with the application's tables, and never dropped while a V3 row exists.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime
from functools import cache
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection

from dekctl.db.stored import StoredBlob, StoredText
from dekctl.kms.branch_key import BranchKey

NAME = "dekctl_branch_keys"
OPTIONS: dict[str, Any] = {
    "mysql_charset": "utf8mb4",
    "mysql_row_format": "DYNAMIC",
    "mysql_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "mariadb_row_format": "DYNAMIC",
    "mariadb_engine": "InnoDB",
}
"""How MariaDB and MySQL make dekctl's own tables, whatever a database's defaults are: names may be
in any script, and need keys of more than 767 bytes."""
IDS_PER_QUERY = 500

Result = TypeVar("Result")


class RunTransaction(Protocol):
    """Runs work in a transaction, as :meth:`dekctl.db.database.Database.run` does."""

    def __call__(self, work: Callable[[Connection], Any], *, write: bool = False) -> Any: ...


@cache  # SQLAlchemy keeps what it has compiled for each table object
def branch_keys_table(schema: str | None) -> sa.Table:
    """The table as the lineage ``migrations/ledger`` makes it, at the newest revision."""
    return sa.Table(
        NAME,
        sa.MetaData(schema=schema),
        sa.Column("branch_id", StoredText(32), primary_key=True),
        sa.Column("context_name", StoredText(255), nullable=False),
        sa.Column(
            "wrapped",
            StoredBlob().with_variant(sa.VARBINARY(6144), "mysql", "mariadb"),
            nullable=False,
        ),
        sa.Column("kek_id", StoredText(2048), nullable=False),
        sa.Column("created_at", StoredText(32), nullable=False),
        sa.Column("max_uses", sa.BigInteger, nullable=False),
        **OPTIONS,
    )


class BranchTable:
    """The :class:`dekctl.kms.branch.keys.BranchStore` in the application's database."""

    def __init__(self, run: RunTransaction, schema: str | None) -> None:
        """``run`` runs a transaction; ``schema`` is the database schema of dekctl's own tables."""
        self._run = run
        self._schema = schema
        self._table = branch_keys_table(schema)

    def exists(self) -> bool:
        """Whether there is such a table."""
        found: bool = self._run(lambda c: sa.inspect(c).has_table(NAME, schema=self._schema))
        return found

    def keks(self, context_name: str) -> dict[str, int]:
        """How many branch keys of a table each KEK wraps. A KEK listed here is in use."""
        if not self.exists():
            return {}
        t = self._table.c
        query = (
            sa.select(t.kek_id, sa.func.count())
            .where(t.context_name == context_name)
            .group_by(t.kek_id)
        )
        rows = self._run(lambda connection: connection.execute(query).all())
        return {row[0]: row[1] for row in rows}

    def add(self, key: BranchKey) -> None:
        """Store a new branch key; it is committed when this returns."""
        insert = self._table.insert().values(
            branch_id=key.branch_id,
            context_name=key.context_name,
            wrapped=key.wrapped,
            kek_id=key.kek_id,
            created_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"),
            max_uses=key.max_uses,
        )

        def store(connection: Connection) -> None:
            # Runs again after a commit whose response was lost: the key may be stored already.
            if not _get(connection, self._table, [key.branch_id]):
                connection.execute(insert)

        self._run(store, write=True)

    def get(self, branch_ids: Iterable[str]) -> dict[str, BranchKey]:
        """Read branch keys by id. Missing ones are left out."""
        ids = list(branch_ids)
        if not ids:
            return {}

        def read(connection: Connection) -> list[BranchKey]:
            return [
                key
                for start in range(0, len(ids), IDS_PER_QUERY)
                for key in _get(connection, self._table, ids[start : start + IDS_PER_QUERY])
            ]

        return {key.branch_id: key for key in self._run(read)}

    def not_stored(self, transaction: Connection, keys: Collection[BranchKey]) -> set[str]:
        """Return the ids of those branch keys that are not stored exactly as given.

        The others are locked: nobody can change or delete them before the transaction ends. Call
        it in the transaction that writes rows under them.
        """
        wanted = sorted({key.branch_id for key in keys})
        found: dict[str, BranchKey] = {}
        for start in range(0, len(wanted), IDS_PER_QUERY):
            ids = wanted[start : start + IDS_PER_QUERY]
            query = _query(self._table, ids).with_for_update(read=True)
            found |= {row.branch_id: _key(row) for row in transaction.execute(query)}
        return {key.branch_id for key in keys if found.get(key.branch_id) != key}

    def page(self, context_name: str, after: str, size: int) -> list[BranchKey]:
        """Read the next ``size`` branch keys of a table, by id."""
        t = self._table.c
        query = (
            _select(self._table)
            .where(t.context_name == context_name, t.branch_id > after)
            .order_by(t.branch_id)
            .limit(size)
        )
        return [_key(row) for row in self._run(lambda c: c.execute(query).all())]

    def replace(self, old: BranchKey, wrapped: bytes, kek_id: str) -> bool:
        """Store a rewrapped branch key unless another process changed it; whether it did so."""
        t = self._table.c
        update = (
            self._table.update()
            .where(t.branch_id == old.branch_id, t.wrapped == old.wrapped)
            .values(wrapped=wrapped, kek_id=kek_id)
        )
        return bool(self._run(lambda c: c.execute(update).rowcount, write=True))


def _select(table: sa.Table) -> sa.Select[Any]:
    t = table.c
    return sa.select(t.branch_id, t.context_name, t.wrapped, t.kek_id, t.max_uses)


def _get(connection: Connection, table: sa.Table, ids: list[str]) -> list[BranchKey]:
    return [_key(row) for row in connection.execute(_query(table, ids))]


def _query(table: sa.Table, ids: list[str]) -> sa.Select[Any]:
    return _select(table).where(table.c.branch_id.in_(ids)).order_by(table.c.branch_id)


def _key(row: Any) -> BranchKey:
    return BranchKey(row.branch_id, row.context_name, bytes(row.wrapped), row.kek_id, row.max_uses)
