"""Counts the calls and remembers the last ones."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import Any

from .operations import Call


class Ledger:
    """Counters and a journal of the last ``size`` calls; no plaintext is ever in it."""

    def __init__(self, size: int) -> None:
        self._journal: deque[tuple[float, Call]] = deque(maxlen=size)
        self.reset()

    def reset(self) -> None:
        """Start from zero, with an empty journal."""
        self._counts: dict[tuple[str, str, str | None], int] = {}
        self._journal.clear()

    def add(self, call: Call) -> None:
        """Write down a finished call."""
        kind = (call.api, call.principal.name, call.error)
        self._counts[kind] = self._counts.get(kind, 0) + 1
        self._journal.append((time.time(), call))

    def counters(self) -> dict[str, dict[str, int]]:
        """All counters since the last reset."""
        calls: Counter[str] = Counter()
        succeeded: Counter[str] = Counter()
        principals: Counter[str] = Counter()
        errors: Counter[str] = Counter()
        for (api, principal, error), count in self._counts.items():
            calls[api] += count
            principals[principal] += count
            if error is None:
                succeeded[api] += count
            else:
                errors[error] += count
        return {
            "calls": dict(calls),
            "succeeded": dict(succeeded),
            "principals": dict(principals),
            "errors": dict(errors),
        }

    def journal(self) -> list[dict[str, Any]]:
        """The last calls, oldest first."""
        return [
            {
                "time": moment,
                "api": call.api,
                "principal": call.principal.name,
                "session": call.session,
                "source_identity": call.source_identity,
                "key": call.key,
                "context": call.context,
                "destination_key": call.destination_key,
                "destination_context": call.destination_context,
                "error": call.error,
            }
            for moment, call in self._journal
        ]
