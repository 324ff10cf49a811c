"""Trouble for a command that runs within this process: death at a moment, writes in between."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dekctl.db.database import Database
from dekctl.errors import DatabaseError
from dekctl.walk.engine import Walk
from support.app import AppDatabase
from support.kms_standin import KmsStandin


class KilledError(DatabaseError):
    """The process is dead: nothing it tries from now on has any effect."""

    def __init__(self) -> None:
        super().__init__("killed")


class Killer:
    """Kills the command in this process, by letting nothing through after the chosen moment."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.dead = False
        self._lock = threading.Lock()

    def arm(self, moments: int | None) -> None:
        """Die at the so-many-th moment from now; None: live."""
        self.left, self.dead = moments, False

    def moment(self) -> None:
        """A moment at which a process may die."""
        with self._lock:
            if self.left is not None and not self.dead:
                self.left -= 1
                self.dead = self.left < 0
            if self.dead:
                raise KilledError


class Surroundings:
    """What the machines of one test share: servers, the killer, and counts for the report."""

    def __init__(self, database: AppDatabase, standin: KmsStandin, folder: Path) -> None:
        self.database = database
        self.standin = standin
        self.folder = folder
        self.killer = Killer()
        self.between: list[Callable[[], None]] = []
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def interleave(self) -> None:
        """Let the application write now, between dekctl's reading and its writing."""
        with self._lock:
            if self.between and not self.killer.dead:
                self.between.pop(0)()

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Put moments to die, and moments for the application, into dekctl."""
        work, transaction, killer = Walk._work, Database.transaction, self.killer

        def watched_work(walk: Walk, rows: Any) -> Any:
            killer.moment()
            self.interleave()
            verdicts = work(walk, rows)
            self.interleave()
            killer.moment()
            return verdicts

        @contextlib.contextmanager
        def watched_transaction(self: Database, **options: Any) -> Iterator[sa.Connection]:
            killer.moment()
            with transaction(self, **options) as connection:
                yield connection
                killer.moment()  # before the commit
            killer.moment()  # after the commit, of which nobody will hear

        def statement(connection: sa.Connection, *_: object) -> None:
            if connection.engine is not self.database.engine:
                killer.moment()

        Walk._work = watched_work  # type: ignore[method-assign,assignment]
        Database.transaction = watched_transaction  # type: ignore[method-assign]
        sa.event.listen(sa.Engine, "before_cursor_execute", statement)
        try:
            yield
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", statement)
            Walk._work, Database.transaction = work, transaction  # type: ignore[method-assign]
