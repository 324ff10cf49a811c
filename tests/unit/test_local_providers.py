"""The env and memory providers: known answers, memory of old KEKs, and what they never show."""

from __future__ import annotations

import base64
import copy
import pickle
from typing import Any

import pytest

from dekctl.errors import KMSRefusedError, RowRejectedError, UsageError
from dekctl.kms import EnvKMS, InMemoryKMS, get_kms_provider, set_kms_provider
from dekctl.kms.interface import RewrapRequest, Unwrapped, UnwrapRequest, Wrapped, WrapRequest

KEK = bytes(range(32))
DEK = b"sixteen byte key"
CONTEXT = {"dekctl:table": "encrypted_files", "dekctl:pk": "7"}

# Made on 2026-11-23 with AES-256-GCM over KEK, the nonce 000102…0b, and the context as above.
BLOB_V2 = bytes.fromhex(
    "01d00652cfe16052c8000102030405060708090a0b346bae6fa080ac3bef38e3ee91821d1403a66a"
    "11a51006261a0a7263871e40c7"
)
BLOB_V1 = bytes.fromhex(
    "01d00652cfe16052c8000102030405060708090a0b346bae6fa080ac3bef38e3ee91821d14ee70db"
    "18877b2fc431ee860fb3c610b2"
)


def environ(*keks: bytes) -> dict[str, str]:
    first, *old = [base64.b64encode(kek).decode() for kek in keks]
    return {"DEKCTL_KEK": first, "DEKCTL_OLD_KEKS": " , ".join(old)}


@pytest.mark.parametrize(("blob", "context"), [(BLOB_V1, None), (BLOB_V2, CONTEXT)])
def test_a_blob_of_the_first_release_opens(blob: bytes, context: dict[str, str] | None) -> None:
    kms = EnvKMS(environ(KEK))
    assert kms.kek_id == "env:d00652cfe16052c8"
    assert kms.unwrap(blob, context) == DEK


@pytest.mark.parametrize("form", [bytearray, memoryview])
@pytest.mark.parametrize("kms", [EnvKMS(environ(KEK)), InMemoryKMS()], ids=["env", "memory"])
def test_keys_and_blobs_are_taken_as_drivers_hand_them_out(kms: Any, form: Any) -> None:
    wrapped = kms.wrap(form(DEK), CONTEXT)
    assert kms.unwrap(form(wrapped), CONTEXT) == DEK
    for nonsense in (16, "sixteen byte key"):
        with pytest.raises(TypeError):
            kms.wrap(nonsense)


def test_a_blob_opens_with_its_own_context_only() -> None:
    kms = EnvKMS(environ(KEK))
    wrapped = kms.wrap(DEK, CONTEXT)
    for context in (None, {}, {**CONTEXT, "dekctl:pk": "8"}, {**CONTEXT, "x": ""}):
        with pytest.raises(RowRejectedError):
            kms.unwrap(wrapped, context)
    assert kms.unwrap(wrapped, dict(reversed(CONTEXT.items()))) == DEK


def test_every_byte_of_a_blob_counts() -> None:
    kms = EnvKMS(environ(KEK))
    wrapped = kms.wrap(DEK, CONTEXT)
    for i in range(len(wrapped)):
        damaged = bytearray(wrapped)
        damaged[i] ^= 1
        with pytest.raises((RowRejectedError, KMSRefusedError)):
            kms.unwrap(bytes(damaged), CONTEXT)
    for length in range(len(wrapped)):
        with pytest.raises((RowRejectedError, KMSRefusedError)):
            kms.unwrap(wrapped[:length], CONTEXT)


def test_the_same_key_never_gives_the_same_blob() -> None:
    kms = EnvKMS(environ(KEK))
    assert len({kms.wrap(DEK, CONTEXT) for _ in range(50)}) == 50


def test_old_keks_still_open_and_the_first_one_wraps() -> None:
    old = EnvKMS(environ(bytes(32)))
    kms = EnvKMS(environ(KEK, bytes(32)))
    blob = old.wrap(DEK, CONTEXT)
    assert kms.unwrap(blob, CONTEXT) == DEK
    [moved] = kms.rewrap_many([RewrapRequest(blob, old.kek_id, CONTEXT, CONTEXT)])
    assert isinstance(moved, Wrapped)
    assert moved.kek_id == kms.kek_id != old.kek_id
    with pytest.raises(KMSRefusedError, match="is not available"):
        old.unwrap(moved.blob, CONTEXT)


def test_a_row_that_names_another_kek_is_rejected_alone() -> None:
    kms = EnvKMS(environ(KEK, bytes(32)))
    good, bad = kms.wrap(DEK), kms.wrap(DEK)
    answers = kms.unwrap_many(
        [
            UnwrapRequest(bad, EnvKMS(environ(bytes(32))).kek_id, None),
            UnwrapRequest(good, kms.kek_id, None),
        ]
    )
    assert isinstance(answers[0], RowRejectedError)
    assert isinstance(answers[1], Unwrapped)


@pytest.mark.parametrize("size", [0, 4097])
def test_a_key_of_impossible_size_is_rejected_alone(size: int) -> None:
    kms = InMemoryKMS()
    answers = kms.wrap_many([WrapRequest(bytes(size), None), WrapRequest(DEK, None)])
    assert isinstance(answers[0], RowRejectedError)
    assert isinstance(answers[1], Wrapped)


@pytest.mark.parametrize("text", ["", "x", base64.b64encode(bytes(31)).decode(), "ä" * 44])
def test_a_kek_that_is_none_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        EnvKMS({"DEKCTL_KEK": text})
    assert "DEKCTL_KEK" in caught.value.message
    assert len(text) < 2 or text not in caught.value.message + str(caught.value.hint)


def test_the_memory_provider_names_its_keks_and_remembers_them() -> None:
    kms = InMemoryKMS("one")
    blob = kms.wrap(DEK)
    assert kms.kek_id == "memory:one"
    assert kms.roll("two") == kms.kek_id == "memory:two"
    assert kms.unwrap(blob) == DEK
    with pytest.raises(KMSRefusedError):
        InMemoryKMS("one").unwrap(blob)


def test_a_provider_is_chosen_by_name_or_given() -> None:
    mine = InMemoryKMS()
    assert set_kms_provider(mine) is get_kms_provider() is mine
    chosen = set_kms_provider("memory")
    assert get_kms_provider() is chosen
    with pytest.raises(UsageError, match="unknown KMS provider"):
        set_kms_provider("azure")
    with pytest.raises(UsageError, match="has no KEK"):
        set_kms_provider("aws")


def test_no_key_shows_in_a_repr_and_no_kek_can_be_copied_out() -> None:
    kms = EnvKMS(environ(KEK))
    opened, wrapped = kms.generate(32, CONTEXT)
    shown = repr([kms, opened, wrapped, WrapRequest(DEK, None), vars(kms)]) + str(kms)
    for key in (KEK, DEK, opened.plaintext):
        assert key.hex() not in shown
        assert repr(key)[2:12] not in shown
        assert base64.b64encode(key).decode()[:12] not in shown
    for steal in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            steal(kms._current)
