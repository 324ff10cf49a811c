"""Branch keys are made before they are needed, and never one that no row will use."""

from __future__ import annotations

import threading

import pytest

from dekctl.errors import KMSUnavailableError
from dekctl.kms.branch.supply import WRAP_SECONDS, BranchScope, BranchSupply, OpenedBranch
from dekctl.kms.branch_key import BranchKey
from support.waiting import PATIENCE_SECONDS, eventually

SCOPE: BranchScope = ("files", None)
USES = 10


class Maker:
    """Makes branch keys and counts them; with ``gate`` cleared, each waits for it."""

    def __init__(self) -> None:
        self.made = 0
        self.gate = threading.Event()
        self.gate.set()
        self.began = threading.Event()
        self.fault: Exception | None = None
        self.now = 0.0

    def __call__(self, scope: BranchScope) -> OpenedBranch:
        self.began.set()
        assert self.gate.wait(PATIENCE_SECONDS)
        if self.fault is not None:
            raise self.fault
        self.made += 1
        stored = BranchKey(f"{self.made:032x}", scope[0], b"wrapped", "kek", USES)
        return OpenedBranch(stored, bytes(32), self.now, USES)

    def wait_made(self, count: int) -> bool:
        return eventually(lambda: self.made >= count)

    def supply(self) -> BranchSupply:
        return BranchSupply(self, lambda: self.now)


def take_all(supply: BranchSupply, rows: int) -> list[str]:
    """Take a use for each row; which branch key each one is of."""
    found: list[str] = []
    while len(found) < rows:
        branch, count = supply.take(SCOPE, rows - len(found))
        found += [branch.head.hex()] * count
    return found


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("pages", [[25], [4] * 6, [10, 10], [3, 7, 10, 1]])
def test_as_many_are_made_as_rows_need(announced: bool, pages: list[int]) -> None:
    maker = Maker()
    supply = maker.supply()
    if announced:
        for rows in pages:
            supply.expect(SCOPE, rows)
    found = [head for rows in pages for head in take_all(supply, rows)]
    assert all(found.count(head) <= USES for head in found)
    assert maker.made == len(set(found)) == -(-sum(pages) // USES)


def test_the_next_one_is_made_while_the_first_still_has_uses() -> None:
    maker = Maker()
    supply = maker.supply()
    supply.expect(SCOPE, 4)
    take_all(supply, 4)
    maker.began.clear()
    maker.gate.clear()
    supply.expect(SCOPE, 4)
    assert not maker.began.is_set(), "the first has uses for these"
    supply.expect(SCOPE, 4)  # does not wait, though making takes its time
    assert maker.began.wait(PATIENCE_SECONDS)
    assert len(set(take_all(supply, 6))) == 1, "nor does what the first serves"
    maker.gate.set()
    take_all(supply, 2)
    assert maker.made == 2


def test_what_went_wrong_ahead_is_raised_where_the_key_is_needed() -> None:
    maker = Maker()
    supply = maker.supply()
    maker.fault = KMSUnavailableError("KMS is away")
    supply.expect(SCOPE, 5)
    with pytest.raises(KMSUnavailableError):
        take_all(supply, 5)
    maker.fault = None
    take_all(supply, 5)
    assert maker.made == 1


def test_an_old_one_is_replaced_although_it_has_uses_left() -> None:
    maker = Maker()
    supply = maker.supply()
    first = take_all(supply, 1)
    maker.now = WRAP_SECONDS + 1
    assert take_all(supply, 1) != first


def test_one_that_grew_old_before_it_was_needed_is_not_used() -> None:
    maker = Maker()
    supply = maker.supply()
    supply.expect(SCOPE, USES + 1)
    old = take_all(supply, USES)
    assert maker.wait_made(2)
    maker.now = WRAP_SECONDS + 1
    [fresh] = take_all(supply, 1)
    assert fresh not in old
    assert maker.made == 3


def test_nothing_is_made_ahead_while_one_is_made_where_it_is_needed() -> None:
    maker = Maker()
    supply = maker.supply()
    maker.gate.clear()
    taker = threading.Thread(target=take_all, args=(supply, 1))
    taker.start()
    assert maker.began.wait(PATIENCE_SECONDS)
    supply.expect(SCOPE, 5)
    maker.gate.set()
    taker.join()
    take_all(supply, 5)
    assert maker.made == 1


def test_threads_share_the_uses_of_each_and_lose_none() -> None:
    maker = Maker()
    supply = maker.supply()
    found: list[list[str]] = []
    for _ in range(4):
        supply.expect(SCOPE, 50)
    threads = [
        threading.Thread(target=lambda: found.append(take_all(supply, 50))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    heads = [head for part in found for head in part]
    assert len(heads) == 200
    assert {heads.count(head) for head in heads} == {USES}
    assert maker.made == 200 // USES
