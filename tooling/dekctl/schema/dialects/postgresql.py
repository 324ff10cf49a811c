"""PostgreSQL: a CHECK constraint that keeps a guard's finding true until its step has ended.

It refuses harmful rows from the first moment on, and is validated without blocking writers. So the
step itself needs no look at the rows, and holds its lock for a moment only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import Connection

from dekctl.db.table import DekTable
from dekctl.errors import DatabaseError, DekctlError, RefusedError
from dekctl.schema import guards

if TYPE_CHECKING:
    from dekctl.schema.plan import SchemaPlan

CONTRACT = "dekctl_fence"
"""Keeps plaintexts out while contract is under way."""
ROLLBACK = "dekctl_fence_back"
"""Keeps rows out whose only key is the wrapped one while a rollback to legacy is under way."""
_CHECK_VIOLATION = "23514"


@contextlib.contextmanager
def fenced(plan: SchemaPlan, name: str) -> Iterator[None]:
    """Hold a fence while a step runs. One that fails takes it down; one that succeeds has done so.

    Raises:
        RefusedError: a row is on the wrong side of it.
        DatabaseError: the database refused.
    """
    if plan.dialect != "postgresql":
        yield
        return
    try:
        _raise(plan, name)
        yield
    except BaseException:
        # What stopped the step counts; `dekctl doctor` tells of a fence that still stands.
        with contextlib.suppress(DekctlError):
            lower_fence(plan)
        raise


def _raise(plan: SchemaPlan, name: str) -> None:
    database, table = plan.table.database, plan.table.quoted_name
    lower_fence(plan)
    database.run(
        lambda connection: connection.exec_driver_sql(
            f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({_condition(plan, name)}) NOT VALID"
        ),
        write=True,
    )
    try:
        with database.transaction(write=True, patient=True) as connection:
            connection.exec_driver_sql(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")
    except DatabaseError as error:
        if _CHECK_VIOLATION not in error.message:
            raise
        if name == CONTRACT:
            raise guards.still_plaintext(plan.config) from None
        with database.transaction(patient=True) as connection:
            guards.refuse_lost_wrapped_keys(plan, connection)
        raise RefusedError(
            f"rows of {plan.config.name} changed while they were looked at",
            hint="stop the application versions that issue wrapped keys, then run it again",
        ) from None


def _condition(plan: SchemaPlan, name: str) -> str:
    plaintext, wrapped = plan.table.quoted("plaintext"), plan.table.quoted("wrapped")
    if name == CONTRACT:
        return f"{plaintext} IS NULL"
    if plan.facts["plaintext_nullable"]:
        return f"{plaintext} IS NOT NULL OR {wrapped} IS NULL"
    return f"{plaintext} IS NOT NULL"  # this one also spares SET NOT NULL its look at the rows


def lower_fence(plan: SchemaPlan) -> None:
    """Remove the fences that an interrupted step left on PostgreSQL."""
    if plan.dialect != "postgresql":
        return
    plan.table.database.run(
        lambda connection: connection.exec_driver_sql(
            f"ALTER TABLE {plan.table.quoted_name} DROP CONSTRAINT IF EXISTS {CONTRACT}, "
            f"DROP CONSTRAINT IF EXISTS {ROLLBACK}"
        ),
        write=True,
    )


def standing(connection: Connection, table: DekTable) -> dict[str, bool]:
    """The fences that stand now, each with whether it has proved all rows."""
    if table.database.dialect.name != "postgresql":
        return {}
    found = connection.execute(
        sa.text(
            "SELECT conname, convalidated FROM pg_constraint WHERE conname IN (:one, :other) "
            "AND conrelid = CAST(:table AS regclass)"
        ),
        {"one": CONTRACT, "other": ROLLBACK, "table": table.quoted_name},
    )
    return {str(name): bool(validated) for name, validated in found}
