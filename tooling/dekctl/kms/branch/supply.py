"""The branch keys that wrap: one at a time per table and KEK, the next one made in advance.

Making one takes a KMS call and a transaction. A caller that announces how many rows are coming
(:meth:`BranchSupply.expect`) does not wait for that; announcing is optional.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dekctl.kms.branch_key import BranchKey

V3_FORMAT = b"\x03"
WRAP_SECONDS = 3600.0
"""After this time a new branch key is made, even if the old one has uses left."""

BranchScope = tuple[str, str | None]
"""What one branch key serves: a table's context name, and a KEK (None: the provider's own)."""


class OpenedBranch:
    """A branch key in plaintext. Its ``repr`` shows nothing."""

    __slots__ = ("cipher", "head", "since", "stored", "uses_left")

    def __init__(self, stored: BranchKey, key: bytes, now: float, uses: int = 0) -> None:
        self.cipher = AESGCM(key)
        self.head = V3_FORMAT + bytes.fromhex(stored.branch_id)
        self.stored = stored
        self.since = now
        self.uses_left = uses


@dataclass(slots=True)
class _State:
    """``expected`` counts the announced rows that have not taken a use yet."""

    current: OpenedBranch | None = None
    coming: Future[OpenedBranch] | None = None
    expected: int = 0


class BranchSupply:
    """Hands out uses of branch keys. Safe to use from several threads at once."""

    def __init__(
        self, make: Callable[[BranchScope], OpenedBranch], clock: Callable[[], float]
    ) -> None:
        """Prepare.

        Args:
            make: makes a branch key and stores it; called by one thread at a time, though not
                always the same thread.
            clock: seconds, for the age of a branch key.
        """
        self._make = make
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Forget everything, locks included: in a fork, a thread of the parent may hold them."""
        self._states: dict[BranchScope, _State] = {}
        self._taking = threading.Lock()
        self._counting = threading.Lock()  # held briefly: announcing waits for nobody

    def expect(self, scope: BranchScope, rows: int) -> None:
        """Announce that this many more uses will be taken. Does not wait."""
        with self._counting:
            state = self._states.setdefault(scope, _State())
            state.expected += rows
            self._look_ahead(scope, state)

    def drop(self, branch_ids: Collection[str]) -> None:
        """Hand out no more uses of these branch keys."""
        with self._counting:
            for state in self._states.values():
                current = state.current
                if current is not None and current.stored.branch_id in branch_ids:
                    state.current = None

    def take(self, scope: BranchScope, wanted: int) -> tuple[OpenedBranch, int]:
        """Take up to ``wanted`` uses of the current branch key, or of a new one.

        Raises:
            KMSError: KMS made no new branch key.
            DatabaseError: it could not be stored.
        """
        with self._taking:
            while (taken := self._from_current(scope, wanted)) is None:
                self._adopt_next(scope)
            return taken

    def _from_current(self, scope: BranchScope, wanted: int) -> tuple[OpenedBranch, int] | None:
        with self._counting:
            state = self._states.setdefault(scope, _State())
            branch = state.current
            if branch is None or self._is_used_up(branch):
                return None
            count = min(wanted, branch.uses_left)
            branch.uses_left -= count
            state.expected = max(0, state.expected - count)
            self._look_ahead(scope, state)
            return branch, count

    def _adopt_next(self, scope: BranchScope) -> None:
        """Wait for the next branch key; make it here if no thread is making it."""
        with self._counting:
            state = self._states[scope]
            is_being_made = state.coming is not None
            coming = state.coming = state.coming or Future()
        if not is_being_made:
            self._fulfil(scope, coming)
        branch = None
        try:
            branch = coming.result()
        finally:
            with self._counting:
                state.current, state.coming = branch, None

    def _is_used_up(self, branch: OpenedBranch) -> bool:
        return branch.uses_left == 0 or self._clock() - branch.since > WRAP_SECONDS

    def _look_ahead(self, scope: BranchScope, state: _State) -> None:
        """Start making the next branch key as soon as it is certain to be needed."""
        left = state.current.uses_left if state.current is not None else 0
        if state.expected <= left or state.coming is not None:
            return
        state.coming = Future()
        thread = threading.Thread(
            target=self._fulfil, args=(scope, state.coming), name="dekctl-branch", daemon=True
        )
        thread.start()

    def _fulfil(self, scope: BranchScope, coming: Future[OpenedBranch]) -> None:
        try:
            coming.set_result(self._make(scope))
        except BaseException as error:  # raised to whoever takes it
            coming.set_exception(error)
