"""Numbers in sentences, and texts of others in ours."""

from __future__ import annotations

import unicodedata


def counted(number: int, noun: str) -> str:
    """A number and its noun: "1 row", "1,000 rows". The noun forms its plural with an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def printable(text: str, *, lines: bool = False) -> str:
    """A text as a terminal or a page may show it: what would move or colour it is escaped.

    Control characters (ESC, backspace, line breaks), and marks that turn the direction of a text,
    are written as in Python. ``lines`` leaves line feeds as they are.
    """
    return "".join(
        character if _is_shown(character) or (lines and character == "\n") else _escaped(character)
        for character in text
    )


def _is_shown(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
