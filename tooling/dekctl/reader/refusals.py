"""When KMS refused which KEK: what both memories of a cache have to know."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from dekctl.kek_id import is_key_arn, is_same_kek
from dekctl.kms.fork_safety import reset_after_fork


class Refusals:
    """The refusals of the last ``seconds``; no older one can concern a value in memory."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Begin empty, as the memories do, with a lock that no thread of the parent holds."""
        self._lock = threading.Lock()
        self._at: dict[str | None, float] = {}

    def add(self, kek_id: str | None) -> None:
        """Say that KMS refused what a row names as its KEK.

        Where that is no ARN, it may be any KEK that was refused.
        """
        certain = kek_id if kek_id is not None and is_key_arn(kek_id) else None
        with self._lock:
            now = self._clock()
            recent = {kek: at for kek, at in self._at.items() if now - at < self._seconds}
            self._at = {**recent, certain: now}

    def came_after(self, moment: float, kek_id: str | None) -> bool:
        """Whether a refusal since ``moment`` may concern this KEK; None: it is not known which."""
        return any(
            at > moment and (None in (kek, kek_id) or is_same_kek(kek_id, kek or ""))
            for kek, at in self._at.items()
        )
