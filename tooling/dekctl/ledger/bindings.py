"""Guards of the binding: rows are bound to what the ledger recorded, and [table] must say the same.

A change of the context name, of the primary key or of its type leads into a second encryption
context: old rows cannot be decrypted there, and new ones get another one than the old.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from dekctl.db.binding import Binding
from dekctl.db.shape import Stage
from dekctl.db.table import DekTable
from dekctl.errors import RefusedError, UsageError
from dekctl.ledger.ledger import Ledger

SAVED = "bound_to"
"""Where a table's metadata has its binding. Ledgers from before 0.1.0 have none."""


def refuse_other_binding(table: DekTable, ledger: Ledger, configured: Collection[str]) -> None:
    """Refuse a table whose rows are bound to something else than [table] says.

    Args:
        table: as it is configured and described now.
        ledger: the ledger; it exists.
        configured: the context names of all configured tables.

    Raises:
        RefusedError: the context name or the key has changed, or another table has that name.
    """
    every = ledger.all_metadata()
    now = Binding.of(table)
    mine = every.get(now.context_name)
    if mine is None:
        _refuse_lost_name(table, every, configured)
        return
    saved = Binding.parse(mine.get(SAVED))
    if saved is None:
        return
    if _is_another(table, saved):
        own = _own_name(table, every) or suggested_name(table)
        raise RefusedError(
            f"the context name {now.context_name!r} belongs to the table {saved.table}: a key of "
            f"one table could be used in the other",
            hint=f"give {now.table} its own in [table]: context_name = {quoted(own)}",
        )
    if saved.context_name != now.context_name:
        raise RefusedError(
            f"rows of {now.table} may still be bound to the context name {saved.context_name!r}: "
            "a rebind was started and has not ended",
            hint=f"finish it: {rebind_command(saved.context_name)}",
        )
    if not now.key_reads_like(saved):
        raise RefusedError(
            f"rows of {now.table} are bound to the primary key {saved.shown_key()}; it is "
            f"{now.shown_key()} now, and old keys cannot be decrypted with it",
            hint="set it back; or rebind the rows, with SQL that gives each row its old key: "
            "dekctl rebind --old-key EXPRESSION (see docs/rebind.md)",
        )


def record_binding(table: DekTable, ledger: Ledger) -> None:
    """Record what the rows are bound to, where the ledger has nothing about it, or another name.

    Ledgers of older versions have nothing. A table that was renamed keeps its binding.
    """
    metadata = ledger.all_metadata().get(table.config.context_name)
    now = Binding.of(table).as_json()
    if metadata is not None and metadata.get(SAVED) != now:
        ledger.save_metadata(table.config.context_name, {**metadata, SAVED: now})


def begin_rename(
    table: DekTable, ledger: Ledger, old_name: str, configured: Collection[str]
) -> bool:
    """Keep in the ledger that rows are bound to the old name, before it gets the new one.

    Returns whether the ledger has the table under the old name alone, so that it is to be renamed.

    Raises:
        UsageError: another configured table has the old name.
        RefusedError: it belongs to another table, or a run is at work there.
    """
    every, now = ledger.all_metadata(), Binding.of(table)
    metadata = every.get(old_name)
    if old_name == now.context_name or now.context_name in every:
        return False
    if metadata is None:
        _refuse_lost_name(table, every, configured)
        return False
    if old_name in configured:
        raise UsageError(
            f"the context name {old_name!r} is another table's in dekctl.toml",
            hint="name the one that this table had: --old-context-name NAME",
        )
    saved = Binding.parse(metadata.get(SAVED))
    if saved is not None and _is_another(table, saved):
        raise RefusedError(
            f"the context name {old_name!r} belongs to the table {saved.table}",
            hint="name the one that this table had: --old-context-name NAME",
        )
    ledger.refuse_while_writing(old_name)
    bound = saved or replace(now, context_name=old_name)
    ledger.save_metadata(old_name, {**metadata, SAVED: bound.as_json()})
    return True


def _refuse_lost_name(
    table: DekTable, every: Mapping[str, Mapping[str, Any]], configured: Collection[str]
) -> None:
    """Refuse a context name that is new, where the ledger has the table under another one."""
    if table.stage is Stage.LEGACY:
        return
    for name, metadata in every.items():
        if name in configured:
            continue
        saved = Binding.parse(metadata.get(SAVED))
        if saved is not None and _is_another(table, saved):
            continue  # of another application in this schema
        raise RefusedError(
            f"rows of {table.config.name} are bound to the context name {name!r}, says the "
            f"ledger; [table] now says {table.config.context_name!r}",
            hint=f"set it back in [table]: context_name = {quoted(name)}; or bind the rows to the "
            f"new name: {rebind_command(name)}",
        )


def _own_name(table: DekTable, every: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The context name under which the ledger has a table; None if it has not."""
    for name, metadata in every.items():
        saved = Binding.parse(metadata.get(SAVED))
        if saved and table.database.is_same_table(saved.table, table.config.name):
            return name
    return None


def _is_another(table: DekTable, saved: Binding) -> bool:
    """Whether a saved binding is another table's. One that is gone was renamed to this one."""
    database = table.database
    same = database.is_same_table(saved.table, table.config.name)
    return not same and database.has_table(saved.table)


def rebind_command(old_name: str) -> str:
    """The command that binds rows anew from an old context name."""
    return f"dekctl rebind --old-context-name {shlex.quote(old_name)}"


def suggested_name(table: DekTable) -> str:
    """A context name that no other database or schema has by default."""
    return ".".join(filter(None, (table.database.short_name, table.config.name)))


def quoted(text: str) -> str:
    """A text as TOML takes it."""
    return f'"{text}"'
