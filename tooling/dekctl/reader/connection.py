"""Reads on the application's own connection, within its transaction.

A second connection could wait for ever for its place in the application's pool; and with a pool of
one connection (``StaticPool``) it would be the same one, and end the application's transaction.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from dekctl.errors import DatabaseError, UsageError


class BorrowedConnection:
    """Runs work on the connection that was lent to this thread, else on one of the engine."""

    def __init__(self, engine: Callable[[], sa.Engine | None]) -> None:
        """``engine`` says which database serves where nothing is lent."""
        self._engine = engine
        self._lent = threading.local()

    @contextmanager
    def of(self, connection: Callable[[], sa.Connection] | None) -> Iterator[None]:
        """Lend a connection for a while; it is asked for only once there is work."""
        self._lent.connection = connection
        try:
            yield
        finally:
            self._lent.connection = None

    def run(self, work: Callable[[sa.Connection], Any], *, write: bool = False) -> Any:
        """Do the work, which must not write.

        Raises:
            UsageError: nothing is lent, and there is no engine.
            DatabaseError: the database refused.
        """
        assert not write, "an application's transaction is not ours to write in"
        connection = getattr(self._lent, "connection", None)
        engine = self._engine()
        if connection is None and engine is None:
            raise UsageError(
                "a row of version V3 needs the database of its branch key",
                hint="pass it: RowKeys(provider, engine=…)",
            )
        try:
            if connection is not None:
                return work(connection())
            assert engine is not None
            with engine.connect() as own:
                return work(own)
        except SQLAlchemyError as error:
            raise DatabaseError(
                f"the branch key of a V3 row cannot be read: {type(error).__name__}",
                hint="grant the application SELECT on dekctl_branch_keys, or look at the cause",
            ) from error
