"""A plaintext key in its column: raw, or in a text form, in a binary or a text column."""

from __future__ import annotations

from collections.abc import Callable, Collection

from dekctl.config import Encoding
from dekctl.db.key_text import FORMS, form_of, problem_of
from dekctl.errors import RowRejectedError

AS_IT_IS: frozenset[Encoding] = frozenset(("raw", "text"))
"""The encodings in which the column holds the key's own bytes."""


def decode_plaintext(stored: bytes | str, encoding: Encoding, sizes: Collection[int]) -> bytes:
    """Decode a key as its column stores it. Returns the key's bytes.

    Raises:
        RowRejectedError: not in that encoding, or not of an allowed size. The message never
            contains the value.
    """
    if encoding == "raw" and type(stored) is bytes and len(stored) in sizes:
        return stored  # the usual case, and called for every row
    if not isinstance(stored, bytes | str):  # SQLite stores any type in any column
        raise RowRejectedError(
            f"its plaintext is stored as {type(stored).__name__}, neither text nor binary",
            hint="correct the row",
        )
    if encoding in AS_IT_IS:
        key = stored.encode() if isinstance(stored, str) else stored
    else:
        key = _decode_text(stored, encoding, sizes)
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

    def read_raw(stored: bytes | str) -> bytes:
        # The usual case, and called for every row; a random key is never ASCII by chance.
        if not as_text and type(stored) is bytes and len(stored) in sizes and not stored.isascii():
            return stored
        _refuse_encoded(stored, sizes)
        return read(stored)

    return read_raw if encoding == "raw" else read


def _refuse_encoded(stored: bytes | str, sizes: Collection[int]) -> None:
    form = form_of(stored, sizes) if isinstance(stored, bytes | str) else None
    if form is not None:
        raise RowRejectedError(
            f"its plaintext looks like the {form} text of a key, not like a raw key",
            hint=encoding_hint(form, "raw"),
        )


def encoding_hint(form: Encoding, configured: Encoding) -> str:
    """What to do about plaintexts that are in another form than the configured one."""
    hint = f'set plaintext_encoding = "{form}" in [table]'
    if configured == "raw":
        hint += ', or "text" if your application uses the text itself as the key'
    return hint


def encode_plaintext(key: bytes, encoding: Encoding, *, as_text: bool) -> bytes | str:
    """Encode a key for its column: the inverse of :func:`decode_plaintext`.

    Raises:
        RowRejectedError: a text column cannot hold the key's bytes as they are.
    """
    if encoding in AS_IT_IS:
        return _as_text(key) if as_text else key
    text = FORMS[encoding].encode(key)
    return text if as_text else text.encode("ascii")


def refuse_other_form(
    stored: bytes | str, key: bytes, encoding: Encoding, *, as_text: bool
) -> None:
    """Refuse a plaintext that decodes to the key, but that a rollback would write differently.

    A rollback must restore the exact bytes that were there, but only the key is kept.

    Raises:
        RowRejectedError: a rollback would write it differently.
    """
    if encoding == "raw" and type(stored) is bytes and not as_text and stored == key:
        return
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


def _decode_text(stored: bytes | str, encoding: Encoding, sizes: Collection[int]) -> bytes:
    text = stored if isinstance(stored, str) else stored.decode("ascii", "replace")
    try:
        return FORMS[encoding].decode(text)
    except ValueError:
        problem, hint = problem_of(text, encoding, sizes)
        raise RowRejectedError(f"its plaintext is not {encoding}{problem}", hint=hint) from None
