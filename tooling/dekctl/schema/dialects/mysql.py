"""MariaDB and MySQL: DDL commits at once, and a column is altered by its whole definition.

``MODIFY`` and ``ADD COLUMN`` drop what the definition leaves out: a CHECK, a comment, INVISIBLE,
the position in the table. So the definition is taken from ``SHOW CREATE TABLE``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy import Connection

from dekctl.db import alembic_op as op
from dekctl.db.dialects.mysql_session import OWN_WRITE, SQL_MODE
from dekctl.db.shape import Column
from dekctl.db.table import DekTable
from dekctl.errors import DatabaseError, RefusedError
from dekctl.ledger.column_definition import is_definition
from dekctl.schema.dialects import mysql_oddities
from dekctl.schema.dialects.base import (
    Dependent,
    FindOddities,
    SchemaDialect,
    Trigger,
    not_a_column,
    step_connection,
)

_NESTED = re.compile(r"'(?:[^'\\]|''|\\.)*'|`[^`]*`|\((?:[^()'`]|'(?:[^'\\]|''|\\.)*'|`[^`]*`)*\)")
"""Strings, names, and innermost parentheses."""
_WITH_BODY = re.compile(r"^(CREATE TRIGGER .* END IF);$", re.MULTILINE)
"""A statement with semicolons inside, for which the client needs another delimiter."""


class MySQLSchema(SchemaDialect):
    """MariaDB 10.6 or MySQL 8 or newer."""

    drop_temporary_table = "DROP TEMPORARY TABLE"
    oddities: ClassVar[Mapping[str, FindOddities]] = {
        "keys on the beginning of a column": mysql_oddities.prefix_keys,
        "online schema changes": mysql_oddities.schema_changes,
        "copies of the table": mysql_oddities.copied_tables,
        "foreign keys to the plaintext column": mysql_oddities.references,
        "read-only by default": mysql_oddities.read_only_default,
        "system versioning": mysql_oddities.histories,
        "row format": mysql_oddities.row_formats,
        "binlog format": mysql_oddities.binlog_formats,
        "zero dates": mysql_oddities.zero_dates,
        "character set of dekctl's own tables": mysql_oddities.ledger_charsets,
        "rights of the database role": mysql_oddities.rights,
    }

    # -- what is odd about a table -------------------------------------------------------------

    def dependents(self, connection: Connection, table: DekTable) -> list[Dependent]:
        config, quoted = table.config, table.quoted_name
        found = connection.execute(
            sa.text(_DEPENDENTS),
            {
                "name": config.bare_name,
                "schema": config.schema,
                "column": rf"\b{re.escape(config.plaintext_column)}\b",
                "table": rf"\b{re.escape(config.bare_name)}\b",
                "own": config.trigger,
            },
        )
        return [
            Dependent(
                kind,
                name,
                f"ALTER TABLE {quoted} DROP COLUMN {name}"
                if kind == "generated column"
                else f"DROP {kind.upper()} {name}",
            )
            for kind, name in found
        ]

    def no_room(self, connection: Connection, table: DekTable) -> str | None:
        left = ROW_BYTES - _declared_bytes(connection, table)
        needed = sum(TEXT_BYTES.values()) + BLOB_BYTES
        if left >= needed:
            return None
        return (
            f"{table.config.name} has no room for dekctl's columns: the maximum row size of "
            f"{ROW_BYTES:,} bytes leaves {max(left, 0):,}, and they need {needed:,}"
        )

    def let_be_null(self, table: DekTable, column: Column) -> str:
        kind = column.type.compile(dialect=table.database.engine.dialect)
        name, quoted = table.quoted_name, table.quote(column.name)
        return (
            f"change it: ALTER TABLE {name} MODIFY {quoted} {kind} NULL; "
            f"UPDATE {name} SET {quoted} = NULL WHERE {quoted} = ''"
        )

    # -- the columns ---------------------------------------------------------------------------

    def wrapped_type(self, connection: Connection, table: DekTable) -> sa.types.TypeEngine[Any]:
        # A VARBINARY is stored in the row: no overflow page for each key.
        left = ROW_BYTES - _declared_bytes(connection, table) - sum(TEXT_BYTES.values())
        return sa.VARBINARY(6144) if left >= 6144 + 2 else sa.BLOB()

    def plaintext_metadata(self, table: DekTable, *, offline: bool) -> dict[str, Any]:
        definition = _plaintext(table, offline=offline)
        # One that cannot be restored is not saved; contract refuses it.
        saved = definition.text if is_definition(definition.text) else None
        return {"plaintext_definition": saved, "plaintext_after": definition.after}

    def described_plaintext(self, definition: str) -> dict[str, Any]:
        text = definition.strip()
        if not is_definition(text):
            raise not_a_column(definition)
        kind = re.match(r"\w+(?:\([0-9]+\))?", text)
        assert kind is not None, "a definition begins with a type"
        nullable = re.search(r"\bNOT\s+NULL\b", _top_level(text), re.IGNORECASE) is None
        return {
            "plaintext_type": kind[0],
            "plaintext_nullable": nullable,
            "plaintext_definition": text,
        }

    def refuse_unrestorable(self, table: DekTable) -> None:
        definition = _plaintext(table, offline=True)
        if not is_definition(definition.text):
            raise RefusedError(
                f"{table.config.name}.{table.config.plaintext_column} is defined as "
                f"{definition.text!r}, which a rollback could not restore",
                hint="drop its CHECK or DEFAULT, since no row has a plaintext any more; see: "
                f"SHOW CREATE TABLE {table.quoted_name}",
            )

    def plaintext_allows_null(self, table: DekTable, *, offline: bool) -> bool:
        # Reflection takes a COMPRESSED column for one that may be NULL.
        definition = _plaintext(table, offline=offline)
        return definition.nullable() == definition.text

    def set_plaintext_nullable(
        self,
        table: DekTable,
        metadata: Mapping[str, Any],  # noqa: ARG002
        *,
        nullable: bool,
        offline: bool,
    ) -> None:
        # From the catalogue, never from the ledger: the column is there.
        definition = _plaintext(table, offline=offline)
        _alter(table, "MODIFY", definition.nullable() if nullable else definition.not_null())

    def add_plaintext(self, table: DekTable, metadata: Mapping[str, Any]) -> None:
        saved, after = metadata.get("plaintext_definition"), metadata.get("plaintext_after")
        if not saved:
            super().add_plaintext(table, metadata)
            return
        position = " FIRST" if after is None and "plaintext_after" in metadata else ""
        if after in table.columns:
            position = f" AFTER {op.get_context().dialect.identifier_preparer.quote(after)}"
        definition = Definition(saved, after)
        # Without its default: rows that are there would get it, and no wrapped key any more.
        _alter(table, "ADD COLUMN", definition.without_default().nullable() + position)
        if definition.without_default() != definition:
            _alter(table, "MODIFY", definition.nullable())

    def drop_index(self, table: DekTable, index: str, *, of_constraint: bool) -> str:  # noqa: ARG002
        return f"DROP INDEX {table.quote(index)} ON {table.quoted_name}"

    def lock(self, table: str, others: Sequence[str]) -> list[str]:
        # Under LOCK TABLES no other table may be used.
        return [f"LOCK TABLES {', '.join(f'{name} WRITE' for name in (table, *others))}"]

    def sequences(self, connection: Connection, table: DekTable) -> list[str]:
        found = connection.execute(
            sa.text(
                "SELECT column_default FROM information_schema.columns WHERE table_name = :name "
                "AND table_schema = COALESCE(:schema, DATABASE()) AND column_default LIKE '%val(%'"
            ),
            {"name": table.config.bare_name, "schema": table.config.schema},
        )
        used = re.compile(r"\b(?:next|last)val\(((?:`[^`]+`\.)?`[^`]+`)\)")
        return sorted({name for text in found.scalars() for name in used.findall(text)})

    def unlock(self) -> list[str]:
        return ["UNLOCK TABLES"]

    def script(self, text: str, *, locks: bool) -> str:
        # As in dekctl's own sessions: an engine with COMMIT, a mode that takes old dates.
        own = f"default_storage_engine = InnoDB, sql_mode = '{SQL_MODE}'"
        text = f"SET SESSION {own};\n\n{text}"
        text = _WITH_BODY.sub(r"DELIMITER //\n\1 //\nDELIMITER ;", text)
        return f"{text}UNLOCK TABLES;\n" if locks else text

    # -- the row trigger -----------------------------------------------------------------------

    def open_trigger(self, table: DekTable) -> list[str]:
        return [*self.drop_trigger(table), _create_trigger(table, _emptying(table))]

    def drop_trigger(self, table: DekTable) -> list[str]:
        schema, _, _ = table.quoted_name.rpartition(".")
        return [f"DROP TRIGGER IF EXISTS {schema}{'.' if schema else ''}{table.config.trigger}"]

    def try_trigger(self, table: DekTable) -> list[str]:
        # DDL commits at once, so the right is tried before the first column is added.
        return [*self.drop_trigger(table), _create_trigger(table, "SET @dekctl_nothing = NULL")]

    def missing_right(self, error: Exception, table: DekTable) -> str | None:
        code = error.args[0] if error.args else None
        if code == 1419:
            return "SET GLOBAL log_bin_trust_function_creators = ON, or SUPER, as there is a binlog"
        return f"TRIGGER ON {table.config.name}" if code in (1142, 1044, 1227) else None

    def triggers(self, connection: Connection, table: DekTable) -> list[Trigger]:
        found = connection.execute(
            sa.text(
                "SELECT trigger_name, event_manipulation, action_timing, action_statement "
                "FROM information_schema.triggers WHERE event_object_table = :name "
                "AND event_object_schema = COALESCE(:schema, DATABASE())"
            ),
            {"name": table.config.bare_name, "schema": table.config.schema},
        )
        return [
            Trigger(
                name,
                intact=name == table.config.trigger
                and (event, timing, body) == ("UPDATE", "BEFORE", _emptying(table)),
            )
            for name, event, timing, body in found
        ]


DIALECT = MySQLSchema()

ROW_BYTES = 65_535
"""What the declared columns of a row may have together, TEXT and BLOB aside."""
TEXT_BYTES = {"version": 10 * 4 + 1, "kek": 255 * 4 + 2, "wrapped_at": 8}
"""Of dekctl's other columns, in utf8mb4."""
BLOB_BYTES = 10
"""Of a BLOB's length and pointer in the row."""

_DEPENDENTS = """
SELECT 'view', table_name FROM information_schema.views
WHERE table_schema = COALESCE(:schema, DATABASE())
    AND view_definition REGEXP :table AND view_definition REGEXP :column
UNION ALL SELECT 'generated column', column_name FROM information_schema.columns
WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name = :name
    AND generation_expression REGEXP :column
UNION ALL SELECT 'trigger', trigger_name FROM information_schema.triggers
WHERE event_object_schema = COALESCE(:schema, DATABASE()) AND trigger_name <> :own
    AND action_statement REGEXP :column
    AND (event_object_table = :name OR action_statement REGEXP :table)
UNION ALL SELECT LOWER(routine_type), routine_name FROM information_schema.routines
WHERE routine_schema = COALESCE(:schema, DATABASE())
    AND routine_definition REGEXP :table AND routine_definition REGEXP :column
ORDER BY 1, 2
"""
"""The server keeps no record of what uses a column, and breaks it silently: their texts do."""


def _declared_bytes(connection: Connection, table: DekTable) -> int:
    """The bytes that the declared columns of a row take at most, rounded up."""
    found = connection.execute(
        sa.text(
            "SELECT data_type, character_octet_length, numeric_precision "
            "FROM information_schema.columns WHERE table_name = :name "
            "AND table_schema = COALESCE(:schema, DATABASE())"
        ),
        {"name": table.config.bare_name, "schema": table.config.schema},
    )
    total = 0
    for kind, octets, digits in found:
        if kind in ("char", "varchar", "binary", "varbinary"):
            total += int(octets) + 2
        else:
            total += 12 if octets is not None else max(8, int(digits or 0) // 2 + 2)
    return total + 16  # the flags of columns that may be NULL


def _create_trigger(table: DekTable, body: str) -> str:
    schema, _, _ = table.quoted_name.rpartition(".")
    return (
        f"CREATE TRIGGER {schema}{'.' if schema else ''}{table.config.trigger} "
        f"BEFORE UPDATE ON {table.quoted_name} FOR EACH ROW {body}"
    )


def _emptying(table: DekTable) -> str:
    """Keys are compared by their bytes: two may be equal by a column's collation."""
    plaintext, wrapped = table.quoted("plaintext"), table.quoted("wrapped")
    emptied = ", ".join(f"NEW.{column} = NULL" for column in table.wrapped_columns)
    return (
        f"IF NOT (CAST(NEW.{plaintext} AS BINARY) <=> CAST(OLD.{plaintext} AS BINARY)) "
        f"AND LENGTH(NEW.{plaintext}) > 0 AND OLD.{wrapped} IS NOT NULL "
        f"AND NEW.{wrapped} <=> OLD.{wrapped} AND {OWN_WRITE} IS NULL "
        f"THEN SET {emptied}; END IF"
    )


def _plaintext(table: DekTable, *, offline: bool) -> Definition:
    with step_connection(table, offline=offline) as connection:
        return definition_of(connection, table.quoted_name, table.config.plaintext_column)


def _alter(table: DekTable, how: str, definition: str) -> None:
    statement = f"ALTER TABLE {table.quoted_name} {how} {table.quoted('plaintext')} {definition}"
    op.execute(sa.text(statement.replace(":", r"\:")))  # a colon is no parameter here


@dataclass(frozen=True, slots=True)
class Definition:
    """A column: the text that follows its name, and the column before it (None: it is first)."""

    text: str
    after: str | None

    def without_default(self) -> Definition:
        """The same definition, but a row gets NULL where nothing is given."""
        blank = _top_level(self.text)
        default = re.search(r"\bDEFAULT\b", blank, re.IGNORECASE)
        if default is None:
            return self
        later = re.compile(r"\b(?:COMMENT|CHECK|INVISIBLE)\b|/\*").search(blank, default.end())
        rest = self.text[later.start() :] if later is not None else ""
        # A COMPRESSED column has the default '' unless it is told another.
        return Definition(f"{self.text[: default.start()]}DEFAULT NULL {rest}".rstrip(), self.after)

    def nullable(self) -> str:
        """The same definition, but the column may be NULL."""
        start = re.search(r"\bNOT\s+NULL\b", _top_level(self.text), re.IGNORECASE)
        if start is None:
            return self.text
        return f"{self.text[: start.start()]}NULL{self.text[start.end() :]}"

    def not_null(self) -> str:
        """The same definition, but the column may not be NULL."""
        blank = _top_level(self.text)
        if re.search(r"\bNOT NULL\b", blank):
            return self.text
        null = re.search(r"\bDEFAULT NULL\b", blank) or re.search(r"\bNULL\b", blank)
        if null is not None:
            return f"{self.text[: null.start()]}NOT NULL{self.text[null.end() :]}"
        later = re.search(r"\b(?:DEFAULT|COMMENT|CHECK|INVISIBLE)\b", blank)
        at = later.start() if later is not None else len(self.text)
        return f"{self.text[:at].rstrip()} NOT NULL {self.text[at:]}".rstrip()


def definition_of(connection: Connection, quoted_table: str, column: str) -> Definition:
    """Read a column's definition.

    Raises:
        DatabaseError: dekctl cannot parse the server's description of the table.
    """
    create = str(connection.exec_driver_sql(f"SHOW CREATE TABLE {quoted_table}").one()[1])
    after = None
    for line in create.splitlines():
        found = re.match(r"  `([^`]*)` (.*?),?$", line)
        if found and found[1] == column:
            return Definition(found[2], after)
        after = found[1] if found else None
    raise DatabaseError(
        f"the server does not describe the column {column} as expected",
        hint=f"compare: SHOW CREATE TABLE {quoted_table}",
    )


def _top_level(text: str) -> str:
    """The text with strings, names and parentheses replaced by spaces, at its full length."""
    while True:
        blank = _NESTED.sub(lambda found: " " * len(found[0]), text)
        if blank == text:
            return text
        text = blank
