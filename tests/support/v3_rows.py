"""Rows of version V3 in a database, made without the commands: the library's tests read them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from dekctl.branch_keys.table import BranchTable, branch_keys_table
from dekctl.kms import KMSInterface
from dekctl.kms.branch.keys import BranchKeys
from dekctl.kms.context import row_context
from dekctl.kms.interface import Wrapped, WrapRequest

CONTEXT_NAME = "encrypted_files"


def branch_store(engine: sa.Engine) -> BranchTable:
    """The stored branch keys of a database, each statement in a transaction of its own."""

    def run(work: Any, *, write: bool = False) -> Any:
        with engine.begin() as connection:
            return work(connection)

    return BranchTable(run, None)


def v3_rows(
    engine: sa.Engine, kms: KMSInterface, numbers: Iterable[int], *, rows_per_key: int
) -> dict[int, tuple[bytes, dict[str, Any]]]:
    """For each primary key its plaintext key and its row; the branch keys are stored."""
    branch_keys_table(None).create(engine, checkfirst=True)
    wrapper = BranchKeys(kms, branch_store(engine), rows_per_key={CONTEXT_NAME: rows_per_key})
    made = {}
    for number in numbers:
        dek = number.to_bytes(32, "big")
        [wrapped] = wrapper.wrap_many([WrapRequest(dek, row_context(CONTEXT_NAME, (number,)))])
        assert isinstance(wrapped, Wrapped)
        made[number] = (
            dek,
            {
                "id": number,
                "encryption_key": None,
                "wrapped_key": wrapped.blob,
                "wrapped_key_version": "V3",
                "kek_id": wrapped.kek_id,
            },
        )
    return made
