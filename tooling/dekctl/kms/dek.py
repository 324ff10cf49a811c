"""Plaintext data keys in the memory of a process: what may show them, and what may not.

Error reporters send the local variables of every frame that an exception passed. So a key has a
type whose text is never the key, and :func:`hides_keys` empties the frames below a public call.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class DEK(bytes):
    """A plaintext data key: ``bytes`` in every way, but ``repr``, ``str`` and ``format`` show none.

    Slices and sums of it are plain ``bytes``.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<DEK of {len(self)} bytes>"

    __str__ = __repr__
    __sentry_repr__ = __repr__
    """What Sentry's SDK shows of a value; without it, it decodes ``bytes`` of any type."""

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)


def hides_keys(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function that handles plaintext keys: no frame of an error holds them.

    The frames keep their names and line numbers; their local variables are dropped. Frames of the
    caller, and of an exception that the caller was already handling, are left alone.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        outer = sys.exception()
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            clear_locals(error, outer)
            raise
        finally:
            del args, kwargs

    return call


def clear_locals(error: BaseException, outer: BaseException | None = None) -> None:
    """Drop the local variables of all frames that an error and its causes have passed and left.

    ``outer`` and what led to it are not touched.
    """
    seen: set[int] = {id(outer)}
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        traceback.clear_frames(each.__traceback__)
        waiting += [each.__cause__, each.__context__]
