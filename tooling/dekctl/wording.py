"""Numbers in sentences."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """A number and its noun: "1 row", "1,000 rows". The noun forms its plural with an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
