"""The tables of the ledger, as ``migrations/ledger`` makes them, and how they hold a time."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

RUNS = "dekctl_runs"


def tables(schema: str | None) -> dict[str, sa.Table]:
    """The ledger's tables at the newest revision."""
    metadata = sa.MetaData(schema=schema)
    return {
        "tables": sa.Table(
            "dekctl_tables",
            metadata,
            sa.Column("table_name", sa.String(255), primary_key=True),
            sa.Column("facts", sa.Text, nullable=False),
        ),
        "runs": sa.Table(
            RUNS,
            metadata,
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
        ),
        "quarantine": sa.Table(
            "dekctl_quarantine",
            metadata,
            sa.Column("table_name", sa.String(255), primary_key=True),
            sa.Column("pk_hash", sa.String(64), primary_key=True),
            sa.Column("pk", sa.Text, nullable=False),
            sa.Column("operation", sa.String(32), nullable=False),
            sa.Column("reason", sa.Text, nullable=False),
            sa.Column("run_id", sa.String(36), nullable=False),
            sa.Column("since", sa.String(32), nullable=False),
        ),
    }


def time_text(moment: datetime) -> str:
    """A time as the ledger holds it: text, UTC, to the millisecond."""
    return moment.replace(tzinfo=None).isoformat(sep=" ", timespec="milliseconds")


def parse_time(text: str) -> datetime:
    """A time that the ledger holds: UTC, without zone."""
    return datetime.fromisoformat(text)
