"""The encryption context of a row: which table and which primary key a wrapped key belongs to.

The context prevents the keys of two rows from being swapped: KMS decrypts a blob only with exactly
the context it was encrypted with. CloudTrail shows it in plain text, so it holds only the table's
context name and the primary key.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import MAX_PREC, Context, Decimal
from functools import lru_cache
from typing import Any
from uuid import UUID

from dekctl.errors import RowRejectedError, UsageError

TABLE = "dekctl:table"
PRIMARY_KEY = "dekctl:pk"
BRANCH = "dekctl:branch"

V1 = "V1"
"""The provider's blob without a context, as an earlier script wrote it."""
V2 = "V2"
"""The provider's blob, bound to the row's context. What ``wrap`` writes."""
V3 = "V3"
"""Wrapped locally under a branch key that KMS wrapped; bound to the row's context like V2."""
VERSIONS = (V1, V2, V3)


OTHER_CONTEXT_HINT = (
    "was it copied from another row? If its primary key or the context name has changed: "
    "dekctl rebind (see docs/rebind.md)"
)

_EXACT = Context(prec=MAX_PREC)
"""Never rounds, whatever the thread's decimal context says: two keys must not get one text."""


class Unbindable(str):
    """A primary-key value, as the database writes it, that Python has no value for: ``infinity``.

    A key cannot be bound to it: an application could not say which row it has.
    """

    __slots__ = ()


class NoText(bytes):
    """A text in SQLite that is not valid UTF-8; one such value must not end a run."""

    def __str__(self) -> str:
        return self.decode(errors="backslashreplace")


def key_part_text(value: Any) -> str:
    """Write one primary-key value as text, the same on every database that stores it.

    Raises:
        RowRejectedError: the value has no defined text (``infinity``, NaN, a text that is not
            UTF-8), others of its type do.
        UsageError: the value's type has no defined text (for example a float or a JSON document).
    """
    kind = type(value)
    if kind is int:  # nearly every key is one of these, and there may be a billion
        return str(value)
    if kind is str:
        return str(value)
    match value:
        case bool():
            pass
        case Unbindable() | NoText():
            raise _unbindable(str(value))
        case str():
            return value
        case int() | UUID():
            return str(value)
        case bytes() | bytearray() | memoryview():
            return bytes(value).hex()
        case datetime() if value.tzinfo is not None:
            # The server returns it in the session's time zone, which may differ on another host.
            return value.astimezone(UTC).isoformat()
        case time() if value.tzinfo is not None:
            pass
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal() if value.is_finite():
            # 1 and 1.00 are one key, whatever digits the column keeps.
            return f"{_EXACT.normalize(value):f}"
        case Decimal():
            raise _unbindable(str(value))
        case _:
            pass
    raise UsageError(
        f"a primary key of type {type(value).__name__} cannot go into an encryption context",
        hint="set primary_key in [table] to columns of integer, text, UUID, binary or date type",
    )


def _unbindable(value: str) -> RowRejectedError:
    return RowRejectedError(
        f"no key can be bound to the primary key {value}",
        hint="give the row a primary key that every program can read",
    )


def key_name(values: Sequence[Any]) -> str:
    """A primary key as people and the ledger name its row: as text, whatever it is."""
    try:
        return primary_key_text(values)
    except RowRejectedError:
        return primary_key_text([f"{value}" for value in values])


def primary_key_text(values: Sequence[Any]) -> str:
    """Write a primary key as text: one column as it is, several as a JSON array of strings.

    Raises:
        RowRejectedError: a value has no defined text.
        UsageError: a type has none.
    """
    if len(values) == 1:
        value = values[0]
        return str(value) if type(value) is int else key_part_text(value)
    parts = [key_part_text(value) for value in values]
    return json.dumps(parts, ensure_ascii=False, separators=(",", ":"))


def row_context(context_name: str, primary_key: Sequence[Any]) -> dict[str, str]:
    """Build the V2 encryption context of a row."""
    return {TABLE: context_name, PRIMARY_KEY: primary_key_text(primary_key)}


def branch_context(context_name: str, branch_id: str) -> dict[str, str]:
    """Build the encryption context of a branch key; no row can have the same one."""
    return {TABLE: context_name, BRANCH: branch_id}


def context_for_version(
    version: str | None, context_name: str, primary_key: Sequence[Any]
) -> dict[str, str] | None:
    """Build the context that a row of this version was wrapped with; None for V1.

    A row without a version is a V1 row: an earlier script did not always set it.

    Raises:
        RowRejectedError: no such version.
        UsageError: the primary key has no defined text.
    """
    if version is None or version == V1:
        return None
    if version in (V2, V3):
        return row_context(context_name, primary_key)
    raise RowRejectedError(
        f"unknown wrapped_key_version {version!r}",
        hint="was the row wrapped by a newer dekctl? Then upgrade this one",
    )


def encode_context(context: Mapping[str, str] | None) -> bytes:
    """Encode a context as additional data for a local AEAD, without ambiguity.

    The form of the AWS Encryption SDK's message header ("AAD"): the number of pairs, then each
    name and value after its length, sorted by name. Lengths are four bytes here, big-endian. No
    context and an empty one both give no bytes, because KMS treats them alike.
    """
    if not context:
        return b""
    if len(context) == 2 and PRIMARY_KEY in context and TABLE in context:  # a row's: twice as fast
        return key_encoder(context[TABLE])(context[PRIMARY_KEY])
    out = len(context).to_bytes(4, "big")
    for name in sorted(context):
        out += _sized(name) + _sized(context[name])
    return out


def _sized(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(4, "big") + data


_ROW_HEAD = (2).to_bytes(4, "big") + _sized(PRIMARY_KEY)
"""What all rows share before the primary key; the table comes after it."""


@lru_cache(maxsize=64)
def key_encoder(context_name: str) -> Callable[[str], bytes]:
    """:func:`encode_context` for a row of one table, given its primary key as text."""
    end = _sized(TABLE) + _sized(context_name)

    def encode(primary_key: str) -> bytes:
        key = primary_key.encode()
        return _ROW_HEAD + len(key).to_bytes(4, "big") + key + end

    return encode


@lru_cache(maxsize=64)
def row_encoder(context_name: str) -> Callable[[Mapping[str, str] | None], bytes]:
    """:func:`encode_context` for the contexts of one table's rows, in a third of the time.

    The returned function raises ``ValueError`` for any other context.
    """
    encode_key = key_encoder(context_name)

    def encode(context: Mapping[str, str] | None) -> bytes:
        if context is None or len(context) != 2 or context[TABLE] != context_name:
            raise ValueError("not the context of a row of this table")
        return encode_key(context[PRIMARY_KEY])

    return encode
