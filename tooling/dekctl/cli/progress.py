"""The progress of a run: one moving line on a terminal, else a line every 30 seconds.

Our own, as Rich takes 0.3 seconds to import and three packages, and shows nothing more here.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from types import TracebackType
from typing import Any

from dekctl.cli.metrics import RunMetrics
from dekctl.cli.terminal import Terminal
from dekctl.errors import UsageError
from dekctl.walk.progress import Moment
from dekctl.wording import counted

TICK_SECONDS = 0.5
LINE_EVERY_SECONDS = 30.0
"""How often progress is reported if stderr is not a terminal."""
METRICS_EVERY_SECONDS = 5.0
RATE_OVER_SECONDS = 15.0
"""The rate, and the time left, come from so many seconds."""


class Progress:
    """Shows how far a run is while the ``with`` block lasts; call it with each moment."""

    def __init__(self, terminal: Terminal, operation: str, metrics: RunMetrics | None) -> None:
        self._terminal = terminal
        self._operation = operation
        self._metrics = metrics
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="dekctl-progress", daemon=True)
        self._last: Moment | None = None
        self._table_started = self._shown = self._written = 0.0
        self._seen: deque[tuple[float, int]] = deque()

    def __enter__(self) -> Progress:
        self._terminal.note(f"{self._operation}: started")
        self._shown = self._written = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._terminal.end_live()
        self._write_metrics(active=False, failed=error is not None)

    def _write_metrics(self, *, active: bool, failed: bool = False) -> None:
        """Write them; a disk that is full meanwhile is no reason to stop a run."""
        self._written = time.monotonic()
        if self._metrics is None:
            return
        try:
            self._metrics.write(active=active, failed=failed)
        except UsageError as error:
            self._terminal.note(error.message)

    def __call__(self, moment: Moment) -> None:
        with self._lock:
            now = time.monotonic()
            if self._last is None or self._last.table != moment.table or self._last.ended:
                self._table_started = now
                self._seen.clear()
                self._terminal.context["run_id"] = moment.run_id
            self._last = moment
            self._seen.append((now, moment.done))
            while now - self._seen[0][0] > RATE_OVER_SECONDS and len(self._seen) > 2:
                self._seen.popleft()
            if self._metrics is not None:
                self._metrics.take(moment)
            if moment.ended:
                self._terminal.end_live()
                self._say(moment, now)

    def _tick(self) -> None:
        while not self._stop.wait(TICK_SECONDS):
            with self._lock:
                now, moment = time.monotonic(), self._last
                if moment is None or moment.ended:
                    continue
                if self._terminal.is_live:
                    self._terminal.live(self._text(moment, now))
                elif now - self._shown >= LINE_EVERY_SECONDS:
                    self._say(moment, now)
            # Not under the lock, which the run needs: a disk may hang.
            if now - self._written >= METRICS_EVERY_SECONDS:
                self._write_metrics(active=True)

    def _say(self, moment: Moment, now: float) -> None:
        self._shown = now
        self._terminal.note(self._text(moment, now), **self._fields(moment, now))

    def _rate(self, moment: Moment, now: float) -> float:
        """Rows per second; of the whole run once it has ended."""
        if moment.ended:
            return moment.done / max(now - self._table_started, 0.001)
        since, before = self._seen[0]
        return (moment.done - before) / max(now - since, 0.001)

    def _seconds_left(self, moment: Moment, now: float) -> float | None:
        rate = self._rate(moment, now)
        if moment.ended or not rate:
            return None
        return (moment.total - moment.done) / rate

    def _text(self, moment: Moment, now: float) -> str:
        about = "~" if moment.total_is_estimated else ""
        share = moment.done / moment.total if moment.total else 1.0
        if not moment.is_complete:
            share = min(share, 0.999)  # not done before it is
        parts = [
            f"{moment.operation} {moment.table}: {moment.done:,} of {about}{moment.total:,} rows "
            f"({share:.1%})",
            f"{self._rate(moment, now):,.0f} per second",
        ]
        if moment.latency is not None:
            parts.append(f"KMS {moment.latency * 1000:,.0f} ms")
        if moment.throttles:
            parts.append(f"throttled {counted(moment.throttles, 'time')}")
        if moment.counts.quarantined:
            parts.append(f"{moment.counts.quarantined:,} quarantined")
        parts.append(_clock(now - self._table_started))
        if moment.ended and not moment.is_complete:
            parts.append("stopped")
        if (left := self._seconds_left(moment, now)) is not None:
            parts.append(f"{_clock(left)} left")
        return ", ".join(parts)

    def _fields(self, moment: Moment, now: float) -> dict[str, Any]:
        counts, left = moment.counts, self._seconds_left(moment, now)
        return {
            "operation": moment.operation,
            "table": moment.table,
            "scanned": counts.scanned,
            "handled": counts.changed + counts.proved + counts.quarantined,
            "quarantined": counts.quarantined,
            "done": moment.done,
            "total": moment.total,
            "estimated": moment.total_is_estimated,
            "rows_per_second": round(self._rate(moment, now), 1),
            "kms_seconds": round(moment.latency, 4) if moment.latency is not None else None,
            "throttled": moment.throttles,
            "seconds_left": round(left, 1) if left is not None else None,
            "ended": moment.ended,
        }


def _clock(seconds: float) -> str:
    """A time as ``M:SS`` or ``H:MM:SS``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
