"""Wait for a condition. No test asserts how fast the machine is: a busy one only takes longer."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

PATIENCE_SECONDS = 300.0
"""How long anything may take before a test fails; on a quiet machine, seconds."""


def eventually(condition: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> bool:
    """Return whether ``condition`` became true within ``seconds``."""
    give_up = time.monotonic() + seconds
    pause = 0.002
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(pause)
        pause = min(0.05, pause * 1.5)
    return True


def wait_until(condition: Callable[[], object], child: subprocess.Popen[str] | None = None) -> None:
    """Wait until ``condition`` is true; fail if it never is, or if ``child`` ends before."""

    def reached() -> object:
        if condition():
            return True
        assert child is None or child.poll() is None, "the process ended before that point"
        return False

    assert eventually(reached), f"it did not happen within {PATIENCE_SECONDS:g} seconds"
