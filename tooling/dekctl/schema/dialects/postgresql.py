"""PostgreSQL: a step's finding is kept true by a CHECK constraint, a guard, until the step ends.

A guard refuses harmful rows from the first moment, and is validated without blocking writers. So
the step itself need not look at the rows, and holds its lock only for a moment.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Connection

from dekctl.db.table import DekTable
from dekctl.errors import DatabaseError
from dekctl.schema.dialects.base import (
    CONTRACT_GUARD,
    ROLLBACK_GUARD,
    Guard,
    GuardViolatedError,
    SchemaDialect,
)

_CHECK_VIOLATION = "23514"


class PostgreSQLSchema(SchemaDialect):
    """PostgreSQL 11 or newer."""

    has_guards = True

    def lock(self, table: str, others: Sequence[str]) -> list[str]:  # noqa: ARG002
        return [f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"]

    def add_guard(self, table: DekTable, guard: Guard) -> None:
        database, name = table.database, table.quoted_name
        self.drop_guards(table)
        database.run(
            lambda connection: connection.exec_driver_sql(
                f"ALTER TABLE {name} ADD CONSTRAINT {guard.name} CHECK ({guard.condition}) "
                "NOT VALID"
            ),
            write=True,
        )
        try:
            with database.transaction(write=True, patient=True) as connection:
                connection.exec_driver_sql(f"ALTER TABLE {name} VALIDATE CONSTRAINT {guard.name}")
        except DatabaseError as error:
            if _CHECK_VIOLATION in error.message:
                raise GuardViolatedError(f"a row of {name} violates {guard.name}") from None
            raise

    def drop_guards(self, table: DekTable) -> None:
        table.database.run(
            lambda connection: connection.exec_driver_sql(
                f"ALTER TABLE {table.quoted_name} DROP CONSTRAINT IF EXISTS {CONTRACT_GUARD}, "
                f"DROP CONSTRAINT IF EXISTS {ROLLBACK_GUARD}"
            ),
            write=True,
        )

    def drop_guard(self, table: DekTable, name: str) -> None:
        op.execute(f"ALTER TABLE {table.quoted_name} DROP CONSTRAINT IF EXISTS {name}")

    def guards(self, connection: Connection, table: DekTable) -> dict[str, bool]:
        found = connection.execute(
            sa.text(
                "SELECT conname, convalidated FROM pg_constraint WHERE conname IN (:one, :other) "
                "AND conrelid = CAST(:table AS regclass)"
            ),
            {"one": CONTRACT_GUARD, "other": ROLLBACK_GUARD, "table": table.quoted_name},
        )
        return {str(name): bool(validated) for name, validated in found}


DIALECT = PostgreSQLSchema()
