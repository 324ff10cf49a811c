"""Expand: room for the wrapped key beside the plaintext, which may now be NULL.

Columns that are there already (from the seed's own migration) are taken over as they are.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from dekctl.schema.plan import SchemaPlan

revision = "0002"
down_revision = "0001"


def _text(length: int) -> sa.types.TypeEngine[str]:
    """SQLite's strict tables know TEXT only."""
    return sa.String(length).with_variant(sa.Text(), "sqlite")


def upgrade(plan: SchemaPlan) -> None:
    config = plan.config
    new = [
        sa.Column(config.wrapped_column, plan.blob_type, nullable=True),
        sa.Column(config.version_column, _text(10), nullable=True),
        sa.Column(config.kek_column, _text(255), nullable=True),
    ]
    if config.wrapped_at_column:
        new.append(sa.Column(config.wrapped_at_column, sa.DateTime, nullable=True))
    plan.note_facts(added=[column.name for column in new if column.name not in plan.columns])
    # First, because SQLite copies the table as it was inspected.
    if not plan.allows_null():
        plan.set_plaintext_nullable(nullable=True)
    for column in new:
        if column.name not in plan.columns:
            op.add_column(config.bare_name, column, schema=config.schema)


def downgrade(plan: SchemaPlan) -> None:
    config = plan.config
    plan.refuse_lost_wrapped_keys()
    if not plan.facts["plaintext_nullable"]:
        plan.set_plaintext_nullable(nullable=False)
    plan.drop_fence()
    for column in plan.facts["added"]:
        if column in plan.columns:
            op.drop_column(config.bare_name, column, schema=config.schema)
    plan.forget_facts()
