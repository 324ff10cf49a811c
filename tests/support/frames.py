"""What an error reporter sees: the local variables of every frame that an exception passed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import FrameType
from typing import Any

from support.secrets import spellings

_DEPTH = 6


def frames_of(error: BaseException, outside: str) -> Iterator[FrameType]:
    """The frames of an error, its causes and contexts, but for those of the file ``outside``."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        waiting += [each.__cause__, each.__context__]
        step = each.__traceback__
        while step is not None:
            if step.tb_frame.f_code.co_filename != outside:
                yield step.tb_frame
            step = step.tb_next


def assert_frames_hide(error: BaseException, keys: Iterable[bytes], outside: str) -> set[str]:
    """No local variable shows a key, however it is spelled. Returns the names of the functions."""
    spelled = [form for key in keys for form in spellings(bytes(key))]
    names = set()
    for frame in frames_of(error, outside):
        names.add(frame.f_code.co_name)
        for name, value in frame.f_locals.items():
            for text in _texts(value, _DEPTH):
                if any(form in text for form in spelled):  # the text itself is not printed
                    raise AssertionError(f"{frame.f_code.co_qualname}: {name} shows a key")
    return names


def _texts(value: Any, depth: int) -> Iterator[str]:
    """A value as reporters show it: ``repr``, and into containers."""
    yield repr(value)
    if depth == 0:
        return
    if isinstance(value, Mapping):
        for item in list(value.values()):
            yield from _texts(item, depth - 1)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in list(value):
            yield from _texts(item, depth - 1)
