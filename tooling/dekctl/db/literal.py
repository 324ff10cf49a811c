"""Values from the configuration as SQL."""

from __future__ import annotations

from dekctl.errors import UsageError


def literal(text: str) -> str:
    """An SQL string literal, its colons kept from reading as bind parameters."""
    if "\\" in text or "\0" in text:
        raise UsageError(f"not a name that SQL takes: {text!r}", hint="correct [table]")
    return "'" + text.replace("'", "''").replace(":", r"\:") + "'"


def owner_literal(text: str, *, number: bool) -> str:
    """A value of the ``kek_by`` column; ``number`` says that the column holds numbers."""
    if not number:
        return literal(text)
    try:
        return str(int(text))
    except ValueError:
        raise UsageError(
            f"kek_by lists {text!r}, but its column holds numbers", hint="correct [table]"
        ) from None
