"""A plaintext key in its column is read exactly, and written back byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dekctl.config import Encoding
from dekctl.db.plaintext import decode_plaintext, encode_plaintext, refuse_other_form
from dekctl.errors import RowRejectedError

SIZES = (16, 24, 32)
keys = st.sampled_from(SIZES).flatmap(lambda size: st.binary(min_size=size, max_size=size))


@given(keys, st.sampled_from(["base64", "hex", "hex-upper"]), st.booleans())
def test_what_is_encoded_decodes_to_the_same_key(
    key: bytes, encoding: Encoding, as_text: bool
) -> None:
    stored = encode_plaintext(key, encoding, as_text=as_text)
    assert isinstance(stored, str) is as_text
    assert decode_plaintext(stored, encoding, SIZES) == key
    refuse_other_form(stored, key, encoding, as_text=as_text)
    with pytest.raises(RowRejectedError, match="stored as"):
        refuse_other_form(stored, key, encoding, as_text=not as_text)


@given(keys)
def test_raw_is_the_key_itself(key: bytes) -> None:
    assert decode_plaintext(key, "raw", SIZES) == encode_plaintext(key, "raw", as_text=False) == key


@pytest.mark.parametrize(
    ("stored", "encoding", "words"),
    [
        (b"", "raw", "0 bytes long"),
        (bytes(33), "raw", "33 bytes long"),
        ("", "hex", "not hex"),
        ("0" * 31, "hex", "not hex"),
        ("0 " * 32, "hex", "not hex"),
        ("é" * 32, "hex", "not hex"),
        (b"\xff" * 32, "hex", "not hex"),
        ("", "base64", "0 bytes long"),
        ("AAAA\nAAAA", "base64", "not base64"),
        ("AAA", "base64", "not base64"),
        ("é", "base64", "not base64"),
        ("____", "base64", "not base64"),
    ],
)
def test_what_is_no_key_is_rejected_without_being_shown(
    stored: bytes | str, encoding: Encoding, words: str
) -> None:
    with pytest.raises(RowRejectedError, match=words) as caught:
        decode_plaintext(stored, encoding, SIZES)
    if len(stored) > 8:
        assert str(stored) not in caught.value.message + str(caught.value.hint)


@pytest.mark.parametrize(
    ("stored", "encoding", "hint"),
    [
        ("AB" * 16, "hex", "hex-upper"),
        (b"aB" * 16, "hex", "lower-case hex"),
        ("ab" * 16, "hex-upper", "usual form"),
        ("AAAAAAAAAAAAAAAAAAAAAB==", "base64", "padded base64"),
    ],
)
def test_a_key_that_a_rollback_would_write_otherwise_is_refused(
    stored: bytes | str, encoding: Encoding, hint: str
) -> None:
    key = decode_plaintext(stored, encoding, SIZES)
    with pytest.raises(RowRejectedError) as caught:
        refuse_other_form(stored, key, encoding, as_text=isinstance(stored, str))
    assert hint in str(caught.value.hint)
