"""What coordinator and workers send each other. It holds no key and no password."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from dekctl.errors import DekctlError
from dekctl.operations.base import Counts, Verb
from dekctl.walk.counts import RowCounts
from dekctl.walk.options import RunSettings, WorkerShare


@dataclass(frozen=True, slots=True)
class Job:
    """One range, and all that another process needs for it."""

    config_file: str
    env: str
    assume_role: bool
    verb: Verb
    settings: RunSettings
    share: WorkerShare
    table: str
    run_id: str | None
    writes: bool


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a range: its rows, what the operation counted, and its KMS calls.

    ``latency`` is the seconds that KMS takes to answer this worker, None if it made no call.
    """

    rows: RowCounts
    counts: Counts = field(default_factory=dict)
    kms_calls: Counter[str] = field(default_factory=Counter)
    reencrypted_locally: int = 0
    latency: float | None = None
    throttles: int = 0


class WorkerDiedError(DekctlError):
    """A worker was lost with its range."""


class Workers(Protocol):
    """Processes that do ranges."""

    @property
    def count(self) -> int:
        """How many ranges they do at once."""

    def takes(self, out: int) -> bool:
        """Whether to hand out another range while ``out`` of them are."""

    def submit(self, job: Job) -> Future[Done]:
        """Do a range. The future raises WorkerDiedError where the process was lost."""

    def stop(self) -> None:
        """Let workers finish the batches in hand and return."""
