"""The branch keys that wrap: one at a time for each table and KEK, the next one made ahead.

To make one takes a call to KMS and a transaction. Who says how many rows are coming
(:meth:`BranchSupply.expect`) does not wait for that; nobody has to say so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

FORMAT = b"\x03"
WRAP_SECONDS = 3600.0
"""After this time a new branch key is made even if the old one has uses left."""

Slot = tuple[str, str | None]
"""What one branch key serves: a table's context name, and the KEK; None for the provider's own."""


class OpenedBranch:
    """An opened branch key. Its ``repr`` shows nothing."""

    __slots__ = ("cipher", "head", "kek_id", "since", "uses_left")

    def __init__(self, branch_id: str, key: bytes, kek_id: str, now: float, uses: int) -> None:
        self.cipher = AESGCM(key)
        self.head = FORMAT + bytes.fromhex(branch_id)
        self.kek_id = kek_id
        self.since = now
        self.uses_left = uses


@dataclass(slots=True)
class _State:
    """``expected`` counts the rows that were announced and have not taken a use yet."""

    current: OpenedBranch | None = None
    coming: Future[OpenedBranch] | None = None
    expected: int = 0


class BranchSupply:
    """Hands out uses of branch keys. Safe to use from several threads at once."""

    def __init__(self, make: Callable[[Slot], OpenedBranch], clock: Callable[[], float]) -> None:
        """Prepare.

        Args:
            make: makes a branch key and stores it; called by one thread at a time, not always the
                same.
            clock: seconds, for the age of a branch key.
        """
        self._make = make
        self._clock = clock
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget all; for a forked process, too, where a thread of its parent holds the locks."""
        self._states: dict[Slot, _State] = {}
        self._taking = threading.Lock()
        self._counting = threading.Lock()  # short: who says what is coming waits for nobody

    def expect(self, slot: Slot, rows: int) -> None:
        """Say that so many more uses will be taken, and do not wait for anything."""
        with self._counting:
            state = self._states.setdefault(slot, _State())
            state.expected += rows
            self._look_ahead(slot, state)

    def take(self, slot: Slot, wanted: int) -> tuple[OpenedBranch, int]:
        """Take up to ``wanted`` uses of the branch key in use, or of a new one.

        Raises:
            KMSError: KMS gave no new branch key.
            DatabaseError: it could not be stored.
        """
        with self._taking:
            while (taken := self._from_current(slot, wanted)) is None:
                self._adopt_next(slot)
            return taken

    def _from_current(self, slot: Slot, wanted: int) -> tuple[OpenedBranch, int] | None:
        with self._counting:
            state = self._states.setdefault(slot, _State())
            branch = state.current
            if branch is None or self._is_worn(branch):
                return None
            count = min(wanted, branch.uses_left)
            branch.uses_left -= count
            state.expected = max(0, state.expected - count)
            self._look_ahead(slot, state)
            return branch, count

    def _adopt_next(self, slot: Slot) -> None:
        """Wait for the branch key that is on its way; where none is, make it here."""
        with self._counting:
            state = self._states[slot]
            on_its_way = state.coming is not None
            coming = state.coming = state.coming or Future()
        if not on_its_way:
            self._fulfil(slot, coming)
        branch = None
        try:
            branch = coming.result()
        finally:
            with self._counting:
                state.current, state.coming = branch, None

    def _is_worn(self, branch: OpenedBranch) -> bool:
        return branch.uses_left == 0 or self._clock() - branch.since > WRAP_SECONDS

    def _look_ahead(self, slot: Slot, state: _State) -> None:
        """Begin to make the next branch key as soon as it is sure to be needed."""
        left = state.current.uses_left if state.current is not None else 0
        if state.expected <= left or state.coming is not None:
            return
        state.coming = Future()
        thread = threading.Thread(
            target=self._fulfil, args=(slot, state.coming), name="dekctl-branch", daemon=True
        )
        thread.start()

    def _fulfil(self, slot: Slot, coming: Future[OpenedBranch]) -> None:
        try:
            coming.set_result(self._make(slot))
        except BaseException as error:  # whoever takes it is to see it
            coming.set_exception(error)
