"""How the row trigger of a table stands, and what to do where it is not as it should be."""

from __future__ import annotations

from enum import Enum

from dekctl.db.table import DekTable
from dekctl.schema.dialects import schema_dialect


class TriggerState(Enum):
    """How the row trigger of a table stands; the values are public."""

    INTACT = "intact"
    CHANGED = "changed"
    MISSING = "missing"
    LEFT_OUT = "left out"
    CLOSED = "closed"
    UNKNOWN = "not supported"


def trigger_state(table: DekTable, *, left_out: bool) -> TriggerState:
    """Compare a table's trigger with the one that dekctl would make now.

    ``left_out`` says that it has none on purpose.
    """
    dialect = schema_dialect(table.database)
    if not dialect.open_trigger(table):
        return TriggerState.UNKNOWN
    with table.database.transaction() as connection:
        found = dialect.triggers(connection, table)
    mine = next((t for t in found if t.name == table.config.trigger), None)
    if mine is None:
        return TriggerState.LEFT_OUT if left_out else TriggerState.MISSING
    if mine.closed:
        return TriggerState.CLOSED
    return TriggerState.INTACT if mine.intact else TriggerState.CHANGED


def advice(state: TriggerState) -> str | None:
    """What is wrong at the stage expanded, and what to do; None where nothing is."""
    return {
        TriggerState.MISSING: "there is no row trigger: an old application version can leave a "
        "stale wrapped key; make it with: dekctl schema expand",
        TriggerState.CHANGED: "the row trigger is not as dekctl makes it, or disabled; make it "
        "again with: dekctl schema expand",
        TriggerState.LEFT_OUT: "there is no row trigger, as chosen: once no old application "
        "version writes, run dekctl verify, which finds stale wrapped keys",
    }.get(state)
