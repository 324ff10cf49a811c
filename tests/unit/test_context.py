"""The encryption context: known answers, because rows wrapped today must open for ever."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal, localcontext
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dekctl.errors import RowRejectedError, UsageError
from dekctl.kms.context import (
    Unbindable,
    branch_context,
    context_for_version,
    encode_context,
    key_name,
    primary_key_text,
    row_context,
    row_encoder,
)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ((7,), "7"),
        ((-(2**63),), "-9223372036854775808"),
        (("a b",), "a b"),
        (("",), ""),
        (("ä😀",), "ä😀"),
        ((UUID("ABCDEF00-0000-4000-8000-00000000000A"),), "abcdef00-0000-4000-8000-00000000000a"),
        ((b"\x00\xff",), "00ff"),
        ((memoryview(b"\x01"),), "01"),
        ((date(2026, 1, 2),), "2026-01-02"),
        ((datetime(2026, 1, 2, 3, 4, 5),), "2026-01-02T03:04:05"),
        ((datetime(2026, 1, 2, 3, 4, 5, 6, UTC),), "2026-01-02T03:04:05.000006+00:00"),
        (
            (datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=5))),),
            "2026-01-01T22:00:00+00:00",
        ),
        ((Decimal("1.00"),), "1"),
        ((Decimal("1E+2"),), "100"),
        ((Decimal("-1.50"),), "-1.5"),
        (
            (Decimal("12345678901234567890123456789012345671"),),
            "12345678901234567890123456789012345671",
        ),
        ((Decimal("0." + "1" * 40 + "00"),), "0." + "1" * 40),
        (("tenant", 7), '["tenant","7"]'),
        (('a","b', "ä"), '["a\\",\\"b","ä"]'),
        ((1, 2, 3), '["1","2","3"]'),
    ],
)
def test_a_primary_key_has_this_text(key: tuple[Any, ...], text: str) -> None:
    assert primary_key_text(key) == text


def test_the_precision_of_a_thread_does_not_round_a_key() -> None:
    with localcontext(prec=3):
        assert primary_key_text((Decimal("1234.50"),)) == "1234.5"


@pytest.mark.parametrize("value", [1.5, True, None, {"a": 1}])
def test_a_key_without_an_agreed_text_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="primary key of type"):
        primary_key_text((value,))


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("Infinity"), Unbindable("infinity")])
def test_a_value_without_an_agreed_text_is_the_trouble_of_its_row(value: Any) -> None:
    with pytest.raises(RowRejectedError, match="no key can be bound"):
        primary_key_text((value,))
    assert key_name((value, 7)) == f'["{value}","7"]'


def test_the_context_of_a_row_names_table_and_key_only() -> None:
    assert row_context("files", (7,)) == {"dekctl:table": "files", "dekctl:pk": "7"}


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (None, None),
        ("V1", None),
        ("V2", {"dekctl:table": "files", "dekctl:pk": "7"}),
    ],
)
def test_each_version_has_its_context(version: str | None, expected: Any) -> None:
    assert context_for_version(version, "files", (7,)) == expected


def test_an_unknown_version_is_an_error() -> None:
    with pytest.raises(RowRejectedError, match="V9"):
        context_for_version("V9", "files", (7,))


def test_the_encoding_for_the_local_provider_is_this() -> None:
    assert encode_context({"dekctl:table": "files", "dekctl:pk": "ä"}) == bytes.fromhex(
        "00000002"
        "00000009"
        + b"dekctl:pk".hex()
        + "00000002"
        + "ä".encode().hex()
        + "0000000c"
        + b"dekctl:table".hex()
        + "00000005"
        + b"files".hex()
    )
    assert encode_context(None) == encode_context({}) == b""


def test_the_encoder_of_a_table_takes_its_own_rows_alone() -> None:
    context = row_context("files", ("ä", 7))
    assert row_encoder("files")(context) == encode_context(context)
    for other in (row_context("other", (1,)), branch_context("files", "00"), None, {}):
        with pytest.raises((ValueError, KeyError)):
            row_encoder("files")(other)


contexts = st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=4)


@given(contexts, contexts)
def test_different_contexts_have_different_encodings(
    one: dict[str, str], other: dict[str, str]
) -> None:
    assert (encode_context(one) == encode_context(other)) == (one == other)


@given(st.lists(st.text(max_size=5), min_size=2, max_size=3).map(tuple), st.data())
def test_different_composite_keys_have_different_texts(one: tuple[str, ...], data: Any) -> None:
    other = data.draw(st.lists(st.text(max_size=5), min_size=2, max_size=3).map(tuple))
    assert (primary_key_text(one) == primary_key_text(other)) == (one == other)
