"""Before a key is removed it is overwritten in place: as many bytes, the same encoding."""

from __future__ import annotations

import base64
import hashlib

import pytest

from dekctl.db.row import filler

DEK = hashlib.sha256(b"1").digest()
URL_SAFE = base64.urlsafe_b64encode(bytes([255] * 33))
STORED: dict[str, bytes | str] = {
    "raw": DEK,
    "raw, of 16 bytes": DEK[:16],
    "hex": DEK.hex(),
    "upper hex": DEK.hex().upper(),
    "hex in bytes": DEK.hex().encode(),
    "base64": base64.b64encode(DEK).decode(),
    "base64 in bytes": base64.b64encode(DEK),
    "base64url": URL_SAFE.decode(),
    "base64url in bytes": URL_SAFE,
}


@pytest.mark.parametrize("name", STORED)
def test_a_key_is_overwritten_at_equal_length(name: str) -> None:
    stored = STORED[name]
    new = filler(stored)
    assert type(new) is type(stored)
    assert len(new) == len(stored)
    assert new != stored
