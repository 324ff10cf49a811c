"""The table of files, as it was before dekctl."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

RAW_KEY = sa.LargeBinary().with_variant(sa.VARBINARY(255), "mysql", "mariadb")


def upgrade() -> None:
    op.create_table(
        "encrypted_files",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("filename", sa.String(100), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary, nullable=False),
        sa.Column("encryption_key", RAW_KEY, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("encrypted_files")
