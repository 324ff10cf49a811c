"""A row as dekctl sees it, and its fingerprint, by which every write is a compare-and-swap.

The fingerprint covers all four columns that dekctl reads. A write names it, the database computes
it again over the row as it is at that moment, and writes only rows where both are equal. So no
plaintext key is sent back in a statement (and from there into logs) only to be compared.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dekctl.errors import RowRefusedError
from dekctl.kms.branch_key import BranchKey
from dekctl.kms.context import NoText

PrimaryKey = tuple[Any, ...]

KEY_COLUMNS = ("plaintext", "wrapped", "version", "kek")
"""The columns that dekctl owns, in the order in which the fingerprint takes them."""


_KEY = frozenset((bytes, str, type(None)))
_BLOB = frozenset((bytes, type(None)))
_TEXT = frozenset((str, type(None)))


@dataclass(slots=True)
class Row:
    """One row: primary key and key columns, as the driver gives them.

    ``plaintext`` is in the table's own encoding. ``due`` says whether the operation at hand has
    something to do here. ``kek_by`` is the row's value of that
    column where the configuration lists it; None for others.
    The ``repr`` shows the primary key only.
    """

    pk: PrimaryKey
    plaintext: bytes | str | None = field(repr=False)
    wrapped: bytes | None = field(repr=False)
    version: str | None = field(repr=False)
    kek: str | None = field(repr=False)
    due: bool = field(default=True, repr=False)
    kek_by: Any = field(default=None, repr=False)

    def malformed(self) -> str | None:
        """Why no key of this row can be right, or no statement can name the row; None where all is.

        SQLite stores a number or a text in any column, and any bytes as a text.
        """
        for part in self.pk:
            if type(part) is NoText:
                return "its primary key is text that is not UTF-8; correct it"
        if (
            type(self.plaintext) in _KEY
            and type(self.wrapped) in _BLOB
            and type(self.version) in _TEXT
            and type(self.kek) in _TEXT
        ):  # not isinstance: NoText is a subclass of bytes
            return None
        for name, value, kinds in (
            ("plaintext", self.plaintext, _KEY),
            ("wrapped key", self.wrapped, _BLOB),
            ("version", self.version, _TEXT),
        ):
            if type(value) not in kinds:
                return f"its {name} has a type that no key has; correct the row"
        return "its KEK id has a type that no key has; correct the row"

    def fingerprint(self) -> bytes:
        """SHA-256 (32 bytes) over the four key columns."""
        return fingerprint(self.plaintext, self.wrapped, self.version, self.kek)


@dataclass(slots=True)
class Change:
    """New values for one row, to be written only if the row is still as it was read.

    ``values`` are in the order of ``columns``, or of the columns that the operation sets where
    these are None. ``branch_key`` is the one that the row's wrapped key is under afterwards (V3):
    it must be stored when this is written.
    """

    row: Row
    values: tuple[Any, ...] = field(repr=False)
    columns: tuple[str, ...] | None = None
    branch_key: BranchKey | None = field(default=None, repr=False)

    def after(self, columns: Sequence[str]) -> bytes:
        """Fingerprint of the row once this change is written. ``columns`` name the values."""
        new = dict(zip(columns, self.values, strict=True))
        old = self.row
        return fingerprint(
            new.get("plaintext", old.plaintext),
            new.get("wrapped", old.wrapped),
            new.get("version", old.version),
            new.get("kek", old.kek),
        )

    def is_set_in(self, row: Row, columns: Sequence[str]) -> bool:
        """Whether a row has the key columns that this change sets, whatever else it has."""
        new = dict(zip(columns, self.values, strict=True))
        return all(getattr(row, c) == new[c] for c in KEY_COLUMNS if c in new)


def refused_by_trigger(table: str) -> RowRefusedError:
    """What to raise where a row is not what was written to it."""
    reason = f"a trigger or rule of {table} makes something else of what is written"
    return RowRefusedError(
        f"{reason}, so a key might be lost",
        hint="let it leave the key columns alone, then run the same command again",
        reason=reason,
    )


def filler(stored: str | bytes) -> str | bytes:
    """A random value of the same length and encoding, to overwrite a plaintext in its place.

    A CHECK must let it pass; and it is random because the column may be unique.
    """
    if isinstance(stored, bytes):
        text = stored.decode() if stored.isascii() else ""
        # A raw key of 16 bytes or more is as good as never all hex or base64.
        known = len(text) >= 16 and (_HEX.fullmatch(text) or _BASE64.fullmatch(text))
        return str(filler(text)).encode() if known else secrets.token_bytes(len(stored))
    size = len(stored)
    if _HEX.fullmatch(stored) or not _BASE64.fullmatch(stored):
        digits = secrets.token_hex(size)[:size]
        return digits.upper() if stored.isupper() else digits
    padding = size - len(stored.rstrip("="))
    encode = base64.urlsafe_b64encode if set("-_") & set(stored) else base64.b64encode
    return encode(secrets.token_bytes(size * 3 // 4 - padding)).decode()


_HEX = re.compile(r"[0-9a-f]+|[0-9A-F]+")
_BASE64 = re.compile(
    r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?|(?:[\w-]{4})*(?:[\w-]{2}==|[\w-]{3}=)?",
    re.ASCII,
)

_MAY_BE_NAMED = frozenset(("version", "kek", "wrapped_at"))


def is_common(column: str, values: Sequence[Any]) -> bool:
    """Whether a column has the same value in all these rows, and a statement may contain it.

    Statements end up in logs; keys must not, neither plain nor wrapped.
    """
    first = values[0]
    if first is not None and column not in _MAY_BE_NAMED:
        return False
    return values.count(first) == len(values)


def fingerprint(*values: bytes | str | float | None) -> bytes:
    """SHA-256 over the values as netstrings (``5:hello``), a ``-`` for NULL.

    A netstring starts with its length (D. J. Bernstein, "Netstrings", 1997), so no two different
    rows hash the same input. Texts are encoded as UTF-8. A number, which SQLite stores in any
    column, is marked with ``#``.
    """
    parts: list[bytes] = []
    for value in values:
        if isinstance(value, bytes):
            parts.append(b"%d:%b" % (len(value), value))
        elif value is None:
            parts.append(b"-")
        elif isinstance(value, str):
            data = value.encode()
            parts.append(b"%d:%b" % (len(data), data))
        else:
            data = repr(value).encode()
            parts.append(b"#%d:%b" % (len(data), data))
    return hashlib.sha256(b"".join(parts)).digest()
