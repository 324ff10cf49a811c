"""What a real run would cost: KMS calls, money and time, for both ways of wrapping."""

from __future__ import annotations

import math
from typing import Any

DOLLARS_PER_CALL = 0.03 / 10_000
"""AWS KMS pricing: $0.03 for 10,000 requests."""
CALLS_PER_SECOND = 8_000.0
"""One process makes about so many KMS calls a second (docs/performance.md) ..."""
ROWS_PER_SECOND = 40_000.0
"""... and writes about so many rows a second, where KMS is not what it waits for."""


def estimate(rows: int, *, version: str, rows_per_key: int, rate: float | None) -> dict[str, Any]:
    """Estimate the run for so many rows; ``version`` is the one the run would write.

    ``rate`` is the limit on KMS calls a second, None for no limit. Seconds are for one process.
    """
    both = {
        "V2": _one(rows, rows, rate),
        "V3": _one(rows, math.ceil(rows / rows_per_key), rate),
    }
    return {**both[version], "version": version, **both}


def _one(rows: int, calls: int, rate: float | None) -> dict[str, Any]:
    calls_a_second = min(rate or CALLS_PER_SECOND, CALLS_PER_SECOND)
    return {
        "kms_calls": calls,
        "usd": round(calls * DOLLARS_PER_CALL, 4),
        "seconds": round(max(calls / calls_a_second, rows / ROWS_PER_SECOND), 1),
    }


def text(value: dict[str, Any]) -> list[str]:
    """An estimate for people, one line for each way of wrapping."""
    names = {
        "V2": "each key by KMS (V2)",
        "V3": "under branch keys (V3; CloudTrail then shows branch keys, not rows)",
    }
    lines = []
    for version, name in names.items():
        one = value[version]
        mark = "this run" if value["version"] == version else "instead"
        lines.append(
            f"{mark}, {name}: {one['kms_calls']:,} KMS calls, about ${one['usd']:,.2f}, "
            f"{_duration(one['seconds'])} in one process"
        )
    return lines


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{max(1, round(seconds))} seconds"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
