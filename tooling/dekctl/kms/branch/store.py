"""Branch keys as they are stored, and what :mod:`dekctl.kms.branch.keys` needs of their store."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from dekctl.errors import BranchKeyMissingError, RowRejectedError
from dekctl.kms.branch_key import BranchKey


@dataclass(slots=True)
class BranchRewrapResult:
    """How many branch keys of a table are under the KEK now, and why the others are not."""

    rewrapped: int = 0
    failed: list[RowRejectedError] = field(default_factory=list)


class BranchStore(Protocol):
    """Where branch keys are kept. Each method but :meth:`not_stored` is its own transaction."""

    def add(self, key: BranchKey) -> None:
        """Store a new branch key; it is committed when this returns."""

    def get(self, branch_ids: Iterable[str]) -> dict[str, BranchKey]:
        """Read branch keys by id; missing ones are left out."""

    def page(self, context_name: str, after: str, size: int) -> list[BranchKey]:
        """Read the next ``size`` branch keys of a table, by id."""

    def not_stored(self, transaction: Any, keys: Collection[BranchKey]) -> set[str]:
        """The ids of those that are not stored exactly so; the others stay until the end of it."""

    def replace(self, old: BranchKey, wrapped: bytes, kek_id: str) -> bool:
        """Store a branch key under another KEK, unless another process did so meanwhile."""


def missing(branch_id: str | None) -> BranchKeyMissingError:
    """The error of a row whose branch key is not stored."""
    return BranchKeyMissingError(
        f"its branch key {branch_id} is missing", hint="restore dekctl_branch_keys from a backup"
    )


def damaged(branch_id: str) -> RowRejectedError:
    """The error of a row whose branch key is stored as something that is no wrapped key."""
    return RowRejectedError(
        f"its branch key {branch_id} is damaged: what is stored is no wrapped branch key",
        hint="restore dekctl_branch_keys from a backup",
    )
