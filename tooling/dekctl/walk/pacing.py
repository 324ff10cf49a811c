"""How hard a run may push, changed while it runs: a control file, a pause, a busy database.

The control file is TOML, read again within a second of a change::

    rate = 200          # KMS calls a second
    batch_size = 500    # rows a page and a transaction
    concurrency = 32    # KMS calls in flight
    pause = true        # hold everything until this is false, or the file is gone

A key that is not there has the value from the command line; no rate lifts the limit that
--quota-share sets. A file that cannot be read or understood is reported and otherwise ignored: the
values before it stay.
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

LOOK_EVERY_SECONDS = 1.0
ASK_EVERY_SECONDS = 2.0
"""How often the hold-back query is asked at most."""
REMIND_EVERY_SECONDS = 60.0
MOST_ROWS_A_PAGE = 20_000
MOST_CALLS_IN_FLIGHT = 4096

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """What may change while a run is on. ``rate`` is KMS calls a second; None is not limited."""

    rate: float | None = None
    batch_size: int = 1000
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
                f"the hold-back query answers with {type(value).__name__}",
                hint="let it give one number, one truth value or one interval",
            )
        return f"{value}" if value > self._above else None


class Pressure:
    """What the engine obeys. Use as a context manager where a control file is watched."""

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
        note: Note = lambda _: None,
        share: float = 1.0,
        ceiling: float | None = None,
    ) -> None:
        """Start from the command line's values.

        Args:
            batch_size: rows a page.
            rate: KMS calls a second; None is not limited.
            concurrency: KMS calls in flight.
            limiter: what is told of a new rate.
            set_concurrency: what is told of a new concurrency.
            control: the control file; it need not exist.
            hold_back: asked before each page.
            note: told of every change, for people.
            share: which part of the rate is this process's.
            ceiling: what the control file may not lift the rate above.
        """
        self._base = Settings(rate, batch_size, concurrency)
        self._now = self._base
        self._limiter = limiter
        self._set_concurrency = set_concurrency
        self._control = control
        self._hold_back = hold_back
        self._note = note
        self._share = share
        self._ceiling = ceiling
        self._go = threading.Event()
        self._go.set()
        self._stop = threading.Event()
        self._seen: tuple[int, int] | None = None
        self._asked_at = 0.0
        self._thread: threading.Thread | None = None

    @property
    def batch_size(self) -> int:
        """Rows a page, as of now."""
        return self._now.batch_size

    def __enter__(self) -> Pressure:
        if self._control is not None:
            self.look()
            self._tell(self._now.concurrency)
            self._thread = threading.Thread(target=self._watch, name="dekctl-control", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def wait(self, cancel: threading.Event) -> None:
        """Return when the next page may be read, or at once when ``cancel`` is set.

        Raises:
            UsageError, DatabaseError: the hold-back query is wrong or was refused.
        """
        while not cancel.is_set() and not self._go.wait(0.1):
            pass
        if self._hold_back is None or time.monotonic() - self._asked_at < ASK_EVERY_SECONDS:
            return
        reminded: float | None = None
        while not cancel.is_set():
            says = self._hold_back.busy()
            self._asked_at = time.monotonic()
            if says is None:
                if reminded is not None:
                    self._note("the database is no longer busy: going on")
                return
            if reminded is None or self._asked_at - reminded >= REMIND_EVERY_SECONDS:
                reminded = self._asked_at
                self._note(f"held back: the hold-back query says {says}")
            cancel.wait(ASK_EVERY_SECONDS)

    # -- the control file ----------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_EVERY_SECONDS):
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
            settings = parse_control(self._control.read_text(encoding="utf-8"), self._base)
        except FileNotFoundError:
            if self._seen is None:
                return
            self._seen = None
            settings = self._base
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValueError) as error:
            self._note(f"{self._control} is left out of account: {error}")
            return
        self._apply(self._under_ceiling(settings))

    def _under_ceiling(self, new: Settings) -> Settings:
        if self._ceiling is None or (new.rate is not None and new.rate <= self._ceiling):
            return new
        self._note(f"control: --quota-share allows no more than rate {self._ceiling:g}")
        return replace(new, rate=self._ceiling)

    def _apply(self, new: Settings) -> None:
        old, self._now = self._now, new
        if new == old:
            return
        self._tell(new.concurrency if new.concurrency != old.concurrency else None)
        if new.pause:
            self._go.clear()
        else:
            self._go.set()
        shown = "not limited" if new.rate is None else f"{new.rate:g}"
        self._note(
            f"control: {'paused; ' if new.pause else ''}rate {shown}, "
            f"batch_size {new.batch_size}, concurrency {new.concurrency}"
        )

    def _tell(self, concurrency: int | None) -> None:
        """Tell those who obey. They may outlive this object, and still have another one's values.

        A ceiling that stays is not set again: the rate below it is KMS's doing.
        """
        now = self._now
        if self._limiter is not None:
            rate = now.rate * self._share if now.rate is not None else None
            rate = 0 if now.pause else rate
            if self._limiter.snapshot().ceiling != rate:
                self._limiter.set_rate(rate)
        if self._set_concurrency is not None and concurrency is not None:
            self._set_concurrency(concurrency)


def parse_control(text: str, base: Settings) -> Settings:
    """Read a control file's text; keys that are not there keep the value of ``base``.

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
                good = number and isinstance(value, int) and 1 <= value <= MOST_ROWS_A_PAGE
                wanted = f"a whole number from 1 to {MOST_ROWS_A_PAGE}"
            case "concurrency":
                good = number and isinstance(value, int) and 1 <= value <= MOST_CALLS_IN_FLIGHT
                wanted = f"a whole number from 1 to {MOST_CALLS_IN_FLIGHT}"
            case "pause":
                good = isinstance(value, bool)
                wanted = "true or false"
            case _:
                raise ValueError(
                    f"unknown key {key!r}; known are rate, batch_size, concurrency, pause"
                )
        if not good:
            raise ValueError(f"{key} must be {wanted}")
    return Settings(
        values.get("rate", base.rate),
        values.get("batch_size", base.batch_size),
        values.get("concurrency", base.concurrency),
        values.get("pause", False),
    )
