"""What a real run would cost: KMS calls, money and time, for both ways of wrapping."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dekctl.kms.context import V2, V3
from dekctl.kms.providers import provider_named
from dekctl.operations.rewrap import Kind

DOLLARS_PER_CALL = 0.03 / 10_000
"""AWS KMS pricing: $0.03 for 10,000 requests."""
CALLS_PER_SECOND = 8_000.0
"""One process makes about so many KMS calls a second (docs/performance.md) ..."""
ROWS_PER_SECOND = 40_000.0
"""... and writes about so many rows a second, where KMS is not what it waits for."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What the due rows of one table cost: KMS calls by the version that would be written."""

    rows: int
    version: str
    calls: dict[str, int]


def cost_of_wrap(rows: int, version: str, rows_per_key: int) -> Cost:
    """Encrypt for each row, or one GenerateDataKey for each branch key."""
    return Cost(rows, version, {V2: rows, V3: math.ceil(rows / rows_per_key)})


def cost_of_rewrap(kinds: Counter[Kind], target: str, version: str, rows_per_key: int) -> Cost:
    """Count what :class:`dekctl.kms.router.RoutedKMS` does with each kind of row.

    ReEncrypt within the target; else the key is opened, wrapped, and the new blob opened as a
    check. Rows of a branch key share what is done to it. A local provider makes no calls, but where
    there is nothing else the run is a rehearsal, and priced as if it were KMS.
    """
    wraps = provider_named(target)
    calls: Counter[str] = Counter({V2: 0, V3: 0})
    for kind, rows in kinds.items():
        # Calls for one use of the target, and of the provider that the row is with now.
        here = int(wraps.remote or kind.provider == target)
        there = int(kind.provider == target or _is_remote(kind.provider))
        branch_keys = math.ceil(rows / rows_per_key)
        if kind.hierarchical:
            calls[V2] += branch_keys * there + 2 * rows * here
            calls[V3] += branch_keys * (2 * here if kind.at_target else there + 3 * here)
        else:
            calls[V2] += rows * (here if kind.at_target else there + 2 * here)
            calls[V3] += rows * there + 2 * branch_keys * here
    return Cost(kinds.total(), version, dict(calls))


def _is_remote(provider: str | None) -> bool:
    return provider is not None and provider_named(provider).remote


def estimate(costs: Sequence[Cost], rate: float | None) -> dict[str, Any]:
    """Estimate a run over tables, one cost for each.

    ``rate`` is the limit on KMS calls a second, None for no limit. Seconds are for one process.
    ``version`` is the one that the run would write, ``mixed`` where that depends on the table.
    """
    versions = {cost.version for cost in costs}
    return {
        **_sum([(cost.rows, cost.calls[cost.version]) for cost in costs], rate),
        "version": versions.pop() if len(versions) == 1 else "mixed",
        **{v: _sum([(cost.rows, cost.calls[v]) for cost in costs], rate) for v in (V2, V3)},
    }


def _sum(tables: Sequence[tuple[int, int]], rate: float | None) -> dict[str, Any]:
    calls_a_second = min(rate or CALLS_PER_SECOND, CALLS_PER_SECOND)
    calls = sum(calls for _, calls in tables)
    seconds = sum(max(calls / calls_a_second, rows / ROWS_PER_SECOND) for rows, calls in tables)
    return {
        "kms_calls": calls,
        "usd": round(calls * DOLLARS_PER_CALL, 4),
        "seconds": round(seconds, 1),
    }


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
    return lines


def _line(what: str, one: dict[str, Any]) -> str:
    return (
        f"{what}: {one['kms_calls']:,} KMS calls, about ${one['usd']:,.2f}, "
        f"{_duration(one['seconds'])} in one process"
    )


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{max(1, round(seconds))} seconds"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
