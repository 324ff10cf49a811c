"""How a table is cut into ranges for several processes."""

from __future__ import annotations

from itertools import islice

import pytest

from dekctl.walk.processes.limits import MIN_ROWS_PER_RANGE, ROWS_PER_RANGE
from dekctl.walk.processes.ranges import range_sizes

WORKERS = 4


def cut(rows: int, known: int | None, most: int = ROWS_PER_RANGE) -> list[int]:
    """The ranges that a table of so many rows is done in."""
    sizes = range_sizes(known, WORKERS, most)
    found: list[int] = []
    while sum(found) < rows:
        found.append(next(sizes))
    return found


@pytest.mark.parametrize("known", [1_000_000, 500_000, 1_010_000], ids=["right", "low", "high"])
def test_the_last_range_is_a_small_part_of_a_workers_rows(known: int) -> None:
    sizes = cut(1_000_000, known)
    assert max(sizes) == ROWS_PER_RANGE
    assert sizes[-1] <= 1_000_000 / WORKERS / 20, "the other workers wait for it"
    assert len(sizes) < 250, "each costs a message and a pause"


def test_a_table_that_is_far_larger_than_known_gets_ranges_of_the_usual_size() -> None:
    assert cut(20_000_000, 20_000)[-1] == ROWS_PER_RANGE
    assert set(cut(10_000_000, None)) == {ROWS_PER_RANGE}


def test_a_low_rate_and_a_small_table_limit_a_range() -> None:
    assert set(cut(1_000_000, 1_000_000, most=3_000)) <= set(range(500, 3_001))
    assert set(islice(range_sizes(10, WORKERS, 100), 5)) == {MIN_ROWS_PER_RANGE}
