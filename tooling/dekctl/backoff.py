"""How long to wait before something is tried again: KMS calls and database transactions alike."""

from __future__ import annotations

import random
from collections.abc import Callable

_MOST_DOUBLINGS = 20


def backoff(
    attempt: int,
    base: float,
    longest: float,
    uniform: Callable[[float, float], float] = random.uniform,
) -> float:
    """Return the seconds to wait before attempt number ``attempt`` + 1, counted from 0.

    Drawn evenly from zero up to a bound that starts at ``base`` seconds and doubles up to
    ``longest`` ("full jitter"), so that what failed together does not come back together.
    """
    return uniform(0.0, min(longest, base * 2 ** min(attempt, _MOST_DOUBLINGS)))
