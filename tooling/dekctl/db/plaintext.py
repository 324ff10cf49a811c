"""A plaintext key in its column: raw, base64 or hex, in a binary or a text column."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Collection

from dekctl.config import Encoding
from dekctl.errors import RowRejectedError


def decode_plaintext(stored: bytes | str, encoding: Encoding, sizes: Collection[int]) -> bytes:
    """Decode a key as its column stores it. Returns the key's bytes.

    Raises:
        RowRejectedError: not in that encoding, or not of an allowed size. The message never
            contains the value.
    """
    if not isinstance(stored, bytes | str):  # SQLite stores any type in any column
        raise RowRejectedError(
            f"its plaintext is stored as {type(stored).__name__}, neither text nor binary",
            hint="correct the row",
        )
    try:
        if encoding == "raw":
            key = stored.encode() if isinstance(stored, str) else stored
        else:
            text = stored if isinstance(stored, str) else stored.decode("ascii")
            if encoding in ("hex", "hex-upper"):
                key = bytes.fromhex(text) if text.isalnum() else _fail()
            else:
                key = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise RowRejectedError(
            f"its plaintext is not {encoding}",
            hint="check plaintext_encoding in [table], or correct the row",
        ) from None
    if len(key) not in sizes:
        raise RowRejectedError(
            f"its plaintext is {len(key)} bytes long; allowed: "
            f"{', '.join(map(str, sorted(sizes)))}",
            hint="correct the row, or set dek_bytes in [table]",
        )
    return key


def key_reader(
    encoding: Encoding, sizes: Collection[int], *, as_text: bool
) -> Callable[[bytes | str], bytes]:
    """Return a function that decodes a stored key and refuses what a rollback could not restore.

    It raises as :func:`decode_plaintext` and :func:`refuse_other_form` do.
    """

    def read(stored: bytes | str) -> bytes:
        key = decode_plaintext(stored, encoding, sizes)
        refuse_other_form(stored, key, encoding, as_text=as_text)
        return key

    def read_raw(stored: bytes | str) -> bytes:  # the usual case, and called for every row
        return stored if type(stored) is bytes and len(stored) in sizes else read(stored)

    return read_raw if encoding == "raw" and not as_text else read


def encode_plaintext(key: bytes, encoding: Encoding, *, as_text: bool) -> bytes | str:
    """Encode a key for its column: the inverse of :func:`decode_plaintext`.

    Raises:
        RowRejectedError: a text column cannot hold the key's bytes as they are.
    """
    if encoding == "raw":
        return _as_text(key) if as_text else key
    if encoding == "base64":
        text = base64.b64encode(key).decode("ascii")
    else:
        text = key.hex().upper() if encoding == "hex-upper" else key.hex()
    return text if as_text else text.encode("ascii")


def refuse_other_form(
    stored: bytes | str, key: bytes, encoding: Encoding, *, as_text: bool
) -> None:
    """Refuse a plaintext that decodes to the key, but that a rollback would write differently.

    A rollback must restore the exact bytes that were there, but only the key is kept.

    Raises:
        RowRejectedError: a rollback would write it differently.
    """
    if isinstance(stored, str) is not as_text:  # SQLite stores either in any column
        is_now, will_be = ("binary", "text") if as_text else ("text", "binary")
        raise RowRejectedError(
            f"its plaintext is stored as {is_now} in a column where a rollback would write it as "
            f"{will_be}",
            hint=f"cast the row's plaintext to {'TEXT' if as_text else 'BLOB'}, or give the column "
            "the type of what it holds",
        )
    if encode_plaintext(key, encoding, as_text=as_text) == stored:
        return
    upper = encoding == "hex" and key.hex().upper() in (stored, _ascii(stored))
    raise RowRejectedError(
        f"its plaintext is {encoding}, but not in the form in which a rollback would write it",
        hint='set plaintext_encoding = "hex-upper" in [table] if all keys are upper-case'
        if upper
        else "rewrite it in the usual form: lower-case hex, or padded base64 without line breaks",
    )


def _as_text(key: bytes) -> str:
    try:
        text = key.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise RowRejectedError(
            "its key is not valid text, but its plaintext column holds text only",
            hint="it was issued without a plaintext; keep it wrapped, or set another "
            "plaintext_encoding in [table] once every key of the table is wrapped",
        )
    return text


def _ascii(stored: bytes | str) -> str:
    return stored if isinstance(stored, str) else stored.decode("ascii", "replace")


def _fail() -> bytes:
    raise ValueError
