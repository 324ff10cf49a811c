"""Expand: add the columns for the wrapped key, and allow NULL in the plaintext column.

Columns that exist already (from a migration of the application's) are used as they are.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from dekctl.schema import actions, row_trigger
from dekctl.schema.plan import SchemaPlan

revision = "table_0001"
down_revision = None


def upgrade(plan: SchemaPlan) -> None:
    config = plan.config
    new = [
        sa.Column(config.wrapped_column, actions.wrapped_type(plan), nullable=True),
        sa.Column(config.version_column, plan.dialect.text_type(10), nullable=True),
        sa.Column(config.kek_column, plan.dialect.text_type(255), nullable=True),
    ]
    if config.wrapped_at_column:
        new.append(sa.Column(config.wrapped_at_column, sa.DateTime, nullable=True))
    actions.save_metadata(
        plan, added=[column.name for column in new if column.name not in plan.columns]
    )
    # First, because SQLite copies the table as it was inspected.
    if not actions.allows_null(plan):
        actions.set_plaintext_nullable(plan, nullable=True)
    for column in new:
        if column.name not in plan.columns:
            op.add_column(config.bare_name, column, schema=config.schema)
    row_trigger.put_trigger(plan)


def downgrade(plan: SchemaPlan) -> None:
    config = plan.config
    actions.refuse_lost_wrapped_keys(plan)
    row_trigger.drop_trigger(plan)
    if not plan.metadata["plaintext_nullable"]:
        actions.set_plaintext_nullable(plan, nullable=False)
    actions.end_guard(plan)
    for column in actions.columns_to_drop(plan):
        op.drop_column(config.bare_name, column, schema=config.schema)
    actions.delete_metadata(plan)
