"""The tables of the ledger, as ``migrations/ledger`` makes them, and how they hold their values.

What is read from them is whatever somebody wrote there: a value that dekctl cannot have written
counts as none.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa

from dekctl.db.stored import StoredText

RUNS = "dekctl_runs"


@cache
def tables(schema: str | None) -> dict[str, sa.Table]:
    """The ledger's tables at the newest revision."""
    metadata = sa.MetaData(schema=schema)
    return {
        "tables": sa.Table(
            "dekctl_tables",
            metadata,
            sa.Column("table_name", StoredText(255), primary_key=True),
            sa.Column("facts", StoredText(), nullable=False),
        ),
        "runs": sa.Table(
            RUNS,
            metadata,
            sa.Column("run_id", StoredText(36), primary_key=True),
            sa.Column("operation", StoredText(32), nullable=False),
            sa.Column("table_name", StoredText(255), nullable=False),
            sa.Column("env", StoredText(64), nullable=False),
            sa.Column("shard", StoredText(32)),
            sa.Column("dry_run", sa.Boolean, nullable=False),
            sa.Column("state", StoredText(16), nullable=False),
            sa.Column("who", StoredText(255), nullable=False),
            sa.Column("host", StoredText(255), nullable=False),
            sa.Column("pid", sa.Integer, nullable=False),
            sa.Column("process_started", StoredText(64), nullable=False),
            sa.Column("started_at", StoredText(32), nullable=False),
            sa.Column("heartbeat_at", StoredText(32), nullable=False),
            sa.Column("ended_at", StoredText(32)),
            sa.Column("kek_id", StoredText(2048)),
            sa.Column("dekctl_version", StoredText(32), nullable=False),
            sa.Column("position", StoredText()),
            sa.Column("result", StoredText()),
            sa.Column("error", StoredText()),
        ),
        "quarantine": sa.Table(
            "dekctl_quarantine",
            metadata,
            sa.Column("table_name", StoredText(255), primary_key=True),
            sa.Column("pk_hash", StoredText(64), primary_key=True),
            sa.Column("pk", StoredText(), nullable=False),
            sa.Column("operation", StoredText(32), nullable=False),
            sa.Column("reason", StoredText(), nullable=False),
            sa.Column("run_id", StoredText(36), nullable=False),
            sa.Column("since", StoredText(32), nullable=False),
        ),
    }


def time_text(moment: datetime) -> str:
    """A time as the ledger holds it: text, UTC, to the millisecond."""
    return moment.replace(tzinfo=None).isoformat(sep=" ", timespec="milliseconds")


def parse_time(text: str | None) -> datetime | None:
    """A time that the ledger holds: UTC, without zone; None where there is none."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo is None else None


def parse_result(text: str | None) -> dict[str, Any] | None:
    """A run's result as the ledger holds it; None where there is none."""
    try:
        found = json.loads(text or "null")
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or any(
        not is_valid(found[name]) for name, is_valid in _RESULT.items() if name in found
    ):
        return None
    return found


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_count, value.values()))


_RESULT: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("changed", "proved", "rows"), _is_count),
    **dict.fromkeys(("kms_calls", "sources", "key_materials"), _is_counts),
    "targets": lambda value: (
        isinstance(value, list) and all(isinstance(kek, str | None) for kek in value)
    ),
    "left_none_of": lambda value: isinstance(value, str | None),
}
"""What later commands compute with, and how it has to look."""
