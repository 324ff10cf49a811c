"""The table that holds the keys: its shape, reading it page by page, and safe writes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from dekctl.config import TableConfig
from dekctl.db.database import Database
from dekctl.db.inspection import inspect_table
from dekctl.db.row import Change, PrimaryKey, Row, refused_by_trigger
from dekctl.db.shape import Shard, TableShape
from dekctl.errors import RefusedError

MAX_ROWS_READ = 20_000
"""Maximum number of rows that a statement reads to find a shard's, or a page if that is larger."""

MAX_COUNTED = 100_000
"""A table with fewer rows is counted, a larger one is estimated."""


class DekTable(TableShape):
    """A configured table in a database, inspected once, when the object is made."""

    def __init__(self, database: Database, config: TableConfig) -> None:
        """Inspect the table.

        Raises:
            UsageError: the table, its primary key or its key columns are not as configured.
            DatabaseError: the database cannot be reached.
        """
        self.database = database
        columns = inspect_table(database, config)
        preparer = database.engine.dialect.identifier_preparer
        super().__init__(config, columns, database.dialect, preparer)

    def refuse_ambiguous_key(self) -> None:
        """Refuse a primary key in which two different values read the same in the context.

        Raises:
            RefusedError: it has values of more than one type, or NULL (SQLite).
        """
        with self.database.transaction(patient=True) as connection:
            found = self.database.dialect.ambiguous_key(connection, self)
        if found is not None:
            problem, query = found
            raise RefusedError(
                f"{self.config.name}.{problem}",
                hint=f"correct these rows, then run the same command again; see: {query}",
            )

    def refuse_not_transactional(self) -> None:
        """Refuse a table, or dekctl's own tables, whose engine ignores COMMIT (MariaDB, MySQL).

        A run that was killed there would leave rows half written.

        Raises:
            RefusedError: there is one.
        """
        with self.database.transaction() as connection:
            found = self.database.dialect.not_transactional(connection, self)
        if found:
            names = ", ".join(f"{name} ({engine})" for name, engine in found)
            alter = " ".join(f"ALTER TABLE {name} ENGINE=InnoDB;" for name, _ in found)
            raise RefusedError(
                f"the storage engine has no transactions, so an interrupted run could lose keys: "
                f"{names}",
                hint=f"change it, then run the same command again: {alter}",
            )

    def copies_of_rows(self) -> str | None:
        """A warning about what runs on dekctl's own UPDATEs and may copy raw keys, if anything."""
        with self.database.transaction() as connection:
            found = self.database.dialect.copiers(connection, self)
        if not found:
            return None
        return (
            f"{', '.join(found)} of {self.config.name} also sees dekctl's own UPDATEs: if it "
            f"copies old rows, it copies the keys in {self.config.plaintext_column}; look at it "
            "before you go on, and remove its copies after scrub"
        )

    def history_rows(self) -> int | None:
        """How many rows of its history hold a plaintext; None where it keeps no history."""
        with self.database.transaction(patient=True) as connection:
            return self.database.dialect.history_rows(connection, self)

    def _shard_filter(self, shard: Shard | None) -> str | None:
        if shard is None:
            return None
        number = self.database.dialect.shard_number(self.quoted_key, is_integer=self.key_is_integer)
        # abs() last: the lowest integer has no positive counterpart.
        return f"abs({number} % {shard.count}) = {shard.index - 1}"

    # -- reading -------------------------------------------------------------------------------

    def read(
        self,
        *,
        after: PrimaryKey | None,
        size: int,
        due_sql: str,
        until: PrimaryKey | None = None,
        shard: Shard | None = None,
        cancel: threading.Event | None = None,
    ) -> list[Row]:
        """Read the next page in transactions of its own; empty at the end, or when cancelled.

        A shard may be sparse, so the table is searched in steps of bounded length.
        """
        run = self.database.run
        bounded = shard is None or until is not None
        while cancel is None or not cancel.is_set():
            end = until
            if not bounded:
                assert shard is not None
                step = max(size, min(size * shard.count, MAX_ROWS_READ))
                end = run(lambda c, after=after, step=step: self.boundary(c, after, step))  # type: ignore[misc]
            rows = run(
                lambda c, after=after, end=end: self.page(  # type: ignore[misc]
                    c, after=after, size=size, due_sql=due_sql, until=end, shard=shard
                )
            )
            if rows or bounded or end is None:
                return rows
            after = end
        return []

    def page(
        self,
        connection: Connection,
        *,
        after: PrimaryKey | None,
        size: int,
        due_sql: str,
        until: PrimaryKey | None = None,
        shard: Shard | None = None,
    ) -> list[Row]:
        """Read the next ``size`` rows in primary-key order, due or not.

        The page is bounded by rows read, not by rows found, so no statement runs long on a table
        where little is left to do. A row that is not due has its primary key only.

        Args:
            connection: an open transaction.
            after: the last primary key of the page before; None at the start.
            size: maximum number of rows to read.
            due_sql: condition for the rows that the operation has something to do with.
            until: the last primary key to read; None for the end of the table.
            shard: read only this part of the table.

        Raises:
            RefusedError: the row that the page should begin after is in it.
        """
        where: list[str] = []
        parameters: dict[str, Any] = {}
        if after is not None:
            where.append(self._beyond(after, ">", "after", parameters))
        if until is not None:
            where.append(self._beyond(until, "<=", "until", parameters))
        part = self._shard_filter(shard)
        if part:
            where.append(part)
        statement = f"SELECT {self.select_list(due_sql)} FROM {self.quoted_name}"
        if where:
            statement += " WHERE " + " AND ".join(where)
        statement += f" ORDER BY {', '.join(self.quoted_key)} LIMIT {int(size)}"
        rows = self._rows(connection, statement, parameters)
        last = None if after is None else tuple(after)
        if last is not None and any(row.pk == last for row in rows):
            raise RefusedError(
                f"the server takes a primary key of {self.config.name} for greater than itself, so "
                "a run would never end: what is read is not what is stored, or compared otherwise "
                "than sorted",
                hint="set primary_key in [table] to another unique key of the table",
            )
        return rows

    def boundary(
        self, connection: Connection, after: PrimaryKey | None, rows: int
    ) -> PrimaryKey | None:
        """The primary key ``rows`` rows further in the index; None where the table ends before it.

        Args:
            connection: an open transaction.
            after: where to start; None at the beginning of the table.
            rows: how many rows to step over.
        """
        parameters: dict[str, Any] = {}
        statement = f"SELECT {', '.join(self.quoted_key)} FROM {self.quoted_name}"
        if after is not None:
            statement += f" WHERE {self._beyond(after, '>', 'after', parameters)}"
        statement += f" ORDER BY {', '.join(self.quoted_key)} LIMIT 1 OFFSET {int(rows) - 1}"
        found = connection.execute(sa.text(statement), parameters).first()
        return tuple(found) if found is not None else None

    def fetch(self, connection: Connection, keys: Sequence[PrimaryKey], due_sql: str) -> list[Row]:
        """Read these rows again, in primary-key order; but those deleted."""
        rows: list[Row] = []
        for where, parameters in self._among(keys):
            statement = (
                f"SELECT {self.select_list(due_sql)} FROM {self.quoted_name} WHERE {where} "
                f"ORDER BY {', '.join(self.quoted_key)}"
            )
            rows += self._rows(connection, statement, parameters)
        return rows

    def values_of(
        self, expression: str, keys: Sequence[PrimaryKey]
    ) -> dict[PrimaryKey, tuple[Any, ...]]:
        """What SQL of the operator's gives for each of these rows; deleted ones are left out.

        Args:
            expression: one or more expressions over the table's columns, as a person typed them.
                Never text from a database.
            keys: the rows.

        Raises:
            DatabaseError: the database refused the expression, or cannot be reached.
        """
        written = expression.replace(":", "\\:")  # it has no parameters
        width = len(self.quoted_key)

        def read(connection: Connection) -> dict[PrimaryKey, tuple[Any, ...]]:
            found: dict[PrimaryKey, tuple[Any, ...]] = {}
            for where, parameters in self._among(keys):
                statement = (
                    f"SELECT {', '.join(self.quoted_key)}, {written} FROM {self.quoted_name} "
                    f"WHERE {where}"
                )
                for row in connection.execute(sa.text(statement), parameters):
                    found[tuple(row[:width])] = tuple(row[width:])
            return found

        return self.database.run(read)

    def _among(self, keys: Sequence[PrimaryKey]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Conditions for the rows with these keys, and their parameters."""
        for start in range(0, len(keys), 500):  # SQLite bounds the number of parameters
            parameters: dict[str, Any] = {}
            alternatives = []
            for i, key in enumerate(keys[start : start + 500]):
                named = self._named(key, f"k{i}_", parameters)
                equal = zip(self.quoted_key, named, strict=True)
                alternatives.append(" AND ".join(f"{column} = {value}" for column, value in equal))
            yield " OR ".join(f"({a})" for a in alternatives), parameters

    def _rows(
        self, connection: Connection, statement: str, parameters: dict[str, Any]
    ) -> list[Row]:
        width = len(self.quoted_key)
        result = connection.execute(sa.text(statement), parameters)
        assert result.cursor is not None
        rows = result.cursor.fetchall()  # the driver's own tuples: half the time of SQLAlchemy's
        result.close()
        if width == 1:  # as nearly everywhere, and a third faster
            return [Row((pk,), p, w, v, k, idle is None, by) for pk, p, w, v, k, idle, by in rows]
        parts = ((found[:width], found[width:]) for found in rows)
        return [
            Row(tuple(pk), p, w, v, k, idle is None, by) for pk, (p, w, v, k, idle, by) in parts
        ]

    def first_plaintexts(self, rows: int) -> list[bytes | str]:
        """The plaintexts among the first ``rows`` rows, as the column holds them."""
        column = self.quoted("plaintext")
        sql = self.database.dialect.selected(column, is_text=self.column("plaintext").is_text)
        query = (
            f"SELECT plaintext FROM (SELECT {sql} AS plaintext FROM {self.quoted_name} "
            f"ORDER BY {', '.join(self.quoted_key)} LIMIT {int(rows)}) AS first_rows "
            "WHERE plaintext IS NOT NULL"
        )
        with self.database.transaction() as connection:
            found = connection.exec_driver_sql(query).scalars().all()
        return [value for value in found if isinstance(value, bytes | str)]

    def _beyond(
        self, key: PrimaryKey, operator: str, prefix: str, parameters: dict[str, Any]
    ) -> str:
        """SQL for ``primary key > key`` (or ``<=``) that an index on the key can serve."""
        return self.database.dialect.compare_keys(
            self.quoted_key, operator, self._named(key, prefix, parameters)
        )

    def _named(self, key: PrimaryKey, prefix: str, parameters: dict[str, Any]) -> list[str]:
        """SQL of the values of a primary key, which are added to the parameters."""
        names = [f"{prefix}{i}" for i in range(len(key))]
        parameters.update(zip(names, key, strict=True))
        sql = self.database.dialect.parameter
        return [sql(f":{name}", value) for name, value in zip(names, key, strict=True)]

    def estimate_rows(self) -> int:
        """Estimate the number of rows without counting a large table."""
        return self.rows_at_a_glance()[0]

    def rows_at_a_glance(self) -> tuple[int, bool]:
        """The number of rows, and whether it was counted; a large table's is an estimate."""
        with self.database.transaction() as connection:
            known = self.database.dialect.estimate_rows(connection, self)
            if known is not None and known > 10_000:
                return known, False
            counted = connection.exec_driver_sql(
                f"SELECT count(*) FROM (SELECT 1 FROM {self.quoted_name} LIMIT {MAX_COUNTED}) AS t"
            )
            rows = int(counted.scalar_one())
            return rows, rows < MAX_COUNTED

    # -- writing -------------------------------------------------------------------------------

    def swap(
        self,
        connection: Connection,
        columns: Sequence[str],
        changes: list[Change],
        *,
        erase: bool = False,
    ) -> list[PrimaryKey]:
        """Write each change whose row is still as it was read (compare-and-swap).

        Args:
            connection: an open transaction, for writing.
            columns: what the values of every change set (``wrapped``, ``version``, …).
            changes: in primary-key order.
            erase: first overwrite the plaintext in place, where the database does so.

        Returns:
            The primary keys of rows that another writer changed or removed.

        Raises:
            RowRefusedError: a trigger or rule made something else of a row; roll back.
            DatabaseError: the database refused.
        """
        if not changes:
            return []
        dialect = self.database.dialect
        swap = dialect.erase if erase else dialect.swap
        written = swap(connection, self, columns, changes)
        # Asked after the write: nobody can make a trigger now, until the transaction ends.
        if written == len(changes) and not dialect.may_be_rewritten(connection, self):
            return []
        dialect.run_deferred_triggers(connection)
        # Which ones? A row that is now as wanted was written, here or by a commit whose response
        # was lost; every other one was changed by another writer.
        now = {
            row.pk: row
            for row in self.fetch(connection, [c.row.pk for c in changes], due_sql="1 = 1")
        }
        others = [
            change
            for change in changes
            if (row := now.get(change.row.pk)) is None or row.fingerprint() != change.after(columns)
        ]
        # One who made the same change hides a row that was spoiled from the count. Then halves of
        # the batch are tried; of a single row the count says all.
        unclear = written and any(
            c.row.pk in now and c.is_set_in(now[c.row.pk], columns) for c in others
        )
        if unclear or len(others) > len(changes) - written:
            raise refused_by_trigger(self.config.name)
        return [change.row.pk for change in others]
