"""The text forms of a key (base64, hex and their kin), and which of them a text is in."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from dekctl.config import Encoding

FEWEST_CHARACTERS = 8
"""A text with fewer different characters is no random key, whatever its alphabet."""


@dataclass(frozen=True, slots=True)
class TextForm:
    """How a key is written as text. ``decode`` raises ``ValueError`` for any other text."""

    encode: Callable[[bytes], str]
    decode: Callable[[str], bytes]


def _hex(text: str) -> bytes:
    if not text.isalnum():  # fromhex takes spaces
        raise ValueError
    return bytes.fromhex(text)


def _base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _base64url(text: str) -> bytes:
    return base64.b64decode(text, altchars=b"-_", validate=True)


def _base64url_unpadded(text: str) -> bytes:
    if text.endswith("="):
        raise ValueError
    return _base64url(text + "=" * (-len(text) % 4))


FORMS: Mapping[Encoding, TextForm] = {
    "hex": TextForm(bytes.hex, _hex),
    "hex-upper": TextForm(lambda key: key.hex().upper(), _hex),
    "base64": TextForm(lambda key: base64.b64encode(key).decode("ascii"), _base64),
    "base64url": TextForm(lambda key: base64.urlsafe_b64encode(key).decode("ascii"), _base64url),
    "base64url-unpadded": TextForm(
        lambda key: base64.urlsafe_b64encode(key).decode("ascii").rstrip("="), _base64url_unpadded
    ),
}
"""The forms by encoding, the more particular ones first: most hex is base64, too."""


def form_of(stored: bytes | str, sizes: Collection[int]) -> Encoding | None:
    """The form in which a text is exactly a random key of an allowed size (bytes); None for none.

    A random key of 16 bytes or more is a text by chance once in 2**32 times or less.
    """
    try:
        text = stored if isinstance(stored, str) else stored.decode("ascii")
    except UnicodeDecodeError:
        return None
    if len(set(text)) < FEWEST_CHARACTERS:
        return None
    for encoding, form in FORMS.items():
        try:
            key = form.decode(text)
        except ValueError:
            continue
        if len(key) in sizes and form.encode(key) == text:
            return encoding
    return None


def problem_of(text: str, encoding: Encoding, sizes: Collection[int]) -> tuple[str, str]:
    """Why a text is not in an encoding, and what to do. Neither shows any of the text."""
    form = form_of(text, sizes)
    if form is not None:
        return f": it is {form}", f'set plaintext_encoding = "{form}" in [table]'
    check = "check plaintext_encoding in [table], or correct the row"
    if text[:2] in ("\\x", "0x", "0X"):
        return f": it begins with {text[:2]}", f"{check}: remove that prefix"
    if re.search(r"\s", text):
        return ": it has line breaks or spaces", f"{check}: remove them"
    if encoding.startswith("base64"):
        if re.search(r"[-_]", text) and encoding == "base64":
            return ": it is url-safe base64", 'set plaintext_encoding = "base64url" in [table]'
        if len(text.rstrip("=")) % 4 > 1 and len(text) % 4 and text.isascii():
            return ": its padding (=) is missing", f"{check}: add the padding"
    return "", check
