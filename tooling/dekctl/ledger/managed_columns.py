"""Which column of a managed table holds what, as ``schema expand`` stored it in the ledger.

The stage is derived from the columns that ``[table]`` names. With another name there, a table full
of keys would look empty, and a step would drop or forget the real column.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dekctl.config import TableConfig
from dekctl.db.shape import Stage
from dekctl.db.table import DekTable
from dekctl.errors import RefusedError
from dekctl.ledger.metadata import PARTS


def named_columns(config: TableConfig) -> dict[str, str]:
    """The columns that a configuration names, by their key in ``[table]``."""
    named = {part: getattr(config, part) for part in PARTS}
    return {part: column for part, column in named.items() if column is not None}


def unnamed_columns(config: TableConfig, metadata: Mapping[str, Any]) -> list[str]:
    """The columns that dekctl added, says the ledger, and that ``[table]`` does not name.

    A rollback drops none of these: the ledger alone cannot tell whose a column is.
    """
    own = {name for part, name in named_columns(config).items() if part != "plaintext_column"}
    return [column for column in metadata.get("added", ()) if column not in own]


def refuse_other_columns(config: TableConfig, metadata: Mapping[str, Any]) -> None:
    """Refuse a configuration that names other columns than those that were expanded.

    ``metadata`` comes from :meth:`dekctl.ledger.Ledger.table_metadata`. Without the columns' names,
    it lists at least those that were added.

    Raises:
        RefusedError: a name differs.
    """
    named = named_columns(config)
    for part, stored in metadata.get("columns", {}).items():
        now = named.get(part, stored)  # wrapped_at_column may be removed from [table]
        if now != stored:
            raise RefusedError(
                f"{config.name} was expanded with {part} {stored!r}, but [table] now has {now!r}",
                hint=f'restore it in [table]: {part} = "{stored}"',
            )
    if "columns" in metadata:
        return
    if unnamed := unnamed_columns(config, metadata):
        raise RefusedError(
            f"dekctl added the column {unnamed[0]!r} to {config.name}, but [table] names only "
            f"{', '.join(named.values())}",
            hint="restore wrapped_column, version_column, kek_column and wrapped_at_column in "
            "[table]",
        )


def refuse_unknown_plaintext(table: DekTable, metadata: Mapping[str, Any]) -> None:
    """Refuse a table without the configured plaintext column, of which the ledger knows nothing.

    It looks contracted, but its raw keys may be in a column that [table] does not name.

    Raises:
        RefusedError: so it is.
    """
    config = table.config
    if table.stage is not Stage.CONTRACTED or metadata:
        return
    given = "the default of plaintext_column" if not config.plaintext_column_given else "named"
    raise RefusedError(
        f"{config.name} has dekctl's columns but no column {config.plaintext_column} ({given} in "
        "[table]), and the ledger has no entry for it: whether it still has plaintext keys is not "
        "known",
        hint=f"its columns are: {', '.join(table.columns)}; set plaintext_column and context_name "
        "in [table]; if it is really contracted, take it over with: dekctl schema expand",
    )
