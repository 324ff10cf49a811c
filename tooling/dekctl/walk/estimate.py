"""Estimates what a run would cost: KMS calls, money and time, for both ways of wrapping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dekctl.kms.context import V2, V3
from dekctl.operations.cost import Cost
from dekctl.wording import counted

DOLLARS_PER_CALL = 0.03 / 10_000
"""AWS KMS pricing: $0.03 for 10,000 requests."""
DOLLARS_PER_COPY = 2.00 / 100_000
"""AWS CloudTrail pricing: the first copy of management events in a Region is free; each further
copy, which every further trail makes, costs $2.00 for 100,000 events. Each call is an event."""
CALLS_PER_SECOND = 8_000.0
"""One process makes about this many KMS calls per second (docs/performance.md) ..."""
ROWS_PER_SECOND = 40_000.0
"""... and writes about this many rows per second, where it does not wait for KMS."""


def estimate(costs: Sequence[Cost], rate: float | None) -> dict[str, Any]:
    """Estimate a run over tables, one cost for each.

    ``rate`` is the limit on KMS calls per second, None for no limit. Seconds are for one process.
    ``version`` is the one that the run would write, ``mixed`` where that depends on the table.
    """
    versions = {cost.version for cost in costs}
    return {
        **_sum([(cost.rows, cost.calls[cost.version]) for cost in costs], rate),
        "version": versions.pop() if len(versions) == 1 else "mixed",
        **{v: _sum([(cost.rows, cost.calls[v]) for cost in costs], rate) for v in (V2, V3)},
    }


def _sum(tables: Sequence[tuple[int, int]], rate: float | None) -> dict[str, Any]:
    calls_per_second = min(rate or CALLS_PER_SECOND, CALLS_PER_SECOND)
    calls = sum(calls for _, calls in tables)
    seconds = sum(max(calls / calls_per_second, rows / ROWS_PER_SECOND) for rows, calls in tables)
    return {
        "kms_calls": calls,
        "usd": round(calls * DOLLARS_PER_CALL, 4),
        "usd_second_trail": round(calls * DOLLARS_PER_COPY, 4),
        "seconds": round(seconds, 1),
    }


def trail_cost(calls: int) -> dict[str, Any]:
    """What the environment's trail costs for these calls, if it is not the account's first one."""
    return {"trail_events": calls, "trail_usd": round(calls * DOLLARS_PER_COPY, 4)}


def text(value: dict[str, Any]) -> list[str]:
    """An estimate for people, one line for each way of wrapping."""
    names = {
        V2: "each key by KMS (V2)",
        V3: "under branch keys (V3; CloudTrail then shows branch keys, not rows)",
    }
    lines = []
    if value["version"] == "mixed":
        lines.append(_line("this run, each table as configured", value))
    for version, name in names.items():
        mark = "this run" if value["version"] == version else "instead"
        lines.append(_line(f"{mark}, {name}", value[version]))
    if "passes" in value:
        shares = ", ".join(f"{calls:,} by {name}" for name, calls in value["passes"].items())
        lines.append(f"KMS calls of this run: {shares}")
    if "trail_usd" in value:
        lines.append(
            f"CloudTrail: {value['trail_events']:,} events, about ${value['trail_usd']:,.2f} if "
            "this environment's trail is not the first one of its account"
        )
    elif value.get("usd_second_trail"):
        lines.append(
            f"each further trail of management events in this account: about "
            f"${value['usd_second_trail']:,.2f} more (CloudTrail bills all copies but the first)"
        )
    return lines


def _line(what: str, one: dict[str, Any]) -> str:
    return (
        f"{what}: {one['kms_calls']:,} KMS calls, about ${one['usd']:,.2f}, "
        f"{_duration(one['seconds'])} in one process"
    )


def _duration(seconds: float) -> str:
    if seconds < 120:
        return counted(max(1, round(seconds)), "second")
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
