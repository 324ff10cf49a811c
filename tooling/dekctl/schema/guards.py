"""What is proved before a schema step. A refusal changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import Connection

from dekctl.config import TableConfig
from dekctl.db.inspection import Column
from dekctl.db.table import DekTable, Stage
from dekctl.errors import DatabaseError, RefusedError
from dekctl.ledger import Ledger

if TYPE_CHECKING:
    from dekctl.schema.steps import SchemaPlan

FENCE = "dekctl_fence"
"""A CHECK constraint on PostgreSQL that keeps plaintexts out while contract is under way."""
WRAPPED_BYTES = 200
"""Least room for a wrapped key: KMS's blob of a 32-byte key has about 184 bytes."""
_CHECK_VIOLATION = "23514"


def check(plan: SchemaPlan, step: str, *, rows: bool = True) -> None:
    """Refuse a step (``expand``, ``contract`` or ``rollback``) that would lose a key.

    Without ``rows`` only the stage is looked at.

    Raises:
        RefusedError: the table is at the wrong stage, a run is writing to it, or a row would
            lose its only key.
    """
    stage = plan.table.stage
    if step == "rollback" and plan.taken_back:
        return
    if rows and step != "expand" and plan.ledger_exists:
        ledger = Ledger(plan.table.database, plan.ledger_schema, env="")
        ledger.refuse_while_writing(plan.config.context_name)
    if step == "expand":
        _check_expand(plan)
    elif step == "contract":
        _check_contract(plan)
        if rows:
            with plan.table.database.transaction(patient=True) as connection:
                refuse_lost_plaintexts(plan, connection)
    else:
        _check_rollback(plan)
        if rows and stage is not Stage.CONTRACTED:
            with plan.table.database.transaction(patient=True) as connection:
                refuse_lost_wrapped_keys(plan, connection)


def _check_expand(plan: SchemaPlan) -> None:
    if plan.table.stage is Stage.CONTRACTED:
        raise RefusedError(
            f"{plan.config.name} is contracted: it has no {plan.config.plaintext_column}",
            hint="see where it stands with: dekctl status",
        )
    _refuse_misfits(plan)
    plan.table.refuse_ambiguous_key()


def _check_contract(plan: SchemaPlan) -> None:
    if plan.table.stage is Stage.LEGACY:
        raise RefusedError(
            f"{plan.config.name} is at the legacy schema; there is nothing to contract",
            hint="begin with: dekctl migrate",
        )
    refuse_unmanaged(plan)


def _check_rollback(plan: SchemaPlan) -> None:
    if plan.table.stage is Stage.LEGACY and not plan.half_way_back:
        raise RefusedError(
            f"{plan.config.name} is at the legacy schema already",
            hint="see where it stands with: dekctl status",
        )
    refuse_unmanaged(plan)


def refuse_unmanaged(plan: SchemaPlan) -> None:
    """Refuse where the notes that expand takes are missing.

    Raises:
        RefusedError: they are.
    """
    if plan.facts:
        return
    hint = "take it over with: dekctl schema expand"
    if plan.table.stage is Stage.CONTRACTED:
        column = plan.config.plaintext_column
        hint = f"add a nullable column {column} by hand, then: dekctl schema expand"
    raise RefusedError(
        f"{plan.config.name} has the columns of dekctl, but the ledger knows nothing of it",
        hint=hint,
    )


def refuse_lost_plaintexts(plan: SchemaPlan, connection: Connection) -> None:
    """Refuse while a row still has a plaintext.

    Raises:
        RefusedError: one has.
    """
    if plan.table.has("plaintext") and _exists(connection, plan.table, has_plaintext(plan.table)):
        raise _still_plaintext(plan.config)


def refuse_lost_wrapped_keys(plan: SchemaPlan, connection: Connection) -> None:
    """Refuse while a row's only key is the wrapped one, or the legacy schema has no place for it.

    Raises:
        RefusedError: there is such a row.
    """
    table, name = plan.table, plan.config.name
    if table.has("wrapped") and _exists(connection, table, has_only_wrapped(table)):
        raise RefusedError(
            f"rows of {name} have only a wrapped key, which a rollback would drop",
            hint="put the plaintexts back first: dekctl restore (or do both: dekctl rollback)",
        )
    nothing = f"{table.quoted('plaintext')} IS NULL"
    if not plan.facts["plaintext_nullable"] and _exists(connection, table, nothing):
        raise RefusedError(
            f"rows of {name} have no key at all, and the legacy schema has "
            f"{plan.config.plaintext_column} NOT NULL",
            hint="find them with: dekctl status; give them a key or delete them",
        )


def has_plaintext(table: DekTable) -> str:
    """SQL condition for the rows that a contract would harm."""
    return f"{table.quoted('plaintext')} IS NOT NULL"


def has_only_wrapped(table: DekTable) -> str:
    """SQL condition for the rows that a rollback to the legacy schema would harm."""
    return f"{table.quoted('wrapped')} IS NOT NULL AND {table.quoted('plaintext')} IS NULL"


def lock(plan: SchemaPlan) -> list[str]:
    """SQL that keeps writers out until the step ends, so that what its guard has seen stays true.

    A count does not see a row that is not committed yet; the lock waits for it. SQLite has one
    writer at a time, which is the step.
    """
    name = plan.table.quoted_name
    if plan.dialect == "postgresql":
        return [f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE"]
    if plan.dialect == "mysql":
        quote = plan.table.database.engine.dialect.identifier_preparer.quote
        prefix = f"{quote(plan.ledger_schema)}." if plan.ledger_schema else ""
        # All that the step touches: under LOCK TABLES nothing else may be.
        names = (name, f"{prefix}{quote(plan.version_table)}", f"{prefix}dekctl_tables")
        return [f"LOCK TABLES {', '.join(f'{each} WRITE' for each in names)}"]
    return []


def script(plan: SchemaPlan, condition: str) -> list[str]:
    """SQL that fails while a row meets a condition: the guard of a step that others will run."""
    table = plan.table
    temporary = "TEMPORARY " if plan.dialect == "mysql" else ""  # without it MySQL commits
    return [
        *lock(plan),
        "CREATE TEMPORARY TABLE dekctl_guard (rows_left INTEGER NOT NULL CHECK (rows_left = 0))",
        f"INSERT INTO dekctl_guard SELECT count(*) FROM {table.quoted_name} WHERE {condition}",
        f"DROP {temporary}TABLE dekctl_guard",
    ]


def raise_fence(plan: SchemaPlan) -> None:
    """PostgreSQL: shut plaintexts out, then prove that there is none, without blocking writers.

    Raises:
        RefusedError: a row has a plaintext; the fence is down again.
        DatabaseError: the database refused; the fence is down again.
    """
    database, name = plan.table.database, plan.table.quoted_name
    lower_fence(plan)
    database.run(
        lambda connection: connection.exec_driver_sql(
            f"ALTER TABLE {name} ADD CONSTRAINT {FENCE} "
            f"CHECK ({plan.table.quoted('plaintext')} IS NULL) NOT VALID"
        ),
        write=True,
    )
    try:
        with database.transaction(write=True, patient=True) as connection:
            connection.exec_driver_sql(f"ALTER TABLE {name} VALIDATE CONSTRAINT {FENCE}")
    except DatabaseError as error:
        lower_fence(plan)
        if _CHECK_VIOLATION in error.message:
            raise _still_plaintext(plan.config) from None
        raise


def lower_fence(plan: SchemaPlan) -> None:
    """Remove the fence that an interrupted contract left on PostgreSQL."""
    if plan.dialect != "postgresql":
        return
    plan.table.database.run(
        lambda connection: connection.exec_driver_sql(
            f"ALTER TABLE {plan.table.quoted_name} DROP CONSTRAINT IF EXISTS {FENCE}"
        ),
        write=True,
    )


def is_fenced(connection: Connection, table: DekTable) -> bool:
    """Whether the fence has proved that no row has a plaintext."""
    found = connection.execute(
        sa.text(
            "SELECT convalidated FROM pg_constraint WHERE conname = :name "
            "AND conrelid = CAST(:table AS regclass)"
        ),
        {"name": FENCE, "table": table.quoted_name},
    )
    return bool(found.scalar_one_or_none())


def _exists(connection: Connection, table: DekTable, condition: str) -> bool:
    found = connection.exec_driver_sql(
        f"SELECT 1 FROM {table.quoted_name} WHERE {condition} LIMIT 1"
    )
    return found.first() is not None


def _still_plaintext(config: TableConfig) -> RefusedError:
    return RefusedError(
        f"rows of {config.name} still have a plaintext in {config.plaintext_column}",
        hint="see how many with: dekctl status; then: dekctl wrap, dekctl verify, dekctl scrub",
    )


def _refuse_misfits(plan: SchemaPlan) -> None:
    """Columns that are there already must be able to hold what dekctl writes."""
    config = plan.config
    wrapped = plan.columns.get(config.wrapped_column)
    if wrapped is not None and not _is_roomy_binary(wrapped):
        raise RefusedError(
            f"{config.name}.{wrapped.name} is there already and cannot hold a wrapped key, which "
            f"is binary and up to {WRAPPED_BYTES} bytes long",
            hint="change or rename that column, or set wrapped_column in [table] to another name",
        )
    for name, least in ((config.version_column, 2), (config.kek_column, 100)):
        column = plan.columns.get(name)
        length = getattr(column.type, "length", None) if column else None
        if column and (not column.is_text or (length is not None and length < least)):
            raise RefusedError(
                f"{config.name}.{name} is there already and cannot hold {least} characters",
                hint="widen that column, or name another one in [table]",
            )
    plaintext = plan.columns.get(config.plaintext_column)
    if plaintext is None:
        raise RefusedError(
            f"{config.name} has no column {config.plaintext_column}",
            hint="correct plaintext_column in [table]",
        )
    if not (plaintext.is_text or plaintext.is_binary):
        raise RefusedError(
            f"{config.name}.{plaintext.name} is neither text nor binary but {plaintext.type!r}",
            hint="correct plaintext_column in [table]",
        )


def _is_roomy_binary(column: Column) -> bool:
    length = getattr(column.type, "length", None)
    return column.is_binary and (length is None or length >= WRAPPED_BYTES)
