"""MariaDB and MySQL: a column's definition in the server's own words.

``MODIFY`` and ``ADD COLUMN`` take a whole definition, and what it leaves out is dropped: a CHECK, a
comment, INVISIBLE, the place in the table. So it is taken from ``SHOW CREATE TABLE``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy import Connection

from dekctl.errors import DatabaseError

_ASIDE = re.compile(r"'(?:[^'\\]|''|\\.)*'|`[^`]*`|\((?:[^()'`]|'(?:[^'\\]|''|\\.)*'|`[^`]*`)*\)")
"""Strings, names, and parentheses without others inside."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A column: all that stands behind its name, and behind which column it stands."""

    text: str
    after: str | None

    def nullable(self) -> str:
        """The same definition, but the column may be NULL."""
        start = re.search(r"\bNOT NULL\b", _top_level(self.text))
        if start is None:
            return self.text
        return f"{self.text[: start.start()]}NULL{self.text[start.end() :]}"


def definition_of(connection: Connection, quoted_table: str, column: str) -> Definition:
    """Read a column's definition.

    Raises:
        DatabaseError: the server describes the table in a way that dekctl does not know.
    """
    create = str(connection.exec_driver_sql(f"SHOW CREATE TABLE {quoted_table}").one()[1])
    after = None
    for line in create.splitlines():
        found = re.match(r"  `([^`]*)` (.*?),?$", line)
        if found and found[1] == column:
            return Definition(found[2], after)
        after = found[1] if found else None
    raise DatabaseError(
        f"the server does not describe the column {column} as expected",
        hint="see: SHOW CREATE TABLE",
    )


def _top_level(text: str) -> str:
    """The text with strings, names and parentheses blanked out, at its full length."""
    while True:
        blank = _ASIDE.sub(lambda found: " " * len(found[0]), text)
        if blank == text:
            return text
        text = blank
