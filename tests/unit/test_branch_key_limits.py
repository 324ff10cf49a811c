"""A branch key wraps so many rows, and is used for so long; then there is another."""

from __future__ import annotations

from typing import Any

from dekctl.errors import RowRejectedError
from dekctl.kms import EnvKMS
from dekctl.kms.branch.keys import BranchKeys
from dekctl.kms.branch_key import BranchKey
from dekctl.kms.context import row_context
from dekctl.kms.interface import UnwrapRequest, WrapRequest
from support.cli import Dekctl


class Stock:
    """A store of branch keys in memory that says what happened in what order."""

    def __init__(self) -> None:
        self.keys: dict[str, BranchKey] = {}

    def add(self, key: BranchKey) -> None:
        self.keys[key.branch_id] = key

    def get(self, branch_ids: Any) -> dict[str, BranchKey]:
        return {i: self.keys[i] for i in branch_ids if i in self.keys}

    def page(self, *_: object) -> list[BranchKey]:
        raise AssertionError("nothing is moved here")

    def not_stored(self, *_: object) -> set[str]:
        raise AssertionError("no row is written here")

    def replace(self, *_: object) -> bool:
        raise AssertionError("nothing is moved here")


def requests(count: int) -> list[WrapRequest]:
    return [WrapRequest(bytes(32), row_context("t", (i,)), hierarchical=True) for i in range(count)]


def test_a_branch_key_wraps_no_more_rows_than_allowed(dekctl: Dekctl) -> None:
    stock = Stock()
    keys = BranchKeys(EnvKMS(dekctl.environ), stock, rows_per_key={"t": 10})
    blobs = []
    for count in (7, 7, 7):
        blobs += [answer.blob for answer in keys.wrap_many(requests(count))]  # type: ignore[union-attr]  # a rejection fails here
    uses = [sum(blob[1:17].hex() == i for blob in blobs) for i in stock.keys]
    assert sorted(uses) == [1, 10, 10]
    assert len({blob[17:29] for blob in blobs}) == 21, "a nonce came twice"


def test_a_branch_key_is_not_used_for_longer_than_an_hour(dekctl: Dekctl) -> None:
    now = [0.0]
    stock = Stock()
    keys = BranchKeys(EnvKMS(dekctl.environ), stock, clock=lambda: now[0])
    keys.wrap_many(requests(1))
    now[0] = 3599.0
    keys.wrap_many(requests(1))
    assert len(stock.keys) == 1
    now[0] = 3601.0
    keys.wrap_many(requests(1))
    assert len(stock.keys) == 2


def test_an_opened_branch_key_is_asked_for_again_after_an_hour(dekctl: Dekctl) -> None:
    now = [0.0]
    stock = Stock()
    provider = EnvKMS(dekctl.environ)
    [wrapped] = BranchKeys(provider, stock).wrap_many(requests(1))
    assert not isinstance(wrapped, RowRejectedError)
    request = UnwrapRequest(wrapped.blob, wrapped.kek_id, row_context("t", (0,)), True)

    keys = BranchKeys(provider, stock, clock=lambda: now[0])
    assert not isinstance(keys.unwrap_many([request])[0], RowRejectedError)
    stock.keys.clear()
    assert not isinstance(keys.unwrap_many([request])[0], RowRejectedError)
    now[0] = 3601.0
    assert isinstance(keys.unwrap_many([request])[0], RowRejectedError)
