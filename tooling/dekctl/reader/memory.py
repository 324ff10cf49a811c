"""Keys in memory: how old, how many, how often used, and one call for all who want the same one.

No lock is held while somebody asks the database or KMS. Who asks first makes the call; whoever
wants the same key meanwhile waits for that call, and shares its result or its failure.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from dekctl.errors import DekctlError, KMSError, KMSUnavailableError
from dekctl.kms.fork_safety import reset_after_fork
from dekctl.reader.refusals import Refusals

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

REMEMBER_SECONDS = 1.0
"""How long a refusal is remembered, and how long an outage before KMS is asked again."""


class AbandonedError(KMSUnavailableError):
    """Whoever was getting a key was interrupted or cancelled; those who wait may ask themselves."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a memory may hold; see :class:`dekctl.reader.KeyCache`. Times are in seconds."""

    max_age: float
    max_entries: int
    max_uses: int | None = None
    stale_if_unavailable: float = 0.0


@dataclass(slots=True)
class _Entry(Generic[V]):
    value: V
    fresh_until: float
    kept_until: float
    uses_left: int
    since: float
    kek_id: str | None
    stale: bool = False


@dataclass(slots=True)
class Claim(Generic[K, V]):
    """What became of the keys asked for: in memory, refused a moment ago, ours or others' to get.

    Whoever has keys in ``mine`` has to :meth:`Memory.keep` or :meth:`Memory.fail` each.
    """

    found: dict[K, V] = field(default_factory=dict)
    failed: dict[K, DekctlError] = field(default_factory=dict)
    mine: list[K] = field(default_factory=list)
    others: dict[K, Future[V]] = field(default_factory=dict)


class Memory(Generic[K, V]):
    """Values by key, each bounded in age and uses, all of them in number. Safe for threads."""

    def __init__(
        self,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
        refusals: Refusals | None = None,
    ) -> None:
        """``refusals`` are shared with the other memories that hold keys under the same KEKs."""
        self._limits = limits
        self._clock = clock
        self._kept_for = limits.max_age + limits.stale_if_unavailable
        self._refusals = refusals or Refusals(self._kept_for, clock)
        self._most_uses = limits.max_uses or (1 << 62)
        self.hits = 0
        self.stale_hits = 0
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Begin empty: a thread of the parent may hold the lock, or be about to bring a key."""
        self._lock = threading.Lock()
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()
        self._flights: dict[K, Future[V]] = {}
        self._failures: OrderedDict[K, tuple[float, DekctlError]] = OrderedDict()
        self._cleared = -math.inf

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """A value that is fresh, which counts as a use; None where there is none."""
        with self._lock:
            return self._use(key, self._clock())

    def _use(self, key: K, now: float) -> V | None:
        entry = self._entries.get(key)
        if entry is None or now >= entry.fresh_until or entry.uses_left <= 0:
            return None
        entry.uses_left -= 1
        self._entries.move_to_end(key)
        if entry.stale:
            self.stale_hits += 1
        else:
            self.hits += 1
        return entry.value

    def claim(self, keys: Iterable[K]) -> Claim[K, V]:
        """Look up keys, and take on those that nobody is getting yet."""
        claim: Claim[K, V] = Claim()
        with self._lock:
            now = self._clock()
            self._drop(now)
            for key in keys:
                value = self._use(key, now)
                if value is not None:
                    claim.found[key] = value
                elif (failure := self._failures.get(key)) is not None and now < failure[0]:
                    claim.failed[key] = failure[1]
                elif (flight := self._flights.get(key)) is not None:
                    if key not in claim.mine:
                        claim.others[key] = flight
                else:
                    flight = self._flights[key] = Future()
                    flight.set_running_or_notify_cancel()  # nobody who waits may cancel it
                    claim.mine.append(key)
        return claim

    def keep(self, key: K, value: V, since: float, kek_id: str | None = None) -> None:
        """Store a value that was asked for at the time ``since``, and give it to who waits.

        ``kek_id`` is the KEK that opened it, which :meth:`refuse` may name.
        """
        fresh, kept = since + self._limits.max_age, since + self._kept_for
        entry = _Entry(value, fresh, kept, self._most_uses - 1, since, kek_id)
        with self._lock:
            if since > self._cleared:
                self._entries[key] = entry
                self._entries.move_to_end(key)
            self._failures.pop(key, None)
            self._drop(self._clock())
            flight = self._flights.pop(key, None)
        if flight is not None:
            flight.set_result(value)

    def _drop(self, now: float) -> None:
        """Drop the values that are too many, and those that nobody may use any more.

        They stand in the order of their last use, so an old one may wait for one before it: at
        most once as long as it may be kept.
        """
        while self._entries:
            least_used = next(iter(self._entries.values()))
            if len(self._entries) <= self._limits.max_entries and now < least_used.kept_until:
                break
            self._entries.popitem(last=False)

    def fail(self, key: K, error: BaseException, *, remember: bool = True) -> V | None:
        """Give up on a key. Returns the last value while KMS is away, if that is allowed.

        After a refusal the last value is dropped.
        """
        with self._lock:
            now = self._clock()
            entry = self._entries.get(key)
            stale = None
            if isinstance(error, KMSUnavailableError):
                if (
                    entry is not None
                    and self._limits.stale_if_unavailable
                    and now < entry.kept_until
                    and not self._refusals.came_after(entry.since, entry.kek_id)
                ):
                    entry.stale = True
                    entry.uses_left = self._most_uses
                    entry.fresh_until = min(now + REMEMBER_SECONDS, entry.kept_until)
                    stale = self._use(key, now)
            else:
                self._entries.pop(key, None)
                if remember and isinstance(error, DekctlError):
                    self._failures[key] = (now + REMEMBER_SECONDS, error)
                    while len(self._failures) > self._limits.max_entries:
                        self._failures.popitem(last=False)
            flight = self._flights.pop(key, None)
        if flight is not None:
            if stale is not None:
                flight.set_result(stale)
            elif isinstance(error, DekctlError):
                flight.set_exception(error)
            else:
                flight.set_exception(AbandonedError("the reader of this key was interrupted"))
        return stale

    def give_up(self, keys: Iterable[K], error: BaseException) -> tuple[dict[K, V], bool]:
        """:meth:`fail` for many keys. Returns the last values, and whether they are all.

        Raises:
            BaseException: the error, where it is none of KMS's.
        """
        stale = {key: self.fail(key, error) for key in keys}
        if not isinstance(error, KMSError):
            raise error
        found = {key: value for key, value in stale.items() if value is not None}
        return found, len(found) == len(stale)

    def abandon(self, calls: Mapping[K, Future[V]]) -> None:
        """Wait no longer for others' calls, and leave those keys to whoever asks next.

        The event loop of the task that makes such a call may never turn again.

        Raises:
            KMSUnavailableError: a call has not ended.
        """
        late = {key: call for key, call in calls.items() if not call.done()}
        with self._lock:
            left = [key for key, call in late.items() if self._flights.get(key) is call]
            for key in left:
                del self._flights[key]
        for key in left:
            late[key].set_exception(AbandonedError("the reader of this key did not end in time"))
        if late:
            raise KMSUnavailableError(
                "KMS did not answer another reader of this key within the deadline",
                hint="the request may be tried again",
            )

    def refuse(self, kek_id: str | None) -> None:
        """Say that KMS refused a KEK: no value of before is used beyond its age any more."""
        self._refusals.add(kek_id)

    def forget(self, key: K) -> None:
        """Drop a value, so that the next use asks again."""
        with self._lock:
            self._entries.pop(key, None)

    def clear(self) -> None:
        """Drop all values. Calls on their way still reach who waits for them."""
        with self._lock:
            self._entries.clear()
            self._failures.clear()
            self._cleared = self._clock()
