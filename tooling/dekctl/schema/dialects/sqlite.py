"""SQLite has no ALTER COLUMN: Alembic's batch mode copies the table.

A copy made by reflection can lose what reflection does not see (a collation, a CHECK). So the new
table is compared with the old one as SQLite itself describes both. If they differ in anything but
the column to change, the step is refused and its transaction rolled back.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, PendingRollbackError

from dekctl.db import alembic_op as op
from dekctl.db.dialects.sqlite import bare_words
from dekctl.db.shape import Column, Stage
from dekctl.db.table import DekTable
from dekctl.errors import DatabaseError, RefusedError
from dekctl.schema.dialects.base import (
    Dependent,
    FindOddities,
    Oddity,
    SchemaDialect,
    Trigger,
    reference,
)

_WORDS = ("CHECK", "COLLATE", "GENERATED", "CONFLICT", "REFERENCES", "DEFERRABLE", "STRICT")
"""Words that a definition and its copy must contain equally often: no pragma reports them."""


def _references(connection: Connection, table: DekTable) -> Iterator[Oddity]:
    """Foreign keys of other tables to the plaintext column."""
    found = connection.execute(
        sa.text(
            "SELECT m.name, f.id FROM sqlite_master AS m, pragma_foreign_key_list(m.name) AS f "
            "WHERE m.type = 'table' AND f.\"table\" = :name COLLATE NOCASE "
            'AND f."to" = :column COLLATE NOCASE ORDER BY 1, 2'
        ),
        {"name": table.config.bare_name, "column": table.config.plaintext_column},
    )
    for other, number in found:
        yield reference(table, other, f"number {number}")


def _uncopyable(connection: Connection, table: DekTable) -> Iterator[Oddity]:
    """A table that expand would have to copy, and could not: tried on an empty one in memory."""
    if table.stage is not Stage.LEGACY or table.column("plaintext").nullable:
        return
    # Other tables, too: foreign keys refer to them.
    made_by = connection.execute(
        sa.text(
            "SELECT sql FROM sqlite_master WHERE sql LIKE 'CREATE TABLE %' AND name NOT LIKE "
            "'sqlite_%' OR tbl_name = :name AND type = 'index' AND sql > '' ORDER BY type DESC"
        ),
        {"name": table.config.bare_name},
    ).scalars()
    from alembic.operations import Operations  # noqa: PLC0415 - slow to import
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415 - as above

    memory = sa.create_engine("sqlite://")
    try:
        with memory.begin() as trial:
            for statement in made_by:
                trial.exec_driver_sql(statement)
            if "AUTOINCREMENT" in bare_words(_definition(trial, table.config.bare_name)):
                _keep_sequence(trial, table.config.bare_name, 1)
            with Operations.context(MigrationContext.configure(trial)):
                rebuild(table, table.config.plaintext_column, nullable=True, offline=False)
    except RefusedError as refusal:
        yield Oddity(refusal.message, refusal.hint or "")
    except DBAPIError as error:
        name, column = table.config.bare_name, table.config.plaintext_column
        unread = _refusal(name, column, f"its definition ({error.orig})", nullable=True)
        yield Oddity(unread.message, unread.hint or "")
    finally:
        memory.dispose()


class SQLiteSchema(SchemaDialect):
    """SQLite."""

    oddities: ClassVar[Mapping[str, FindOddities]] = {
        "foreign keys to the plaintext column": _references,
        "tables that cannot be copied": _uncopyable,
    }

    def dependents(self, connection: Connection, table: DekTable) -> list[Dependent]:
        config = table.config
        found = connection.exec_driver_sql(
            "SELECT type, name, sql FROM sqlite_master "
            "WHERE type IN ('view', 'trigger') ORDER BY 1, 2"
        )
        computed = [
            Dependent(
                "generated column", name, f"ALTER TABLE {table.quoted_name} DROP COLUMN {name}"
            )
            for name, text in _computed(connection, config.bare_name)
            if re.search(rf"\b{re.escape(config.plaintext_column)}\b", text, re.IGNORECASE)
        ]
        return computed + [
            Dependent(kind, name, f"DROP {kind.upper()} {name}")
            for kind, name, sql in found
            if name != config.trigger
            and all(
                re.search(rf"\b{re.escape(word)}\b", sql, re.IGNORECASE)
                for word in (config.bare_name, config.plaintext_column)
            )
        ]

    def let_be_null(self, table: DekTable, column: Column) -> str:
        return (
            f"SQLite cannot change it: drop it (ALTER TABLE {table.quoted_name} DROP COLUMN "
            f"{table.quote(column.name)}), or name another one in [table]"
        )

    def drop_default(self, table: DekTable, column: Column) -> str:
        return f"make {table.quoted_name} again without the default of {column.name}"

    def drop_index(self, table: DekTable, index: str, *, of_constraint: bool) -> str:
        if of_constraint:
            return f"make {table.quoted_name} again without that UNIQUE"
        return super().drop_index(table, index, of_constraint=False)

    def text_type(self, length: int) -> sa.types.TypeEngine[str]:  # noqa: ARG002
        return sa.Text()  # the only type for texts in a STRICT table

    def set_plaintext_nullable(
        self,
        table: DekTable,
        metadata: Mapping[str, Any],  # noqa: ARG002
        *,
        nullable: bool,
        offline: bool,
    ) -> None:
        rebuild(table, table.config.plaintext_column, nullable=nullable, offline=offline)

    def lock(self, table: str, others: Sequence[str]) -> list[str]:  # noqa: ARG002
        return []  # one writer at a time, and the step is the writer

    def script(self, text: str, *, locks: bool) -> str:  # noqa: ARG002
        # Its client continues after an error unless it is told not to.
        return f".bail on\nBEGIN IMMEDIATE;\n\n{text}COMMIT;\n"

    # -- the row trigger -----------------------------------------------------------------------

    def open_trigger(self, table: DekTable) -> list[str]:
        return [*self.drop_trigger(table), _trigger(table)]

    def drop_trigger(self, table: DekTable) -> list[str]:
        return [f"DROP TRIGGER IF EXISTS {table.config.trigger}"]

    def triggers(self, connection: Connection, table: DekTable) -> list[Trigger]:
        found = connection.execute(
            sa.text(
                "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' "
                "AND tbl_name = :name COLLATE NOCASE"
            ),
            {"name": table.config.bare_name},
        )
        return [
            Trigger(
                name,
                intact=name == table.config.trigger and sql == _trigger(table),
            )
            for name, sql in found
        ]


DIALECT = SQLiteSchema()


def _trigger(table: DekTable) -> str:
    """AFTER: a trigger cannot change the new row. It runs within the statement all the same."""
    plaintext, wrapped = table.quoted("plaintext"), table.quoted("wrapped")
    emptied = ", ".join(f"{column} = NULL" for column in table.wrapped_columns)
    row = " AND ".join(f"{column} = NEW.{column}" for column in table.quoted_key)
    return (
        f"CREATE TRIGGER {table.config.trigger} AFTER UPDATE OF {plaintext} "
        f"ON {table.quoted_name} FOR EACH ROW "
        f"WHEN NEW.{plaintext} COLLATE BINARY IS NOT OLD.{plaintext} "
        f"AND length(NEW.{plaintext}) > 0 AND OLD.{wrapped} IS NOT NULL "
        f"AND NEW.{wrapped} COLLATE BINARY IS OLD.{wrapped} "
        f"BEGIN UPDATE {table.quoted_name} SET {emptied} WHERE {row}; END"
    )


def rebuild(table: DekTable, column: str, *, nullable: bool, offline: bool) -> None:
    """Let a column be NULL, or forbid it.

    Raises:
        RefusedError: the copy would lose something.
    """
    name = table.config.bare_name
    if offline:
        with op.batch_alter_table(name, recreate="always", copy_from=_reflect(table)) as batch:
            batch.alter_column(column, nullable=nullable)
        return
    bind = op.get_bind()
    # Dropping the old table must not trigger the actions of other tables' foreign keys.
    if bind.exec_driver_sql("PRAGMA foreign_keys").scalar_one():
        raise DatabaseError("foreign keys are enforced on dekctl's own SQLite connection")
    before = _describe(bind, table.quoted_name, name, column)
    if any(hidden for *_, hidden in before["columns"]):
        raise _refusal(name, column, "its generated columns", nullable=nullable)
    definition = _definition(bind, name)
    more = bind.execute(
        sa.text(
            "SELECT name, sql FROM sqlite_master WHERE tbl_name = :name "
            "AND type IN ('trigger', 'index') AND sql IS NOT NULL"
        ),
        {"name": name},
    ).all()
    # Views and triggers of other tables that name this one would make renaming the copy fail.
    legacy = bind.exec_driver_sql("PRAGMA legacy_alter_table").scalar_one()
    bind.exec_driver_sql("PRAGMA legacy_alter_table = ON")
    words = bare_words(definition)
    try:
        # The comparison finds whatever reflection warns about.
        with (
            warnings.catch_warnings(action="ignore"),
            op.batch_alter_table(
                name,
                recreate="always",
                table_kwargs={
                    "sqlite_autoincrement": "AUTOINCREMENT" in words,
                    "sqlite_with_rowid": "ROWID" not in words,
                    "sqlite_strict": "STRICT" in words,
                },
            ) as batch,
        ):
            batch.alter_column(column, nullable=nullable)
        # As they were written: reflection misses triggers, and expressions in indexes.
        for index_or_trigger, sql in more:
            _recreate(bind, index_or_trigger, sql)
        _keep_sequence(bind, name, before["sequence"])
    except PendingRollbackError as error:  # Alembic cleaned up after an interrupt
        raise error.__context__ or error from None
    finally:
        with suppress(PendingRollbackError):  # a connection that was interrupted ends anyway
            bind.exec_driver_sql(f"PRAGMA legacy_alter_table = {legacy}")
    after = _describe(bind, table.quoted_name, name, column)
    lost = [part for part in before if before[part] != after[part]]
    if lost:
        raise _refusal(name, column, f"its {' and '.join(lost)}", nullable=nullable)


def _refusal(name: str, column: str, what: str, *, nullable: bool) -> RefusedError:
    return RefusedError(
        f"dekctl cannot copy the SQLite table {name} without changing {what}",
        hint=f"make {column} {'nullable' if nullable else 'NOT NULL'} by hand "
        "(sqlite.org/lang_altertable.html, section 7), then run the same command again",
    )


def _describe(bind: Connection, quoted: str, name: str, column: str) -> dict[str, Any]:
    """All that SQLite knows about a table, except whether ``column`` may be NULL."""
    columns = [
        tuple(value for i, value in enumerate(row) if not (row[1] == column and i == 3))
        for row in bind.exec_driver_sql(f"PRAGMA table_xinfo({quoted})")
    ]
    keys = sorted(
        tuple(row)[1:] for row in bind.exec_driver_sql(f"PRAGMA foreign_key_list({quoted})")
    )
    indexes = []
    for index in bind.exec_driver_sql(f"PRAGMA index_list({quoted})").all():
        parts = bind.execute(
            sa.text("SELECT cid, desc, coll, key FROM pragma_index_xinfo(:name)"),
            {"name": index[1]},
        )
        sql = bind.execute(
            sa.text("SELECT sql FROM sqlite_master WHERE type = 'index' AND name = :name"),
            {"name": index[1]},
        ).scalar_one_or_none()
        # An automatic index (of UNIQUE) has no SQL, and its name contains a counter.
        label = index[1] if sql else ""
        indexes.append((label, sql or "", index[2], index[4], tuple(map(tuple, parts))))
    triggers = bind.execute(
        sa.text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = :name"),
        {"name": name},
    )
    words = bare_words(_definition(bind, name))
    return {
        "columns": columns,
        "foreign keys": keys,
        "indexes": sorted(indexes, key=repr),
        "triggers": sorted(map(tuple, triggers)),
        "sequence": _sequence(bind, name),
        "AUTOINCREMENT or ROWID": [word in words for word in ("AUTOINCREMENT", "ROWID")],
        "clauses": {word: words.count(word) for word in _WORDS},
    }


def _definition(bind: Connection, name: str) -> str:
    return str(
        bind.execute(
            sa.text("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = :name"),
            {"name": name},
        ).scalar_one()
    )


def _computed(connection: Connection, name: str) -> Iterator[tuple[str, str]]:
    """Each generated column, and the beginning of its expression."""
    for column in sa.inspect(connection).get_columns(name):
        if "computed" in column:
            # SQLAlchemy reads none where the words GENERATED ALWAYS are left out.
            own = rf"\b{re.escape(column['name'])}\b[^,]*?\bAS\s*\(([^)]*)"
            found = re.search(own, _definition(connection, name), re.IGNORECASE)
            yield column["name"], column["computed"]["sqltext"] or (found[1] if found else "")


def _recreate(bind: Connection, name: str, sql: str) -> None:
    found = bind.execute(
        sa.text("SELECT type, sql FROM sqlite_master WHERE name = :name"), {"name": name}
    ).one_or_none()
    if found is not None and found.sql == sql:
        return
    if found is not None:
        quote = bind.dialect.identifier_preparer.quote
        bind.exec_driver_sql(f"DROP {found.type} {quote(name)}")
    bind.exec_driver_sql(sql)


def _sequence(bind: Connection, name: str) -> int | None:
    """The highest primary key that AUTOINCREMENT has assigned; None without AUTOINCREMENT."""
    has = bind.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'")
    if has.first() is None:
        return None
    found: int | None = bind.execute(
        sa.text("SELECT seq FROM sqlite_sequence WHERE name = :name"), {"name": name}
    ).scalar_one_or_none()
    return found


def _keep_sequence(bind: Connection, name: str, sequence: int | None) -> None:
    """Carry the sequence over: a primary key that was assigned once must not be assigned again."""
    if sequence is None:
        return
    values = {"name": name, "seq": sequence}
    bind.execute(sa.text("DELETE FROM sqlite_sequence WHERE name = :name"), values)
    bind.execute(sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"), values)


def _reflect(table: DekTable) -> sa.Table:
    with table.database.transaction() as connection:
        return sa.Table(table.config.bare_name, sa.MetaData(), autoload_with=connection)
