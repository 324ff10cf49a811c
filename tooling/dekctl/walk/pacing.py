"""How fast a run goes, changed while it runs: a control file, a pause, a busy database.

The control file is TOML, read again within a second of a change::

    rate = 200          # KMS calls per second
    batch_size = 500    # rows per batch and per transaction
    concurrency = 32    # KMS calls in flight
    pause = true        # hold everything until this is false, or the file is gone

A key that is missing has the value from the command line; no rate raises the limit that
--quota-share sets. A file that cannot be read or parsed is reported and otherwise ignored: the
values before it stay in force.
"""

from __future__ import annotations

import threading
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dekctl.db.database import Database
from dekctl.errors import UsageError
from dekctl.kms.limiter import RateLimiter
from dekctl.kms.router import RoutedKMS
from dekctl.operations.base import Notify
from dekctl.project import Project
from dekctl.walk.options import MAX_CONCURRENCY, MAX_ROWS_PER_BATCH, ROWS_PER_BATCH, RunSettings

CONTROL_SECONDS = 1.0
"""How often the control file is read."""
HOLD_BACK_SECONDS = 2.0
"""How often the hold-back query is run at most."""
REMIND_SECONDS = 60.0
"""How often people are reminded that the run is held back."""
PAUSE_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Pace:
    """What may change while a run is on. ``rate`` is KMS calls per second, None for no limit."""

    rate: float | None = None
    batch_size: int = ROWS_PER_BATCH
    concurrency: int | None = None
    pause: bool = False


class HoldBack:
    """Asks the database whether it is busy: replica lag, running queries, a flag in a table."""

    def __init__(self, database: Database, query: str, above: float = 0.0) -> None:
        """Ask with ``query`` for one value; busy is true, or a number (of seconds) > ``above``."""
        self._database = database
        # Colons and percent signs are the query's own, not parameters.
        self._query = sa.text(query.replace(":", r"\:"))
        self._above = above

    def busy(self) -> str | None:
        """What the query says, when it says busy; None when it does not.

        Raises:
            UsageError: the answer is not a number, a truth value, an interval or NULL.
            DatabaseError: the database refused the query.
        """
        value = self._database.run(lambda connection: connection.execute(self._query).scalar())
        if isinstance(value, timedelta):
            value = value.total_seconds()
        if value is None or value is False:
            return None
        if value is True:
            return "true"
        if not isinstance(value, int | float | Decimal):
            raise UsageError(
                f"the hold-back query returns a value of type {type(value).__name__}",
                hint="change it to return one number, one truth value or one interval",
            )
        return f"{value}" if value > self._above else None


class Pacing:
    """The pace of the engine. Use as a context manager where a control file is watched."""

    def __init__(
        self,
        *,
        batch_size: int,
        rate: float | None = None,
        concurrency: int | None = None,
        limiter: RateLimiter | None = None,
        set_concurrency: Callable[[int], None] | None = None,
        control: Path | None = None,
        hold_back: HoldBack | None = None,
        notify: Notify = lambda _: None,
        rate_part: float = 1.0,
        max_rate: float | None = None,
    ) -> None:
        """Start from the command line's values.

        Args:
            batch_size: rows per batch.
            rate: maximum KMS calls per second; None for no limit.
            concurrency: maximum KMS calls in flight.
            limiter: takes a new rate.
            set_concurrency: takes a new concurrency.
            control: the control file; it need not exist.
            hold_back: asked before each batch.
            notify: called with a message for people on every change.
            rate_part: the part (up to 1) of the rate that is this process's.
            max_rate: what the control file may not raise the rate above.
        """
        self._base = Pace(rate, batch_size, concurrency)
        self._now = self._base
        self._limiter = limiter
        self._set_concurrency = set_concurrency
        self._control = control
        self._hold_back = hold_back
        self._notify = notify
        self._rate_part = rate_part
        self._max_rate = max_rate
        self._go = threading.Event()
        self._go.set()
        self._stop = threading.Event()
        self._seen: tuple[int, int] | None = None
        self._asked_at = 0.0
        self._thread: threading.Thread | None = None

    @property
    def batch_size(self) -> int:
        """Rows per batch, as of now."""
        return self._now.batch_size

    def __enter__(self) -> Pacing:
        if self._control is not None:
            self.look()
            self._pass_on(self._now.concurrency)
            self._thread = threading.Thread(target=self._watch, name="dekctl-control", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def wait(self, cancel: threading.Event) -> None:
        """Return when the next batch may be read, or at once when ``cancel`` is set.

        Raises:
            UsageError, DatabaseError: the hold-back query is wrong or was refused.
        """
        while not cancel.is_set() and not self._go.wait(PAUSE_POLL_SECONDS):
            pass
        if self._hold_back is None or time.monotonic() - self._asked_at < HOLD_BACK_SECONDS:
            return
        reminded: float | None = None
        while not cancel.is_set():
            says = self._hold_back.busy()
            self._asked_at = time.monotonic()
            if says is None:
                if reminded is not None:
                    self._notify("the database is no longer busy; resuming")
                return
            if reminded is None or self._asked_at - reminded >= REMIND_SECONDS:
                reminded = self._asked_at
                self._notify(f"waiting: the hold-back query returns {says}")
            cancel.wait(HOLD_BACK_SECONDS)

    # -- the control file ----------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._stop.wait(CONTROL_SECONDS):
            self.look()

    def look(self) -> None:
        """Read the control file if it changed since the last look."""
        assert self._control is not None
        try:
            stat = self._control.stat()
            stamp = (stat.st_mtime_ns, stat.st_size)
            if stamp == self._seen:
                return
            self._seen = stamp
            settings = parse_control(self._control.read_text("utf-8-sig"), self._base)
        except FileNotFoundError:
            if self._seen is None:
                return
            self._seen = None
            settings = self._base
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValueError) as error:
            self._notify(f"{self._control} is ignored: {error}")
            return
        self._apply(self._capped(settings))

    def _capped(self, new: Pace) -> Pace:
        if self._max_rate is None or (new.rate is not None and new.rate <= self._max_rate):
            return new
        self._notify(f"control: --quota-share limits the rate to {self._max_rate:g}")
        return replace(new, rate=self._max_rate)

    def _apply(self, new: Pace) -> None:
        old, self._now = self._now, new
        if new == old:
            return
        self._pass_on(new.concurrency if new.concurrency != old.concurrency else None)
        if new.pause:
            self._go.clear()
        else:
            self._go.set()
        shown = "unlimited" if new.rate is None else f"{new.rate:g}"
        self._notify(
            f"control: {'paused; ' if new.pause else ''}rate {shown}, "
            f"batch_size {new.batch_size}, concurrency {new.concurrency}"
        )

    def _pass_on(self, concurrency: int | None) -> None:
        """Pass the values on. Limiter and provider may still have those of an earlier object.

        A rate that stays is not set again: the limiter may have lowered it because KMS throttled.
        """
        now = self._now
        if self._limiter is not None:
            rate = rate_of_part(now.rate, self._rate_part)
            rate = 0 if now.pause else rate
            if self._limiter.snapshot().ceiling != rate:
                self._limiter.set_rate(rate)
        if self._set_concurrency is not None and concurrency is not None:
            self._set_concurrency(concurrency)


def pacing_for(
    project: Project,
    settings: RunSettings,
    kms: RoutedKMS,
    limiter: RateLimiter,
    notify: Notify = lambda _: None,
    *,
    rate_part: float = 1.0,
) -> Pacing:
    """The pace of this process's walks; ``rate_part`` (up to 1) is its part of the rate."""
    query = settings.hold_back
    return Pacing(
        batch_size=settings.batch_size,
        rate=settings.rate,
        concurrency=settings.concurrency,
        limiter=limiter,
        set_concurrency=kms.set_concurrency,
        control=settings.control,
        hold_back=HoldBack(project.database, query, settings.hold_back_above) if query else None,
        notify=notify,
        rate_part=rate_part,
        max_rate=settings.max_rate,
    )


def rate_of_part(rate: float | None, part: float) -> float | None:
    """A part of a rate, which may be unlimited."""
    return rate * part if rate is not None else None


def parse_control(text: str, base: Pace) -> Pace:
    """Read a control file's text; missing keys keep the value of ``base``.

    Raises:
        ValueError: not TOML, an unknown key, or a value out of range.
    """
    values: dict[str, Any] = tomllib.loads(text)
    for key, value in values.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        match key:
            case "rate":
                good = number and value > 0
                wanted = "a number above 0"
            case "batch_size":
                good = number and isinstance(value, int) and 1 <= value <= MAX_ROWS_PER_BATCH
                wanted = f"a whole number from 1 to {MAX_ROWS_PER_BATCH}"
            case "concurrency":
                good = number and isinstance(value, int) and 1 <= value <= MAX_CONCURRENCY
                wanted = f"a whole number from 1 to {MAX_CONCURRENCY}"
            case "pause":
                good = isinstance(value, bool)
                wanted = "true or false"
            case _:
                raise ValueError(
                    f"unknown key {key!r}; known: rate, batch_size, concurrency, pause"
                )
        if not good:
            raise ValueError(f"{key} must be {wanted}")
    return Pace(
        values.get("rate", base.rate),
        values.get("batch_size", base.batch_size),
        values.get("concurrency", base.concurrency),
        values.get("pause", False),
    )
