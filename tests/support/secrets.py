"""Looks for key material where there must be none."""

from __future__ import annotations

import base64
from collections.abc import Iterable

SHORTEST = 12
"""Bytes of a key that are enough to call it shown: a cut-off key is a leak too."""


def spellings(key: bytes) -> set[str]:
    """Every way in which a text may show a key, or its first bytes."""
    found: set[str] = set()
    # Base64 depends on what stands before the key: three alignments, the edges left out.
    for shift in range(3):
        start = -shift % 3
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found.add(encode(key[start : start + SHORTEST]).decode())
    part = key[:SHORTEST]
    found |= {part.hex(), part.hex().upper(), part.hex(" "), part.hex(":")}
    found |= {repr(part)[2:-1], part.decode("latin-1"), str(list(part))[1:-1]}
    return found


def assert_hidden(text: str | bytes, keys: Iterable[bytes], where: str) -> None:
    """Fail, naming the place and not the key, where a key shows in a text."""
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    for key in keys:
        for spelling in spellings(key):
            if spelling in text:
                # Not the spelling itself: a test report is a log as well.
                raise AssertionError(f"key material shows in {where}; do not print that value")
