"""A database that does not answer must not keep a process that the operator wants to end.

A statement waits inside the driver, where no event reaches it. It ends when another thread closes
the connection's socket: the driver then sees a lost connection, and nothing is retried.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import weakref
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, event

POLL_SECONDS = 0.5
TRANSACTION_GRACE_SECONDS = 2.0
"""How long a running transaction may take to end by itself."""
LEDGER_GRACE_SECONDS = 5.0
"""How long the statements after that may take, which record how the run ended."""


def sever_on_give_up(
    engine: Engine,
    socket_of: Callable[[Any], int],
    give_up: threading.Event,
    closed: threading.Event,
) -> None:
    """Close an engine's connections soon after ``give_up`` is set, unless ``closed`` is set first.

    Args:
        engine: the engine; a thread watches it from its first connection on.
        socket_of: returns the number of the socket behind a driver's connection.
        give_up: set when the operator wants to leave.
        closed: set when the database is no longer used.
    """
    connections: weakref.WeakSet[Any] = weakref.WeakSet()
    adding = threading.Lock()
    started: list[bool] = []

    def opened() -> set[Any]:
        with adding:
            return set(connections)

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        with adding:
            connections.add(connection)
            if started:
                return
            started.append(True)
        arguments = (weakref.ref(engine), opened, socket_of, give_up, closed)
        threading.Thread(target=_watch, args=arguments, name="dekctl-sever", daemon=True).start()


def _watch(
    engine: weakref.ref[Engine],
    opened: Callable[[], set[Any]],
    socket_of: Callable[[Any], int],
    give_up: threading.Event,
    closed: threading.Event,
) -> None:
    while not give_up.wait(POLL_SECONDS):
        if closed.is_set() or engine() is None:
            return
    grace, old = TRANSACTION_GRACE_SECONDS, opened()
    while not closed.wait(grace):
        for connection in old:
            _sever(socket_of, connection)
        grace, old = LEDGER_GRACE_SECONDS, opened()


def _sever(socket_of: Callable[[Any], int], connection: Any) -> None:
    with (
        contextlib.suppress(Exception),  # it may be closed already, in the driver's own way
        # A copy of the number: closing it leaves the driver's own to the driver.
        socket.socket(fileno=os.dup(socket_of(connection))) as own,
    ):
        own.shutdown(socket.SHUT_RDWR)
