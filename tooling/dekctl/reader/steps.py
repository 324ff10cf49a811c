"""What a reader has to wait for, apart from what it does with it.

The work of a reader is a generator that yields such steps; it neither knows nor cares whether they
are done in this thread (:func:`run`) or off the event loop (:mod:`dekctl.reader.aio`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from dekctl.errors import (
    DatabaseError,
    DekctlError,
    RowRejectedError,
    UsageError,
)
from dekctl.reader.rows import RowClass, may_ask
from dekctl.reader.stored import StoredRows

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class InDatabase:
    """Work on the connection of a row's session; on one of the engine where there is no row."""

    work: Callable[[sa.Connection], Any]
    row: Any = None
    kind: RowClass | None = None
    in_transaction: bool = False
    """Whether it is about the row as its session sees it, whatever engine the reader was given."""


@dataclass(frozen=True, slots=True)
class InKMS:
    """Work that waits for KMS."""

    work: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class WaitFor:
    """Other callers' calls for the same keys; gives nothing back."""

    calls: Sequence[Future[Any]]
    until: float


Step = InDatabase | InKMS | WaitFor
Steps = Generator[Step, Any, Result]


def run(steps: Steps[Result], stored: StoredRows) -> Result:
    """Do the steps in this thread, one after the other."""
    return drive(steps, lambda step: do(step, stored))


def drive(steps: Steps[Result], perform: Callable[[Step], Any]) -> Result:
    """Hand each step's result, or its error, back to the generator."""
    try:
        step = next(steps)
        while True:
            try:
                result = perform(step)
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(result)
    except StopIteration as done:
        value: Result = done.value
        return value


def do(step: Step, stored: StoredRows) -> Any:
    """Do one step in this thread."""
    match step:
        case InKMS():
            return step.work()
        case WaitFor():
            wait(step.calls, timeout=max(0.0, step.until - time.monotonic()))
            return None
        case InDatabase():
            return in_database(step, stored)


def in_database(step: InDatabase, stored: StoredRows) -> Any:
    """Work on the session's own connection, within its transaction; else on one of the engine.

    A second connection could wait forever for a place in the application's pool. With a pool of
    one connection (``StaticPool``) it would even be the same one, and end the application's
    transaction.

    Raises:
        UsageError: there is neither a session nor an engine.
        DatabaseError: the database refused.
    """
    try:
        if step.kind is not None and on_session(step, stored):
            bind = stored.bind(step.row, step.kind)
            assert bind is not None
            _refuse_to_block(bind.dialect)
            to_write = step.in_transaction
            return step.work(stored.connection(step.row, step.kind, to_write=to_write))
        engine = needed_engine(stored)
        _refuse_to_block(engine.dialect)
        with engine.connect() as own:
            return step.work(own)
    except SQLAlchemyError as error:
        raise connection_error(error) from error


def on_session(step: InDatabase, stored: StoredRows) -> bool:
    """Whether a step is done on the connection of the row's session, not on one of the engine.

    What only that session's transaction can see or lock is asked there: another connection finds
    no row that is not committed, and waits forever for a lock that the session holds.
    """
    if step.kind is None:
        return False
    return step.in_transaction or stored.shares_database(step.row, step.kind)


def _refuse_to_block(dialect: sa.Dialect) -> None:
    """Check that the database can be asked here."""
    if not may_ask(dialect):
        raise UsageError(
            "an AsyncSession cannot be asked for a key in a call that is not awaited",
            hint="use the asynchronous method: await keys.aread(row), await keys.aissue(row)",
        )


def needed_engine(stored: StoredRows) -> sa.Engine:
    """The engine, for a row without a session.

    Raises:
        UsageError: none is known.
    """
    engine: sa.Engine | None = stored.engine
    if engine is None:
        raise UsageError(
            "reading a V3 row needs the database that holds its branch key",
            hint="pass an engine: RowKeys(provider, engine=engine)",
        )
    return engine


def connection_error(error: SQLAlchemyError) -> DekctlError:
    """Build the error for a database that cannot be reached."""
    return DatabaseError(
        f"the database cannot be asked: {type(error).__name__}", hint="see the cause"
    )


def wait_for(calls: Mapping[Any, Future[Any]], until: float) -> Steps[None]:
    """Wait for other callers' calls, if there are any."""
    if calls:
        yield WaitFor(list(calls.values()), until)


def result_of(call: Future[Result]) -> Result:
    """The result of another caller's call that has ended, or a copy of its failure, raised."""
    error = call.exception()
    if error is not None:
        raise copy_of(error) from None
    return call.result()


def copy_of(error: BaseException) -> BaseException:
    """An exception like another one, with a traceback of its own: threads must not share one."""
    made = type(error).__new__(type(error), *error.args)
    made.args = error.args
    made.__dict__.update(error.__dict__)
    return made


def rejection(failure: DekctlError) -> RowRejectedError:
    """A failure of a moment ago, for one row.

    Raises:
        DekctlError: the failure, where it concerns every row.
    """
    error = copy_of(failure)
    if isinstance(error, RowRejectedError):
        return error
    raise error
