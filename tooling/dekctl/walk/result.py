"""What a run returns, and its public form."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from dekctl.errors import ExitCode
from dekctl.kms.context import key_name
from dekctl.operations.cost import Cost
from dekctl.walk.counts import RowCounts


@dataclass(slots=True)
class RunResult:
    """What a row command did; :meth:`as_json` is the public form."""

    operation: str
    env: str
    dry_run: bool
    writes: bool = True
    """Whether the verb changes rows, or only verifies them."""
    run_ids: list[str] = field(default_factory=list)
    counts: RowCounts = field(default_factory=RowCounts)
    kms_calls: Counter[str] = field(default_factory=Counter)
    reencrypted_locally: int = 0
    """Keys that were decrypted and wrapped again in this run's processes."""
    seconds: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)
    costs: list[Cost] = field(default_factory=list)
    """What each table costs, of the verbs that give an estimate."""

    @property
    def exit_code(self) -> ExitCode:
        """How the command ends."""
        if self.counts.interrupted:
            return ExitCode.INTERRUPTED
        return ExitCode.ROWS_LEFT if self.counts.quarantined else ExitCode.OK

    @property
    def own_fields(self) -> dict[str, Any]:
        """What the verb reports beside the fields of every row command."""
        if self.writes:
            return self.extra
        counts = self.counts
        return {
            "verified": counts.proved,
            "failed": counts.quarantined,
            "pending": counts.pending,
            **self.extra,
        }

    def as_json(self) -> dict[str, Any]:
        """The fields of the contract, and what else is worth knowing."""
        counts = self.counts
        return {
            "operation": self.operation,
            "env": self.env,
            "run_id": self.run_ids[0] if self.run_ids else None,
            "dry_run": self.dry_run,
            **counts.as_json(),
            "kms_calls": dict(self.kms_calls),
            "seconds": self.seconds,
            "interrupted": counts.interrupted,
            "set_aside": [{"pk": key_name(pk), "reason": reason} for pk, reason in counts.examples],
            **self.own_fields,
        }
