"""What a run says, to people and to the ledger, besides its result."""

from __future__ import annotations

from dekctl.kms.branch.store import BranchRewrapResult
from dekctl.ledger import Run
from dekctl.operations.base import Operation
from dekctl.operations.rewrap import Rewrap
from dekctl.walk.pacing import Note


def tell_stuck(branches: BranchRewrapResult, note: Note) -> None:
    """Name the first branch key that does not move."""
    count, first = len(branches.failed), branches.failed[0]
    note(
        f"{count:,} branch key{' does' if count == 1 else 's do'} not move, rows under "
        f"{'it' if count == 1 else 'them'} are set aside: {first.message}"
    )


def tell_unclear(operation: Rewrap, note: Note) -> None:
    """Point to rows that --from leaves out, though they may be of its KEK."""
    if operation.leaves_unclear():
        note(
            f"rows of {operation.table.config.name} name an alias or no KEK, so they may be under "
            "it, and were not looked at: dekctl rewrap --version V1"
        )


def note_keks(run: Run, operation: Operation) -> None:
    """Enter under which KEK keys were wrapped, as KMS names it; where there are many, each."""
    written = operation.written_under
    if len(written) == 1:
        run.kek_id = next(iter(written))
    elif written:
        run.result["keks"] = dict(written)
