"""Schema steps in the ledger: who ran them, how they ended, and never two at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dekctl import __version__
from dekctl.errors import DatabaseError, DekctlError
from dekctl.ledger import Heartbeat, Ledger, RunState

if TYPE_CHECKING:
    from dekctl.schema.plan import SchemaPlan


@contextlib.contextmanager
def recorded(plan: SchemaPlan, step: str) -> Iterator[None]:
    """Record a step while it runs. The very first expand creates the ledger, and is not in it.

    Raises:
        RefusedError: another step or run is working on the table.
    """
    if not plan.ledger_exists:
        yield
        return
    ledger = Ledger(plan.table.database, plan.ledger_schema, plan.env)
    run = ledger.start(
        f"schema {step}",
        plan.config.context_name,
        shard=None,
        writes=True,
        kek_id=None,
        version=__version__,
        takes_over=step == "expand",
    )
    run.result = {"kms_calls": {}}
    try:
        with Heartbeat(ledger, run):
            yield
    except BaseException as error:
        text = error.message if isinstance(error, DekctlError) else type(error).__name__
        with contextlib.suppress(DatabaseError):  # the error that stopped the step matters more
            ledger.end(run, RunState.FAILED, text)
        raise
    ledger.end(run, RunState.FINISHED)
