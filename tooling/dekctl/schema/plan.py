"""What the Alembic steps of ``migrations/`` know about a table, and what they call."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import UserDefinedType

from dekctl.config import TableConfig
from dekctl.db.shape import Column, Stage
from dekctl.db.table import DekTable
from dekctl.errors import RefusedError
from dekctl.ledger import tables as ledger_tables
from dekctl.ledger.managed_columns import named_columns
from dekctl.schema import guards as schema_guards
from dekctl.schema.dialects import mysql as schema_mysql
from dekctl.schema.dialects import postgresql as schema_fence
from dekctl.schema.dialects import sqlite as schema_sqlite

REVISIONS = {Stage.LEGACY: "0001", Stage.EXPANDED: "0002", Stage.CONTRACTED: "0003"}


class _StoredType(UserDefinedType[Any]):
    """A column type in the database's own words, as it was noted before contract."""

    cache_ok = True

    def __init__(self, sql: str) -> None:
        self.sql = sql

    def get_col_spec(self, **_: Any) -> str:
        return self.sql


@dataclass(slots=True)
class SchemaPlan:
    """What the Alembic steps know about one table. Made by :func:`plan_for`."""

    config: TableConfig
    table: DekTable
    dialect: str
    ledger_schema: str | None
    ledger_exists: bool
    facts: dict[str, Any]
    env: str = ""
    revision: str | None = None
    offline: bool = False
    columns: dict[str, Column] = field(default_factory=dict)

    @property
    def version_table(self) -> str:
        """Name of Alembic's version table for this table."""
        return self.config.version_table

    @property
    def plaintext(self) -> Column:
        """The plaintext column as it is."""
        return self.columns[self.config.plaintext_column]

    @property
    def blob_type(self) -> sa.types.TypeEngine[Any]:
        """Type of the wrapped column. KMS blobs reach 6,144 bytes (AWS KMS API reference)."""
        if self.dialect == "mysql":
            # VARBINARY is kept in the row: no overflow page for each key.
            return sa.VARBINARY(6144)
        return sa.LargeBinary()

    @property
    def plaintext_type(self) -> sa.types.TypeEngine[Any]:
        """Type of the plaintext column, as noted at expand."""
        return _StoredType(self.facts["plaintext_type"])

    def note_facts(self, added: list[str]) -> None:
        """Keep what the way back needs: the plaintext column's type, and which columns are ours."""
        engine = self.table.database.engine
        if not self.facts:
            self.facts = {
                "plaintext_type": _type_sql(self.plaintext, engine.dialect),
                "plaintext_nullable": self.allows_null(),
                "added": added,
                "columns": named_columns(self.config),
            }
            if self.dialect == "mysql":
                definition = self._mysql_definition()
                self.facts["plaintext_definition"] = definition.text
                self.facts["plaintext_after"] = definition.after
        made = ledger_tables(self.ledger_schema)["tables"]
        op.execute(made.delete().where(made.c.table_name == self.config.context_name))
        op.execute(
            made.insert().values(
                table_name=self.config.context_name, facts=json.dumps(self.facts, sort_keys=True)
            )
        )

    def allows_null(self) -> bool:
        """Whether the plaintext column may be NULL now."""
        if self.dialect == "mysql":  # reflection takes a COMPRESSED column for one that may
            definition = self._mysql_definition()
            return definition.nullable() == definition.text
        return self.plaintext.nullable

    def forget_facts(self) -> None:
        """Drop the notes of a table that is back at its legacy schema."""
        made = ledger_tables(self.ledger_schema)["tables"]
        op.execute(made.delete().where(made.c.table_name == self.config.context_name))

    def set_plaintext_nullable(self, *, nullable: bool) -> None:
        """Let the plaintext column be NULL, or forbid it again."""
        column = self.plaintext
        name, schema = self.config.bare_name, self.config.schema
        if self.dialect == "sqlite":
            schema_sqlite.rebuild(
                name, column.name, nullable=nullable, offline=self.offline, table=self.table
            )
            return
        if self.dialect == "mysql":
            definition = self._mysql_definition()
            noted = self.facts.get("plaintext_definition")
            if nullable or noted:
                self._mysql_alter("MODIFY", definition.nullable() if nullable else str(noted))
                return
        op.alter_column(
            name,
            column.name,
            schema=schema,
            nullable=nullable,
            existing_type=column.type,
            existing_server_default=sa.text(column.default) if column.default else None,
            existing_comment=column.comment,
        )

    def add_plaintext(self) -> None:
        """Make the plaintext column again, empty."""
        config = self.config
        noted = self.facts.get("plaintext_definition")
        if self.dialect == "mysql" and noted:
            after = self.facts["plaintext_after"]
            place = " FIRST" if after is None else ""
            if after in self.columns:
                place = f" AFTER `{after}`"
            definition = schema_mysql.Definition(noted, after).nullable()
            self._mysql_alter("ADD COLUMN", definition + place)
            return
        op.add_column(
            config.bare_name,
            sa.Column(config.plaintext_column, self.plaintext_type, nullable=True),
            schema=config.schema,
        )

    def _mysql_definition(self) -> schema_mysql.Definition:
        column = self.config.plaintext_column
        if not self.offline:  # under LOCK TABLES no other connection could ask
            return schema_mysql.definition_of(op.get_bind(), self.table.quoted_name, column)
        with self.table.database.transaction() as connection:
            return schema_mysql.definition_of(connection, self.table.quoted_name, column)

    def _mysql_alter(self, how: str, definition: str) -> None:
        statement = (
            f"ALTER TABLE {self.table.quoted_name} {how} {self.table.quoted('plaintext')} "
            f"{definition}"
        )
        op.execute(sa.text(statement.replace(":", r"\:")))  # a colon is no parameter here

    @property
    def taken_back(self) -> bool:
        """Whether the table was expanded once, and a rollback has come to its end since."""
        return (
            self.table.stage is Stage.LEGACY
            and not self.facts
            and self.revision == REVISIONS[Stage.LEGACY]
        )

    @property
    def half_way_back(self) -> bool:
        """Whether a rollback died after it had dropped some columns (MariaDB, MySQL)."""
        return (
            self.table.stage is Stage.LEGACY
            and bool(self.facts)
            and self.revision == REVISIONS[Stage.EXPANDED]
        )

    def past(self, step: str) -> bool:
        """Whether a step has no work left on this table."""
        stage = self.table.stage
        if step == "rollback":
            return stage is Stage.LEGACY and not self.half_way_back
        return step == "expand" and stage is Stage.CONTRACTED

    def refuse_seeming_contract(self) -> None:
        """Refuse a table that only looks contracted: [table] may name a wrong plaintext column.

        Raises:
            RefusedError: no contract ended there, and none is known to have died half-way.
        """
        contracted = REVISIONS[Stage.CONTRACTED]
        if self.table.stage is not Stage.CONTRACTED or self.revision == contracted:
            return
        schema_guards.refuse_unmanaged(self)
        # With the name noted, and equal to the configured one, the column is really gone.
        if "columns" in self.facts and self.revision == REVISIONS[Stage.EXPANDED]:
            return
        raise RefusedError(
            f"{self.config.name} has no plaintext_column {self.config.plaintext_column}, but was "
            f"never contracted: Alembic's revision is {self.revision or 'none'}",
            hint="correct plaintext_column in [table]; if that column is really gone, a contract "
            f"died half-way: UPDATE {self.version_table} SET version_num = '{contracted}'",
        )

    def refuse_lost_plaintexts(self) -> None:
        """Stop a contract while a row still has a plaintext; see :func:`contract`."""
        if self.offline:
            self._write_guard(schema_guards.has_plaintext(self.table))
            return
        bind = op.get_bind()
        # On PostgreSQL the fence has proved it already, without holding a lock.
        if not schema_fence.standing(bind, self.table).get(schema_fence.CONTRACT):
            schema_guards.refuse_lost_plaintexts(self, bind)

    def refuse_lost_wrapped_keys(self) -> None:
        """Stop a rollback while a row's only key is the wrapped one."""
        if self.offline:
            self._write_guard(schema_guards.has_only_wrapped(self.table))
            return
        bind = op.get_bind()
        schema_guards.refuse_nameless_values(self, bind)
        if not schema_fence.standing(bind, self.table).get(schema_fence.ROLLBACK):
            schema_guards.refuse_lost_wrapped_keys(self, bind)

    def drop_fence(self) -> None:
        """Take the fence of a rollback down, in the transaction that needs it no more."""
        if self.dialect == "postgresql" and not self.offline:
            op.execute(
                f"ALTER TABLE {self.table.quoted_name} "
                f"DROP CONSTRAINT IF EXISTS {schema_fence.ROLLBACK}"
            )

    def _write_guard(self, condition: str) -> None:
        for statement in schema_guards.script(self, condition):
            op.execute(statement)


def _type_sql(column: Column, dialect: sa.Dialect) -> str:
    return column.type.compile(dialect=dialect)
