"""What a rewrap in the ledger is evidence of."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from dekctl.lifecycle.backup_window import PastRun

OLD, NEW = (f"arn:aws:kms:eu-west-1:123456789012:key/{letter * 8}" for letter in "ab")
COMPLETE: dict[str, Any] = {"changed": 3, "sources": {OLD: 3}, "targets": [NEW]}


@pytest.mark.parametrize(
    ("changes", "tells"),
    [
        ({}, True),
        ({"changed": 4}, False),  # of one row nobody knows where it came from
        ({"incomplete": True}, False),  # a worker was lost, with rows that it had written
    ],
)
def test_a_run_tells_which_keks_rows_left_only_if_all_rows_were_counted(
    changes: dict[str, Any], *, tells: bool
) -> None:
    run = PastRun("rewrap", NEW, datetime.now(UTC), True, COMPLETE | changes)
    assert run.takes_from(OLD)
    assert run.takes_from("arn:aws:kms:eu-west-1:123456789012:key/cccccccc") is not tells
