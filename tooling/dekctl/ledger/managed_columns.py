"""Which column of a managed table has which part, as expand noted it.

The stage is derived from the columns that ``[table]`` names. With another name there, a table full
of keys would look as if it had none, and a step would drop or forget the real column.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dekctl.config import TableConfig
from dekctl.errors import RefusedError

PARTS = (
    "plaintext_column",
    "wrapped_column",
    "version_column",
    "kek_column",
    "wrapped_at_column",
)


def named_columns(config: TableConfig) -> dict[str, str]:
    """The columns that a configuration names, by their key in ``[table]``."""
    named = {part: getattr(config, part) for part in PARTS}
    return {part: column for part, column in named.items() if column is not None}


def refuse_other_columns(config: TableConfig, facts: Mapping[str, Any]) -> None:
    """Refuse a configuration that names other columns than those that were expanded.

    Facts of a ledger that noted no names tell at least which columns were added.

    Raises:
        RefusedError: it does.
    """
    named = named_columns(config)
    for part, noted in facts.get("columns", {}).items():
        now = named.get(part, noted)  # the time of a wrap need not be kept any longer
        if now != noted:
            raise RefusedError(
                f"{config.name} was expanded with {part} {noted!r}, [table] now names {now!r}",
                hint=f'set it back in [table]: {part} = "{noted}"',
            )
    if "columns" in facts:
        return
    strange = [column for column in facts.get("added", ()) if column not in named.values()]
    if strange:
        raise RefusedError(
            f"dekctl added the column {strange[0]!r} to {config.name}, and [table] does not name "
            f"it: its columns are {', '.join(named.values())}",
            hint="set wrapped_column, version_column, kek_column and wrapped_at_column in [table] "
            "back to what they were",
        )
