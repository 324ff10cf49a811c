"""A guard around a schema step: what its preconditions found stays true until it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from dekctl.errors import DekctlError, RefusedError
from dekctl.schema import preconditions
from dekctl.schema.dialects.base import (
    CONTRACT_GUARD,
    ROLLBACK_GUARD,
    Guard,
    GuardViolatedError,
)
from dekctl.schema.plan import SchemaPlan


@contextlib.contextmanager
def guarded(plan: SchemaPlan, name: str) -> Iterator[None]:
    """Have a guard while a step runs, where the database has guards.

    A step that succeeds has dropped its guard, or the column under it. Where it fails, the guard
    is dropped here.

    Raises:
        RefusedError: a row does not meet the guard's condition.
        DatabaseError: the database refused.
    """
    if not plan.dialect.has_guards:
        yield
        return
    try:
        _add(plan, name)
        yield
    except BaseException:
        # The error that stopped the step matters more; `dekctl doctor` reports a guard left behind.
        with contextlib.suppress(DekctlError):
            plan.dialect.drop_guards(plan.table)
        raise


def _add(plan: SchemaPlan, name: str) -> None:
    try:
        plan.dialect.add_guard(plan.table, Guard(name, _condition(plan, name)))
    except GuardViolatedError:
        if name == CONTRACT_GUARD:
            raise preconditions.still_plaintext(plan.config) from None
        with plan.table.database.transaction(patient=True) as connection:
            preconditions.refuse_lost_wrapped_keys(plan, connection)
        raise RefusedError(
            f"rows of {plan.config.name} changed while they were checked",
            hint="stop the application versions that issue wrapped keys, then run it again",
        ) from None


def _condition(plan: SchemaPlan, name: str) -> str:
    if name == CONTRACT_GUARD:
        return plan.table.is_null("plaintext")
    assert name == ROLLBACK_GUARD
    if plan.metadata["plaintext_nullable"]:
        return f"NOT ({plan.table.wrapped_only})"
    # This one also spares SET NOT NULL its scan of the rows.
    return plan.table.has_value("plaintext")
