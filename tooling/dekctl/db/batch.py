"""A batch of changes as a server gets it: what all its rows share is sent once, and not hashed.

That halves what is sent, and what the server hashes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from dekctl.db.row import KEY_COLUMNS, Change, fingerprint, is_common
from dekctl.db.shape import TableShape


@dataclass(frozen=True, slots=True)
class Batch:
    """Columns go by dekctl's own names; see :class:`dekctl.db.shape.TableShape`."""

    sent: list[str]
    """The columns that are set for each row on its own."""
    set_once: dict[str, Any]
    """The columns that are set to one value in all rows."""
    hashed: list[str]
    """The columns that each row's fingerprint is over."""
    known: dict[str, Any]
    """The other key columns, which had one value in all rows: a version, a KEK id or NULL."""
    rows: list[tuple[Any, ...]]
    """For each row its primary key, the values of ``sent``, the filler and the fingerprint with it
    where there are fillers, and the fingerprint as it was read."""


def batch_of(
    columns: Sequence[str], changes: Sequence[Change], fillers: Sequence[str | bytes] = ()
) -> Batch:
    """Prepare changes, of which there is at least one; ``columns`` name the values of each.

    With ``fillers``, one for each row, every plaintext is first overwritten by one of them.
    """
    rows = [change.row for change in changes]
    new = dict(zip(columns, zip(*(c.values for c in changes), strict=True), strict=True))
    old = {column: tuple(map(attrgetter(column), rows)) for column in KEY_COLUMNS}
    sent = [column for column in columns if not is_common(column, new[column])]
    hashed = [c for c in KEY_COLUMNS if not is_common(c, old[c])] or list(KEY_COLUMNS)
    extra: list[Sequence[Any]] = [_prints(hashed, old)]
    if fillers:
        extra = [fillers, _prints(hashed, {**old, "plaintext": fillers}), *extra]
    keys = zip(*(row.pk for row in rows), strict=True)
    return Batch(
        sent,
        {column: new[column][0] for column in columns if column not in sent},
        hashed,
        {column: values[0] for column, values in old.items() if column not in hashed},
        list(zip(*keys, *(new[c] for c in sent), *extra, strict=True)),
    )


def _prints(hashed: Sequence[str], values: Mapping[str, Sequence[Any]]) -> list[bytes]:
    """The fingerprint of each row over these columns."""
    return [fingerprint(*each) for each in zip(*(values[c] for c in hashed), strict=True)]


def is_known(
    table: TableShape, known: dict[str, Any], same_text: Callable[[str], str]
) -> tuple[str, list[Any]]:
    """SQL: these columns of the row ``t`` are as they were read; and the values of its marks.

    ``same_text`` makes, of a column's SQL, a comparison to the byte with a ``%s``.
    """
    conditions = ["TRUE"]
    for column, value in known.items():
        if table.has(column):
            sql = f"t.{table.quoted(column)}"
            conditions.append(f"{sql} IS NULL" if value is None else same_text(sql))
    values = [v for c, v in known.items() if v is not None and table.has(c)]
    return " AND ".join(conditions), values
