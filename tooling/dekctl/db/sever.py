"""When the operator wants to leave, a database that does not answer must not keep the process.

A statement waits in the driver, which no event reaches. Its end comes by closing the connection's
socket from another thread: the driver then sees a lost connection, and nothing is tried again.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import weakref
from typing import TYPE_CHECKING, Any

from sqlalchemy import event

if TYPE_CHECKING:
    from dekctl.db.database import Database

LOOK_SECONDS = 0.5
GRACE_SECONDS = 2.0
"""What a transaction that is on its way gets to end by itself."""
PATIENCE_SECONDS = 5.0
"""The same for what is said to the database after that: how the run ended."""


def sever_when_given_up(database: Database) -> None:
    """Have connections closed soon after ``database.give_up`` is set. Starts with the first one."""
    if not database.backend.is_remote:
        return
    connections: weakref.WeakSet[Any] = weakref.WeakSet()
    adding = threading.Lock()
    started: list[bool] = []

    @event.listens_for(database.engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        with adding:
            connections.add(connection)
            if started:
                return
            started.append(True)
        arguments = (weakref.ref(database), connections, adding)
        threading.Thread(target=_watch, args=arguments, name="dekctl-leaving", daemon=True).start()


def _watch(
    reference: weakref.ref[Database], connections: weakref.WeakSet[Any], adding: threading.Lock
) -> None:
    def opened() -> set[Any]:
        with adding:
            return set(connections)

    pause = threading.Event()
    while True:
        database = reference()
        if database is None or database.closed.wait(0):
            return
        if database.give_up.is_set():
            break
        del database
        pause.wait(LOOK_SECONDS)
    waiting, old = GRACE_SECONDS, opened()
    while not database.closed.wait(waiting):
        for connection in old:
            _sever(database, connection)
        waiting, old = PATIENCE_SECONDS, opened()


def _sever(database: Database, connection: Any) -> None:
    with (
        contextlib.suppress(Exception),  # it may be closed already, in the driver's own way
        # A copy of the number: closing it leaves the driver's own to the driver.
        socket.socket(fileno=os.dup(database.backend.socket_of(connection))) as own,
    ):
        own.shutdown(socket.SHUT_RDWR)
