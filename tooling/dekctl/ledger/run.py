"""A run: one command's entry in the ledger, and its states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from dekctl.db.row import PrimaryKey
from dekctl.db.shape import Shard


class RunState(StrEnum):
    """The state of a run, as the ledger stores it."""

    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"
    """By the operator; finished batches are kept."""
    FAILED = "failed"
    ABANDONED = "abandoned"
    """Its process died; the next run on the table noticed."""


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
    progress: Callable[[], dict[str, Any]] | None = None
    """What each heartbeat records as the result so far."""
    kek_id: str | None = None
    """Set where the KEK is known only at the end; otherwise the one given at the start stays."""
