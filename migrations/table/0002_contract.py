"""Contract: drop the plaintext column. The downgrade adds it again, empty, for ``restore``."""

from __future__ import annotations

from alembic import op

from dekctl.schema import actions, row_trigger
from dekctl.schema.plan import SchemaPlan

revision = "table_0002"
down_revision = "table_0001"


def upgrade(plan: SchemaPlan) -> None:
    actions.refuse_lost_plaintexts(plan)
    row_trigger.drop_trigger(plan)
    if plan.config.plaintext_column in plan.columns:
        op.drop_column(
            plan.config.bare_name, plan.config.plaintext_column, schema=plan.config.schema
        )


def downgrade(plan: SchemaPlan) -> None:
    if plan.config.plaintext_column not in plan.columns:
        actions.add_plaintext(plan)
    row_trigger.put_trigger(plan)
