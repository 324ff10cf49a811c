"""Quarantine: the rows that commands skip, each with a reason that never shows a key."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection

from dekctl.db.database import Database
from dekctl.db.row import PrimaryKey
from dekctl.kms.context import NoText, key_name
from dekctl.ledger.run import Run
from dekctl.ledger.tables import tables, time_text


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A row in quarantine: which one, the operation that failed, why, and since when (UTC)."""

    pk: str
    operation: str
    reason: str
    since: str


class Quarantine:
    """The rows in quarantine of one database."""

    def __init__(self, database: Database, schema: str | None) -> None:
        self._database = database
        self.table = tables(schema)["quarantine"]

    def add(
        self, connection: Connection, run: Run, faults: Sequence[tuple[PrimaryKey, str]]
    ) -> None:
        """Quarantine rows with a reason that never shows a key. A new reason replaces the old."""
        if not faults:
            return
        now = time_text(self._database.now(connection))
        connection.execute(
            self._database.dialect.upsert(self.table, ("operation", "reason", "run_id", "since")),
            [
                {
                    "table_name": run.table_name,
                    "pk_hash": pk_hash(pk),
                    "pk": key_name(pk),
                    "operation": run.operation,
                    "reason": reason,
                    "run_id": run.run_id,
                    "since": now,
                }
                for pk, reason in faults
            ],
        )

    def release(self, connection: Connection, table_name: str, keys: Sequence[PrimaryKey]) -> None:
        """Take rows out of quarantine."""
        self.forget(connection, table_name, [pk_hash(pk) for pk in keys])

    def forget(self, connection: Connection, table_name: str, hashes: Sequence[str]) -> None:
        """Take entries out of quarantine by the hashes of their primary keys."""
        for start in range(0, len(hashes), 500):
            connection.execute(
                self.table.delete().where(
                    self.table.c.table_name == table_name,
                    self.table.c.pk_hash.in_(hashes[start : start + 500]),
                )
            )

    def hashes(self, connection: Connection, table_name: str) -> set[str]:
        """The hashes of the primary keys of all rows in quarantine."""
        return set(
            connection.execute(
                sa.select(self.table.c.pk_hash).where(self.table.c.table_name == table_name)
            ).scalars()
        )

    def among(
        self, connection: Connection, table_name: str, keys: Sequence[PrimaryKey]
    ) -> set[PrimaryKey]:
        """Which of these rows are in quarantine."""
        by_hash = {pk_hash(pk): pk for pk in keys}
        hashes = list(by_hash)
        found: set[PrimaryKey] = set()
        for start in range(0, len(hashes), 500):
            rows = connection.execute(
                sa.select(self.table.c.pk_hash).where(
                    self.table.c.table_name == table_name,
                    self.table.c.pk_hash.in_(hashes[start : start + 500]),
                )
            )
            found |= {by_hash[row.pk_hash] for row in rows}
        return found

    def count(self, connection: Connection, table_name: str) -> int:
        """How many rows are in quarantine."""
        return connection.execute(
            sa.select(sa.func.count()).where(self.table.c.table_name == table_name)
        ).scalar_one()

    def listed(self, table_name: str, limit: int = 20) -> list[Quarantined]:
        """The rows in quarantine, oldest first."""
        q = self.table.c
        with self._database.transaction() as connection:
            rows = connection.execute(
                sa.select(q.pk, q.operation, q.reason, q.since)
                .where(q.table_name == table_name)
                .order_by(q.since, q.pk_hash)
                .limit(limit)
            )
            return [Quarantined(*row) for row in rows]


def pk_hash(pk: PrimaryKey) -> str:
    """The key of an entry: a primary key may be longer than an index allows.

    A key that cannot be written as text is told from one that reads like its name.
    """
    odd = (b"\xff" + part for part in pk if isinstance(part, NoText))
    return hashlib.sha256(key_name(pk).encode() + b"".join(odd)).hexdigest()
