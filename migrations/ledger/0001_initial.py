"""dekctl's own tables: runs, quarantine, what is known about each table, and branch keys.

The ledger stays when a table goes back to its legacy schema: it is the evidence of what was done.
``dekctl_branch_keys`` is no part of it. It holds wrapped keys: it must be backed up with the
application's tables, and never dropped while a row of version V3 exists.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from dekctl.branch_keys.table import OPTIONS
from dekctl.ledger.upgrade import LedgerPlan

revision = "ledger_0001"
down_revision = None


def upgrade(plan: LedgerPlan) -> None:
    # MariaDB and MySQL commit every CREATE on its own, and a step that was killed is run again.
    # The runs come last: where they are, the other tables are too.
    op.create_table(
        "dekctl_tables",
        sa.Column("table_name", sa.String(255), primary_key=True),
        sa.Column("facts", sa.Text, nullable=False),
        schema=plan.schema,
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_table(
        "dekctl_quarantine",
        sa.Column("table_name", sa.String(255), primary_key=True),
        sa.Column("pk_hash", sa.String(64), primary_key=True),
        sa.Column("pk", sa.Text, nullable=False),
        sa.Column("operation", sa.String(32), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("run_id", sa.String(36), nullable=False),
        sa.Column("since", sa.String(32), nullable=False),
        schema=plan.schema,
        if_not_exists=True,
        **OPTIONS,
    )
    # The ledger may be thrown away and made again: this table stays, and is found here.
    op.create_table(
        "dekctl_branch_keys",
        sa.Column("branch_id", sa.String(32), primary_key=True),
        sa.Column("context_name", sa.String(255), nullable=False),
        sa.Column(
            "wrapped",
            # On MySQL kept in the row: a BLOB may need an overflow page for each key.
            sa.LargeBinary().with_variant(sa.VARBINARY(6144), "mysql", "mariadb"),
            nullable=False,
        ),
        sa.Column("kek_id", sa.String(2048), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("max_uses", sa.BigInteger, nullable=False),
        schema=plan.schema,
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_table(
        "dekctl_runs",
        sa.Column("run_id", sa.String(36), primary_key=True),
        sa.Column("operation", sa.String(32), nullable=False),
        sa.Column("table_name", sa.String(255), nullable=False),
        sa.Column("env", sa.String(64), nullable=False),
        sa.Column("shard", sa.String(32)),
        sa.Column("dry_run", sa.Boolean, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("who", sa.String(255), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("process_started", sa.String(64), nullable=False),
        sa.Column("started_at", sa.String(32), nullable=False),
        sa.Column("heartbeat_at", sa.String(32), nullable=False),
        sa.Column("ended_at", sa.String(32)),
        sa.Column("kek_id", sa.String(2048)),
        sa.Column("dekctl_version", sa.String(32), nullable=False),
        sa.Column("position", sa.Text),
        sa.Column("result", sa.Text),
        sa.Column("error", sa.Text),
        schema=plan.schema,
        if_not_exists=True,
        **OPTIONS,
    )


def downgrade(plan: LedgerPlan) -> None:
    """Never run: an older dekctl refuses a newer ledger."""
