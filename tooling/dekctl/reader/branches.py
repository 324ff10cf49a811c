"""The branch keys of V3 rows, as a reader uses them: read from the database, opened by KMS, kept.

Each reader reads the stored branch key on its own connection: one that waits for another's
connection could keep that other one from getting it. Only KMS's answer is shared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy.exc import SQLAlchemyError

from dekctl.branch_keys.table import BranchTable
from dekctl.errors import DatabaseError, RowRejectedError
from dekctl.kms.branch.keys import HEAD_BYTES, NONCE_BYTES, TAG_BYTES
from dekctl.kms.branch.supply import V3_FORMAT
from dekctl.kms.branch_key import BranchKey
from dekctl.kms.context import branch_context, key_encoder
from dekctl.kms.dek import DEK
from dekctl.kms.interface import UnwrapRequest

_NONCE_END = HEAD_BYTES + NONCE_BYTES
_SHORTEST = _NONCE_END + TAG_BYTES


class Branch:
    """A branch key in plaintext, and the KEK that wraps it. Its ``repr`` shows nothing."""

    __slots__ = ("decrypt", "kek_id")

    def __init__(self, key: bytes, kek_id: str) -> None:
        self.decrypt = AESGCM(key).decrypt
        self.kek_id = kek_id


class BranchBlobs:
    """Reads the V3 blobs of one table's rows."""

    def __init__(self, context_name: str, schema: str | None) -> None:
        """``schema`` is where the branch keys are."""
        self.context_name = context_name
        self._schema = schema
        self._encode = key_encoder(context_name)

    @staticmethod
    def branch_id(blob: bytes) -> bytes:
        """The id of the branch key that a blob names.

        Raises:
            RowRejectedError: it is not a V3 blob.
        """
        if len(blob) <= _SHORTEST or blob[:1] != V3_FORMAT:
            raise RowRejectedError(
                "its wrapped key is not a V3 blob", hint="was wrapped_key_version changed by hand?"
            )
        return blob[1:HEAD_BYTES]

    def open(self, branch: Branch, blob: bytes, primary_key: str) -> DEK:
        """Decrypt a blob for the row with this primary key, given as text.

        Raises:
            RowRejectedError: it is damaged, or belongs to another row.
        """
        try:
            return DEK(
                branch.decrypt(
                    blob[HEAD_BYTES:_NONCE_END], blob[_NONCE_END:], self._encode(primary_key)
                )
            )
        except InvalidTag:
            raise RowRejectedError(
                "its wrapped key cannot be decrypted: it is damaged, or belongs to another row",
                hint="was it copied from another row, or was context_name changed?",
            ) from None

    def fetch(self, connection: sa.Connection, ids: Iterable[bytes]) -> dict[bytes, BranchKey]:
        """Read stored branch keys by id; those that are missing are left out.

        Raises:
            DatabaseError: the database refused.
        """
        table = BranchTable(lambda work, *, write=False: work(connection), self._schema)  # noqa: ARG005
        try:
            found = table.get([branch_id.hex() for branch_id in ids])
        except SQLAlchemyError as error:
            raise DatabaseError(
                f"cannot read the branch key of a V3 row: {type(error).__name__}",
                hint="grant the application SELECT on dekctl_branch_keys; see the cause",
            ) from error
        # Another table's branch key could not be unwrapped here: report it as missing.
        return {
            bytes.fromhex(key.branch_id): key
            for key in found.values()
            if key.context_name == self.context_name
        }

    @staticmethod
    def request(key: BranchKey) -> UnwrapRequest:
        """What KMS is asked to open."""
        context: Mapping[str, str] = branch_context(key.context_name, key.branch_id)
        return UnwrapRequest(key.wrapped, key.kek_id, context)
