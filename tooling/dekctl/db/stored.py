"""Values as they are stored, which may be of any kind: SQLite checks no column's type.

Whoever may write dekctl's own tables, or the columns that rows name their KEK in, puts anything
there. A text is read as text all the same, and what is no blob as an empty one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa


def text_of(value: Any) -> str | None:
    """A stored value as text: bytes as ``backslashreplace`` writes them, numbers as SQLite does."""
    if value is None or type(value) is str:
        return value
    if isinstance(value, bytes):  # a text that is not UTF-8, too
        return value.decode(errors="backslashreplace")
    return str(value)


class StoredText(sa.types.TypeDecorator[str]):
    """A text column of dekctl's own; ``length`` is in characters, unlimited where None."""

    impl = sa.String
    cache_ok = True

    def __init__(self, length: int | None = None) -> None:
        super().__init__(length)
        self.length = length

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[str]:  # noqa: ARG002
        return sa.Text() if self.length is None else sa.String(self.length)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> str | None:  # noqa: ARG002
        return text_of(value)


class StoredBlob(sa.LargeBinary):
    """A blob column of dekctl's own."""

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Callable[[Any], bytes]:  # noqa: ARG002
        # Not bytes(value): of a number it makes as many zeros.
        return lambda value: (
            bytes(value) if isinstance(value, bytes | bytearray | memoryview) else b""
        )
