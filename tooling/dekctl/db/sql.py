"""Values from the configuration as SQL."""

from __future__ import annotations

from collections.abc import Sequence

from dekctl.config.model import OTHERS
from dekctl.errors import UsageError


def literal(text: str) -> str:
    """An SQL string literal for ``sqlalchemy.text``, where a bare colon marks a parameter."""
    if "\\" in text or "\0" in text:
        raise UsageError(
            f"a name with a backslash or NUL cannot be used in SQL: {text!r}",
            hint="correct [table]",
        )
    return "'" + text.replace("'", "''").replace(":", r"\:") + "'"


def kek_by_condition(column: str, value: str, *, number: bool) -> str:
    """SQL for the rows of one value of the (quoted) ``kek_by`` column.

    ``number`` says that the column holds numbers.
    """
    return f"{column} = {_kek_by_literal(value, number=number)}"


def kek_by_case(column: str, keks: Sequence[tuple[str, str]], *, number: bool) -> str:
    """SQL of a row's ``kek_by`` value, spelled as the configuration lists it.

    The database compares, as it does when it finds the rows that are due: it may ignore case or
    padding.
    """
    cases = [
        f"WHEN {kek_by_condition(column, value, number=number)} THEN {literal(value)}"
        for value, _ in keks
        if value != OTHERS
    ]
    return f"CASE {' '.join(cases)} END" if cases else "NULL"


def _kek_by_literal(text: str, *, number: bool) -> str:
    """A value of the ``kek_by`` column; ``number`` says that the column holds numbers."""
    if not number:
        return literal(text)
    try:
        return str(int(text))
    except ValueError:
        raise UsageError(
            f"kek_by lists {text!r}, but its column holds numbers", hint="correct [table]"
        ) from None
