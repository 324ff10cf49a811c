"""One command's entry in the ledger, and the states it goes through."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from dekctl.db.row import PrimaryKey
from dekctl.db.shape import Shard


class RunState(StrEnum):
    """How a run stands or ended, as the ledger stores it."""

    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"
    """By the operator; finished batches are kept."""
    FAILED = "failed"
    ABANDONED = "abandoned"
    """Its process died. The next run on the table found that out."""


@dataclass(slots=True)
class Run:
    """One command's entry in the ledger."""

    run_id: str
    operation: str
    table_name: str
    shard: Shard | None
    writes: bool
    position: PrimaryKey | None = None
    result: dict[str, Any] = field(default_factory=dict)
    kek_id: str | None = None
    """Where it is known at the end only; an entry made at the start stays otherwise."""
