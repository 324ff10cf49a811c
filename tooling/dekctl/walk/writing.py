"""Writes the changes of a batch in the engine's transaction."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from dekctl.db.row import Change, PrimaryKey
from dekctl.kms.context import V3
from dekctl.operations.base import Operation


def write(
    connection: Connection, operation: Operation, changes: list[Change]
) -> tuple[list[PrimaryKey], set[str]]:
    """Write each change whose row is as it was read and whose branch key (V3) is still stored.

    Returns:
        The primary keys of the rows that were not written, and the ids of the branch keys that are
        gone: a fail-over lost them, or somebody changed or deleted them. Drop these from memory
        once the transaction has ended.

    Raises:
        DatabaseError: the database refused.
    """
    parts = _by_columns(operation, changes)
    for columns, part in parts.items():
        assert not _lacks_branch_key(columns, part), "an operation forgot it"
    lost = _lost_branch_keys(connection, operation, changes)
    unwritten = [c.row.pk for c in changes if _needs_any(c, lost)] if lost else []
    for columns, part in parts.items():
        sound = [c for c in part if not _needs_any(c, lost)] if lost else part
        unwritten += operation.table.swap(connection, columns, sound, erase=operation.erases)
    return unwritten, lost


def _lost_branch_keys(
    connection: Connection, operation: Operation, changes: list[Change]
) -> set[str]:
    """The ids of the branch keys that are not stored any more; locks the others.

    One short statement, and none where no change needs a branch key.
    """
    needed = {change.branch_key for change in changes if change.branch_key is not None}
    if not needed:
        return set()
    branches = operation.kms.branches
    assert branches is not None, "whoever has a branch key has a store of them"
    return branches.not_stored(connection, needed)


def _lacks_branch_key(columns: Sequence[str], changes: Sequence[Change]) -> bool:
    """Whether a branch key, which a change does not name, wraps the only key of its row then.

    ``columns`` name the values of the changes.
    """
    others = [change for change in changes if change.branch_key is None]
    if "version" in columns:
        version = columns.index("version")
        return any(change.values[version] == V3 for change in others)
    if "plaintext" in columns:
        plaintext = columns.index("plaintext")
        return any(c.row.version == V3 and c.values[plaintext] is None for c in others)
    return False


def _needs_any(change: Change, branch_ids: set[str]) -> bool:
    return change.branch_key is not None and change.branch_key.branch_id in branch_ids


def _by_columns(operation: Operation, changes: list[Change]) -> dict[tuple[str, ...], list[Change]]:
    """The changes by what they set; nearly always all set the operation's columns."""
    usual = operation.columns
    if all(change.columns is None for change in changes):
        return {usual: changes}
    parts: dict[tuple[str, ...], list[Change]] = {}
    for change in changes:
        parts.setdefault(change.columns or usual, []).append(change)
    return parts
