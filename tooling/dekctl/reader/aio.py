"""A reader's steps for asyncio: nothing here blocks the event loop.

KMS is asked in threads of the reader's own. The database is asked through the row's AsyncSession;
through an engine, or a plain Session, in a thread too.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import wraps
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy.exc import SQLAlchemyError

from dekctl.kms.dek import clear_locals
from dekctl.kms.fork_safety import reset_after_fork
from dekctl.reader.rows import session_of
from dekctl.reader.steps import (
    InDatabase,
    InKMS,
    Step,
    Steps,
    WaitFor,
    connection_error,
    in_database,
    needed_engine,
    on_session,
)
from dekctl.reader.stored import StoredRows

THREADS = 32
"""How many calls to KMS an event loop has on their way; each may be for many keys."""

P = ParamSpec("P")
R = TypeVar("R")


def hides_keys(
    function: Callable[P, Coroutine[Any, Any, R]],
) -> Callable[P, Coroutine[Any, Any, R]]:
    """:func:`dekctl.kms.dek.hides_keys` for a coroutine function."""

    @wraps(function)
    async def call(*args: P.args, **kwargs: P.kwargs) -> R:
        outer = sys.exception()
        try:
            return await function(*args, **kwargs)
        except BaseException as error:
            clear_locals(error, outer)
            raise
        finally:
            del args, kwargs

    return call


class Async:
    """Does a reader's steps off the event loop."""

    def __init__(self, stored: StoredRows) -> None:
        self._stored = stored
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Begin anew: threads do not live on in a child."""
        self._pool: ThreadPoolExecutor | None = None
        self._busy: WeakKeyDictionary[Any, asyncio.Lock] = WeakKeyDictionary()

    def close(self) -> None:
        """End the threads, as soon as their calls have ended."""
        if self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool = None

    async def run(self, steps: Steps[R]) -> R:
        """Do the steps, one after the other."""
        try:
            step = next(steps)
            while True:
                try:
                    result = await self._do(step)
                except BaseException as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as done:
            value: R = done.value
            return value

    async def _do(self, step: Step) -> Any:
        match step:
            case InKMS():
                return await self._in_thread(step.work)
            case WaitFor():
                calls = [asyncio.wrap_future(call) for call in step.calls]
                done, _ = await asyncio.wait(calls, timeout=max(0.0, step.until - time.monotonic()))
                for call in done:
                    call.exception()  # it is looked at where the call is
                return None
            case InDatabase():
                return await self._in_database(step)

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="dekctl-reader")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, copy_context().run, work)

    async def _in_database(self, step: InDatabase) -> Any:
        # SQLAlchemy's asyncio part needs greenlet, which is installed where it is used.
        from sqlalchemy.ext.asyncio import AsyncEngine, async_object_session  # noqa: PLC0415

        stored, kind = self._stored, step.kind
        if kind is not None and on_session(step, stored):
            session = async_object_session(step.row)
            if session is None:  # a plain Session: nobody else uses it while its owner waits here
                return await self._in_thread(lambda: in_database(step, stored))
            # Two tasks must not use one session at once.
            lock = self._busy.setdefault(session_of(step.row, kind), asyncio.Lock())
            async with lock:
                return await session.run_sync(lambda _: in_database(step, stored))
        engine = needed_engine(stored)
        if not engine.dialect.is_async:
            return await self._in_thread(lambda: in_database(step, stored))
        try:
            async with AsyncEngine(engine).connect() as connection:
                return await connection.run_sync(step.work)
        except SQLAlchemyError as error:
            raise connection_error(error) from error
