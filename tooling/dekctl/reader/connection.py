"""Reads on the application's own connection, within its transaction.

A second connection could wait forever for a place in the application's pool. With a pool of one
connection (``StaticPool``) it would even be the same one, and end the application's transaction.
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
    """Runs work on the connection lent to this thread, else on one of the engine's."""

    def __init__(self, engine: Callable[[], sa.Engine | None]) -> None:
        """``engine`` returns the database to use where no connection is lent."""
        self._engine = engine
        self._lent = threading.local()

    @contextmanager
    def of(self, connection: Callable[[], sa.Connection] | None) -> Iterator[None]:
        """Lend a connection; ``connection`` is called only when there is work for it."""
        self._lent.connection = connection
        try:
            yield
        finally:
            self._lent.connection = None

    def run(self, work: Callable[[sa.Connection], Any], *, write: bool = False) -> Any:
        """Run ``work``, which must not write.

        Raises:
            UsageError: no connection is lent, and there is no engine.
            DatabaseError: the database refused.
        """
        assert not write, "an application's transaction is not ours to write in"
        connection = getattr(self._lent, "connection", None)
        engine = self._engine()
        if connection is None and engine is None:
            raise UsageError(
                "reading a V3 row needs the database that holds its branch key",
                hint="pass an engine: RowKeys(provider, engine=engine)",
            )
        try:
            if connection is not None:
                return work(connection())
            assert engine is not None
            with engine.connect() as own:
                return work(own)
        except SQLAlchemyError as error:
            raise DatabaseError(
                f"cannot read the branch key of a V3 row: {type(error).__name__}",
                hint="grant the application SELECT on dekctl_branch_keys; see the cause",
            ) from error
