"""What the steps in ``migrations/`` call to change a table, and to check it a last time."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from dekctl.db import alembic_op as op
from dekctl.db.binding import Binding
from dekctl.ledger import tables as ledger_tables
from dekctl.ledger.bindings import SAVED
from dekctl.ledger.managed_columns import named_columns, unnamed_columns
from dekctl.ledger.metadata import parse_metadata
from dekctl.schema import preconditions, row_trigger
from dekctl.schema.dialects.base import Guard, step_connection
from dekctl.schema.plan import SchemaPlan


def save_metadata(plan: SchemaPlan, added: list[str]) -> None:
    """Save what a rollback needs: the plaintext column's type, and which columns dekctl added."""
    dialect = plan.table.database.engine.dialect
    if not plan.metadata:
        plan.metadata = {
            "plaintext_type": plan.table.column("plaintext").type.compile(dialect=dialect),
            # The name of a domain does not say it.
            "plaintext_is_text": plan.table.plaintext_is_text,
            "plaintext_nullable": allows_null(plan),
            "added": added,
            "columns": named_columns(plan.config),
            SAVED: Binding.of(plan.table).as_json(),
            "without_trigger": plan.without_trigger,
            **plan.dialect.plaintext_metadata(plan.table, offline=plan.offline),
        }
    text = json.dumps(plan.metadata, sort_keys=True)
    parse_metadata(plan.config.context_name, text)  # what cannot be read must not be written
    delete_metadata(plan)
    saved = ledger_tables(plan.ledger_schema)["tables"]
    op.execute(saved.insert().values(table_name=plan.config.context_name, facts=text))


def delete_metadata(plan: SchemaPlan) -> None:
    """Delete what was saved about a table that is back at its legacy schema."""
    saved = ledger_tables(plan.ledger_schema)["tables"]
    op.execute(saved.delete().where(saved.c.table_name == plan.config.context_name))


def wrapped_type(plan: SchemaPlan) -> sa.types.TypeEngine[Any]:
    """Type of the wrapped column: one that fits into the rows of this table."""
    with step_connection(plan.table, offline=plan.offline) as connection:
        return plan.dialect.wrapped_type(connection, plan.table)


def allows_null(plan: SchemaPlan) -> bool:
    """Whether the plaintext column may be NULL now."""
    return plan.dialect.plaintext_allows_null(plan.table, offline=plan.offline)


def set_plaintext_nullable(plan: SchemaPlan, *, nullable: bool) -> None:
    """Let the plaintext column be NULL, or forbid it again."""
    plan.dialect.set_plaintext_nullable(
        plan.table, plan.metadata, nullable=nullable, offline=plan.offline
    )


def add_plaintext(plan: SchemaPlan) -> None:
    """Create the plaintext column again, empty."""
    plan.dialect.add_plaintext(plan.table, plan.metadata)


def refuse_lost_plaintexts(plan: SchemaPlan) -> None:
    """Stop a contract while a row still has a plaintext.

    Raises:
        RefusedError: one has.
    """
    if plan.offline:
        _write_check(plan, plan.table.has_value("plaintext"))
    elif not row_trigger.is_proved(plan, Guard.NO_PLAINTEXT):
        preconditions.refuse_lost_plaintexts(plan, op.get_bind())


def refuse_lost_wrapped_keys(plan: SchemaPlan) -> None:
    """Stop a rollback while a row's only key is the wrapped one.

    Raises:
        RefusedError: there is such a row, or a column with values that [table] does not name.
    """
    if plan.offline:
        _write_check(plan, plan.table.wrapped_only)
        return
    preconditions.refuse_unnamed_columns(plan)
    if not row_trigger.is_proved(plan, Guard.NOT_WRAPPED_ONLY, Guard.PLAINTEXT):
        preconditions.refuse_lost_wrapped_keys(plan, op.get_bind())


def columns_to_drop(plan: SchemaPlan) -> list[str]:
    """The columns that expand added. One that [table] does not name is never dropped."""
    kept = unnamed_columns(plan.config, plan.metadata)
    return [c for c in plan.metadata["added"] if c in plan.columns and c not in kept]


def end_guard(plan: SchemaPlan) -> None:
    """Drop what guarded a rollback, in the transaction that no longer needs it."""
    if not plan.offline:
        plan.dialect.end_guard(plan.table)


def _write_check(plan: SchemaPlan, condition: str) -> None:
    for statement in preconditions.script(plan, condition):
        op.execute(statement)
