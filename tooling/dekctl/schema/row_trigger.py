"""The row trigger of a table: made by expand, closed while a step drops a column of keys.

Open, it empties the wrapped columns where a writer changes the plaintext alone, so that no reader
gets a stale key. Closed, it is the guard of contract and rollback: what their preconditions found
stays true until they end.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from dekctl.db import alembic_op as op
from dekctl.db.shape import Stage
from dekctl.db.table import DekTable
from dekctl.errors import DekctlError, RefusedError
from dekctl.ledger import tables as ledger_tables
from dekctl.schema import preconditions
from dekctl.schema.dialects.base import Guard
from dekctl.schema.plan import SchemaPlan
from dekctl.schema.trigger_state import TriggerState, trigger_state


def is_right(plan: SchemaPlan) -> bool:
    """Whether the trigger is as it is wanted now: there and intact, or not there."""
    wanted = TriggerState.LEFT_OUT if plan.without_trigger else TriggerState.INTACT
    state = trigger_state(plan.table, left_out=plan.without_trigger)
    return state in (wanted, TriggerState.UNKNOWN)


def refuse_without_right(plan: SchemaPlan) -> None:
    """Refuse to expand where the role may not make the trigger and DDL commits at once.

    Raises:
        RefusedError: it may not; nothing was changed.
    """
    statements = plan.dialect.try_trigger(plan.table)
    if statements and not plan.without_trigger:
        plan.table.database.run(lambda c: _run(c, plan, statements), write=True)


def set_trigger(plan: SchemaPlan) -> None:
    """Make the trigger of an expanded table, or drop it where it is left out; save which.

    Raises:
        RefusedError: the role may not.
        DatabaseError: the database refused.
    """
    saved = ledger_tables(plan.ledger_schema)["tables"]
    row = saved.c.table_name == plan.config.context_name

    def work(connection: Connection) -> None:
        _run(connection, plan, _statements(plan))
        plan.metadata = {**plan.metadata, "without_trigger": plan.without_trigger}
        facts = json.dumps(plan.metadata, sort_keys=True)
        connection.execute(saved.update().where(row).values(facts=facts))

    plan.table.database.run(work, write=True)


def rename_trigger(plan: SchemaPlan, old: DekTable) -> None:
    """Let the trigger of an expanded table follow it to its new context name.

    Raises:
        RefusedError: the role may not.
        DatabaseError: the database refused.
    """
    if plan.table.stage is not Stage.EXPANDED:
        return
    # The new one first: at no moment, and after no kill, can a writer leave a stale wrapped key.
    set_trigger(plan)
    if old.config.trigger != plan.config.trigger:
        statements = plan.dialect.drop_trigger(old)
        plan.table.database.run(lambda c: _run(c, plan, statements), write=True)


def put_trigger(plan: SchemaPlan) -> None:
    """The same within a step.

    Raises:
        RefusedError: the role may not.
    """
    _in_step(plan, _statements(plan))


def drop_trigger(plan: SchemaPlan) -> None:
    """Drop the trigger within a step, before a column goes that it names."""
    _in_step(plan, plan.dialect.drop_trigger(plan.table))


def _statements(plan: SchemaPlan) -> list[str]:
    if plan.without_trigger:
        return plan.dialect.drop_trigger(plan.table)
    return plan.dialect.open_trigger(plan.table)


def _in_step(plan: SchemaPlan, statements: Sequence[str]) -> None:
    if not plan.offline:
        _run(op.get_bind(), plan, statements)
        return
    for statement in statements:
        op.execute(sa.text(statement.replace(":", r"\:")))  # a colon is no parameter here


def _run(connection: Connection, plan: SchemaPlan, statements: Sequence[str]) -> None:
    try:
        for statement in statements:
            connection.exec_driver_sql(statement)
    except DBAPIError as error:
        original = error.orig if isinstance(error.orig, Exception) else error
        right = plan.dialect.missing_right(original, plan.table)
        if right is None:
            raise
        raise RefusedError(
            f"the database role may not make the row trigger of {plan.config.name}; it needs: "
            f"{right}",
            hint="grant that, or leave the trigger out (see docs/migration.md): "
            f"dekctl schema expand --without-trigger --table {plan.config.name}",
        ) from None


# -- the guard of a step ---------------------------------------------------------------------------


@contextlib.contextmanager
def guarded(plan: SchemaPlan, guard: Guard) -> Iterator[None]:
    """Close the trigger while a step runs, where the database needs that.

    A step that succeeds has dropped it. Where it fails, the trigger is opened again. A table
    without the trigger has no guard either: its rows are checked under the step's lock.

    Raises:
        RefusedError: a row is there that the guard refuses.
        DatabaseError: the database refused.
    """
    if not plan.dialect.has_guards or plan.without_trigger:
        yield
        return
    try:
        plan.dialect.add_guard(plan.table, guard)
        with plan.table.database.transaction() as connection:
            plan.guard_state = plan.dialect.guard_state(connection, plan.table)
        _prove(plan, guard)
        if guard is Guard.PLAINTEXT:
            plan.dialect.spare_scan(plan.table)
        plan.guard = guard
        yield
    except BaseException:
        # The error that stopped the step matters more; `dekctl doctor` reports a guard left behind.
        with contextlib.suppress(DekctlError):
            _open(plan)
        raise
    finally:
        plan.guard = None


def open_again(plan: SchemaPlan) -> None:
    """Drop what an interrupted step left, which refuses the application's writes.

    Raises:
        DatabaseError: the database refused.
    """
    with plan.table.database.transaction() as connection:
        left = plan.dialect.guards(connection, plan.table)
    if left:
        _open(plan)


def _open(plan: SchemaPlan) -> None:
    plan.dialect.drop_guards(plan.table)
    if plan.table.stage is Stage.EXPANDED and not is_right(plan):
        statements = _statements(plan)
        plan.table.database.run(lambda c: _run(c, plan, statements), write=True)


def is_proved(plan: SchemaPlan, *guards: Guard) -> bool:
    """Whether a guard has kept the rows as they were proved. Ask under the step's lock."""
    if plan.guard not in guards or plan.guard_state is None:
        return False
    return plan.dialect.guard_state(op.get_bind(), plan.table) == plan.guard_state


def rollback_guard(plan: SchemaPlan) -> Guard:
    """The guard of a rollback to the legacy schema."""
    return Guard.NOT_WRAPPED_ONLY if plan.metadata["plaintext_nullable"] else Guard.PLAINTEXT


def _prove(plan: SchemaPlan, guard: Guard) -> None:
    with plan.table.database.transaction(patient=True) as connection:
        if guard is Guard.NO_PLAINTEXT:
            preconditions.refuse_lost_plaintexts(plan, connection)
        else:
            preconditions.refuse_lost_wrapped_keys(plan, connection)
