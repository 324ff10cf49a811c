"""What goes wrong on purpose: errors, throttling, latency and cut connections."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CUT_BEFORE = "cut-before"  # no answer, nothing done
CUT_MIDDLE = "cut-middle"  # done; half of the answer is sent
CUT_AFTER = "cut-after"  # done, no answer
NO_BODY = "503-without-body"  # what a load balancer sends

ERRORS = {
    "ThrottlingException": (
        "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls."
    ),
    "KMSInternalException": "",
    "DependencyTimeoutException": "The request timed out",
    "KeyUnavailableException": "The key is not available",
}
KINDS = (*ERRORS, NO_BODY, CUT_BEFORE, CUT_MIDDLE, CUT_AFTER)

# These share one request quota per account and Region.
QUOTA_APIS = frozenset(
    {
        "Decrypt",
        "Encrypt",
        "GenerateDataKey",
        "GenerateDataKeyWithoutPlaintext",
        "GenerateRandom",
        "ReEncrypt",
    }
)


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Args:
        kind: one of ``KINDS``: an error name, a 503 without body, or a cut connection.
        probability: of each call that the fault is for.
        apis: API names it is for; all if empty.
        principals: names of principals it is for; all if empty.
        times: how often it happens at most; no end if None.
    """

    kind: str
    probability: float = 1.0
    apis: tuple[str, ...] = ()
    principals: tuple[str, ...] = ()
    times: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown fault {self.kind!r}; there are: {', '.join(KINDS)}")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Fault:
        """The inverse of ``dataclasses.asdict``."""
        return cls(**{**data, "apis": tuple(data["apis"]), "principals": tuple(data["principals"])})


class FaultPlan:
    """The faults in force; draws with a seeded generator, so a run can be done again."""

    def __init__(self) -> None:
        self._rules: list[tuple[Fault, list[int]]] = []
        self._random = random.Random(0)  # noqa: S311  (repeatable on purpose)
        self._rate: float | None = None
        self._burst = self._tokens = self._filled_at = 0.0
        self._latency = self._slow_share = self._slow_latency = 0.0

    def set_rules(self, rules: Sequence[Fault], seed: int) -> None:
        """Replace all faults; the first that strikes is taken."""
        self._rules = [(rule, [0]) for rule in rules]
        self._random = random.Random(seed)  # noqa: S311

    def set_quota(self, rate: float | None, burst: float | None) -> None:
        """Throttle above ``rate`` calls a second, after ``burst`` calls at once (a tenth)."""
        self._rate = rate
        self._burst = self._tokens = max(1.0, (rate or 0.0) / 10 if burst is None else burst)
        self._filled_at = time.monotonic()

    def set_latency(self, seconds: float, slow_share: float, slow_seconds: float) -> None:
        """Answer after ``seconds``, and a share of the calls after ``slow_seconds``."""
        self._latency, self._slow_share, self._slow_latency = seconds, slow_share, slow_seconds

    def delay(self) -> float:
        """Seconds until the next answer is sent."""
        if self._slow_share and self._random.random() < self._slow_share:
            return self._slow_latency
        return self._latency

    def draw(self, api: str, principal: str) -> str | None:
        """The kind of fault that strikes this call, if any."""
        for rule, struck in self._rules:
            if (
                (not rule.apis or api in rule.apis)
                and (not rule.principals or principal in rule.principals)
                and (rule.times is None or struck[0] < rule.times)
                and self._random.random() < rule.probability
            ):
                struck[0] += 1
                return rule.kind
        if self._rate is not None and api in QUOTA_APIS and not self._take_token(self._rate):
            return "ThrottlingException"
        return None

    def _take_token(self, rate: float) -> bool:
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * rate)
        self._filled_at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
