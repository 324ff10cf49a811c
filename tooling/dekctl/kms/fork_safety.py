"""What a forked process must not inherit: locks held by threads of the parent, and connections.

A child process has none of its parent's threads. A server that loads the application and then
forks its workers (gunicorn with ``preload``) would leave them with a transport without threads, on
sockets that the parent still uses.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Inherited(Protocol):
    """An object that must be reset in a forked process."""

    def after_fork(self) -> None:
        """Reset, in the child, before any other code runs there."""


_all: WeakSet[Inherited] = WeakSet()
_kept: list[object] = []


def reset_after_fork(thing: Inherited) -> None:
    """Have ``after_fork`` called in every child that is forked while the object exists."""
    _all.add(thing)


def keep(thing: object) -> None:
    """Never free an object of the parent: closing its connections would close the parent's."""
    _kept.append(thing)


def _in_child() -> None:
    for thing in list(_all):
        thing.after_fork()


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_in_child)
