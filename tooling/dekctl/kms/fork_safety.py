"""What a forked process must not inherit: locks that a thread of its parent holds, and connections.

Threads do not live on in a child. A server that loads the application and then forks its workers
(gunicorn with ``preload``) would leave them with a transport whose threads are gone, and whose
sockets the parent goes on using.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Inherited(Protocol):
    """Something that a process may have when it forks."""

    def after_fork(self) -> None:
        """Begin anew, in the child, before any other code runs there."""


_all: WeakSet[Inherited] = WeakSet()
_kept: list[object] = []


def begin_anew_after_fork(thing: Inherited) -> None:
    """Have ``after_fork`` called in every child that is forked while the thing is in use."""
    _all.add(thing)


def keep(thing: object) -> None:
    """Never free a thing of the parent's: closing its connections would end them there, too."""
    _kept.append(thing)


def _in_child() -> None:
    for thing in list(_all):
        thing.after_fork()


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_in_child)
