"""A key provider as a contributor would add it: this one file, and its entry in the table.

:mod:`test_new_provider` copies it into ``kms/``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken

from dekctl.errors import RowRejectedError
from dekctl.kms.interface import (
    KMSInterface,
    RewrapRequest,
    Unwrapped,
    UnwrapRequest,
    Wrapped,
    WrapRequest,
)
from dekctl.kms.spec import ProviderSpec, refuse_other_kek

PREFIX = "toy:"


class ToyKMS(KMSInterface):
    """Wraps with one Fernet key from ``TOY_KEK``; the context goes into the token."""

    name = "toy"
    kek_id = f"{PREFIX}box"

    def __init__(self) -> None:
        super().__init__()
        self._box = Fernet(os.environ["TOY_KEK"])

    def wrap_many(self, requests: Sequence[WrapRequest]) -> list[Wrapped | RowRejectedError]:
        return [Wrapped(self._seal(r.plaintext, r.context), self.kek_id) for r in requests]

    def unwrap_many(self, requests: Sequence[UnwrapRequest]) -> list[Unwrapped | RowRejectedError]:
        return [self._unwrap(r) for r in requests]

    def rewrap_many(self, requests: Sequence[RewrapRequest]) -> list[Wrapped | RowRejectedError]:
        opened = self.unwrap_many([UnwrapRequest(r.wrapped, r.kek_id, r.context) for r in requests])
        return [
            Wrapped(self._seal(key.plaintext, r.new_context), self.kek_id)
            if isinstance(key, Unwrapped)
            else key
            for key, r in zip(opened, requests, strict=True)
        ]

    def _seal(self, plaintext: bytes, context: object) -> bytes:
        return self._box.encrypt(json.dumps([plaintext.hex(), context]).encode())

    def _unwrap(self, request: UnwrapRequest) -> Unwrapped | RowRejectedError:
        try:
            plaintext, context = json.loads(self._box.decrypt(request.wrapped))
        except InvalidToken:
            return RowRejectedError("the wrapped key is damaged")
        if context != request.context:
            return RowRejectedError("the wrapped key belongs to another row")
        return Unwrapped(bytes.fromhex(plaintext), self.kek_id)


TOY = ProviderSpec(
    name="toy",
    kek_prefixes=(PREFIX,),
    make=ToyKMS,
    open=lambda opening: refuse_other_kek(ToyKMS(), opening),
    lasts=True,
    remote=False,
)
