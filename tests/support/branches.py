"""Opens V3 keys by their documented form, with nothing of dekctl's: the oracle's own way."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

Unwrap = Callable[[bytes, str | None, Mapping[str, str] | None], bytes | None]
"""Opens a wrapped key with its KEK and context; None where KMS says no."""

TABLE = "dekctl_branch_keys"


class Branches:
    """The branch keys of a database as they are now."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._stored: dict[str, tuple[bytes, str, str]] = {}
        self._opened: dict[tuple[str, bytes], bytes | None] = {}

    def read(self) -> None:
        """Look at the table again."""
        with self._engine.connect() as connection:
            if not sa.inspect(connection).has_table(TABLE):
                self._stored = {}
                return
            found = connection.execute(
                sa.text(f"SELECT branch_id, wrapped, kek_id, context_name FROM {TABLE}")
            )
            self._stored = {row[0]: (bytes(row[1]), row[2], row[3]) for row in found}

    def opener(self, unwrap: Unwrap) -> Unwrap:
        """What opens a V3 key, where ``unwrap`` opens branch keys."""

        def unwrap_v3(
            blob: bytes, _kek: str | None, context: Mapping[str, str] | None
        ) -> bytes | None:
            branch_id, nonce, sealed = blob[1:17].hex(), blob[17:29], blob[29:]
            assert blob[:1] == b"\x03", "a V3 key of another form"
            if branch_id not in self._stored:
                return None
            wrapped, kek, name = self._stored[branch_id]
            if (branch_id, wrapped) not in self._opened:
                branch_context = {"dekctl:table": name, "dekctl:branch": branch_id}
                self._opened[branch_id, wrapped] = unwrap(wrapped, kek, branch_context)
            key = self._opened[branch_id, wrapped]
            if key is None:
                return None
            try:
                return AESGCM(key).decrypt(nonce, sealed, additional_data(context or {}))
            except InvalidTag:
                return None

        return unwrap_v3


def additional_data(context: Mapping[str, str]) -> bytes:
    """The number of pairs, then each name and value behind its length, sorted by name."""
    texts = [text.encode() for pair in sorted(context.items()) for text in pair]
    sized = b"".join(len(text).to_bytes(4, "big") + text for text in texts)
    return len(context).to_bytes(4, "big") + sized
