"""Branch keys on demand: in memory, else read from the database and opened by KMS, all at once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Protocol

from dekctl.errors import RowRejectedError
from dekctl.kms.branch.keys import KEY_BYTES
from dekctl.kms.branch.store import damaged, missing
from dekctl.kms.branch_key import BranchKey
from dekctl.kms.interface import Unwrapped
from dekctl.reader.allowed import AllowedKEKs
from dekctl.reader.branches import Branch, BranchBlobs
from dekctl.reader.memory import AbandonedError, Memory
from dekctl.reader.patience import Patience, is_refusal, parts
from dekctl.reader.rows import RowClass, session_of
from dekctl.reader.steps import InDatabase, InKMS, Steps, rejection, result_of, wait_for

Branches = dict[bytes, Branch | RowRejectedError]


class V3Row(Protocol):
    """A row whose wrapped key is under a branch key."""

    row: Any
    kind: RowClass
    wrapped: bytes


def look_up(
    allowed: AllowedKEKs, keks: Iterable[str], patience: Patience, until: float
) -> Steps[None]:
    """Learn what the aliases among the allowed KEKs stand for, where that decides about KEKs."""
    if any(map(allowed.is_open, keks)):
        yield InKMS(partial(patience.look_up, allowed, until))


class BranchOpener:
    """The branch keys of one table's rows."""

    def __init__(
        self,
        blobs: BranchBlobs,
        memory: Memory[bytes, Branch],
        *,
        allowed: AllowedKEKs,
        patience: Patience,
    ) -> None:
        self.blobs = blobs
        self._memory = memory
        self._allowed = allowed
        self._patience = patience

    def at_hand(self, branch_id: bytes) -> Branch | None:
        """A branch key in memory, if its KEK is allowed."""
        branch = self._memory.get(branch_id)
        if branch is not None and branch.kek_id not in self._allowed:
            self._memory.forget(branch_id)  # it may have been rewrapped since it was opened
            return None
        return branch

    def open(self, wanted: Sequence[V3Row]) -> Steps[Branches]:
        """The branch keys of V3 rows, from memory or from the database and KMS."""
        found: Branches = {}
        by_session: dict[int, tuple[V3Row, set[bytes]]] = {}
        for each in wanted:
            try:
                branch_id = self.blobs.branch_id(each.wrapped)
            except RowRejectedError:
                continue  # told when the row is opened
            if branch_id in found:
                continue
            branch = self.at_hand(branch_id)
            if branch is not None:
                found[branch_id] = branch
            else:
                session = session_of(each.row, each.kind)
                by_session.setdefault(id(session), (each, set()))[1].add(branch_id)
        stored: dict[bytes, BranchKey] = {}
        for each, ids in by_session.values():
            unread = ids - stored.keys()
            work = partial(self.blobs.fetch, ids=unread)
            stored |= (yield InDatabase(work, each.row, each.kind)) if unread else {}
            for branch_id in unread - stored.keys():
                found[branch_id] = missing(branch_id.hex())
        for branch_id in [branch_id for branch_id, key in stored.items() if not key.wrapped]:
            del stored[branch_id]
            found[branch_id] = damaged(branch_id.hex())
        for part in parts(list(stored)):
            found |= yield from self._unwrap({branch_id: stored[branch_id] for branch_id in part})
        return found

    def _unwrap(self, stored: dict[bytes, BranchKey]) -> Steps[Branches]:
        memory, until = self._memory, self._patience.deadline(len(stored))
        found_keks = {key.kek_id for key in stored.values()}
        yield from look_up(self._allowed, found_keks, self._patience, until)
        claim = memory.claim(stored)
        found: Branches = dict(claim.found)
        left = list(claim.mine)
        since = time.monotonic()
        try:
            requests = [self.blobs.request(stored[branch_id]) for branch_id in left]
            work = partial(self._patience.unwrap, requests, until)
            opened = (yield InKMS(work)) if requests else []
            for branch_id, answer in zip(claim.mine, opened, strict=True):
                left.remove(branch_id)
                if isinstance(answer, Unwrapped) and len(answer.plaintext) != KEY_BYTES:
                    found[branch_id] = rejected = damaged(branch_id.hex())
                    memory.fail(branch_id, rejected)
                elif isinstance(answer, Unwrapped):
                    branch = Branch(answer.plaintext, stored[branch_id].kek_id)
                    found[branch_id] = branch
                    memory.keep(branch_id, branch, since, branch.kek_id)
                else:
                    if is_refusal(answer):
                        memory.refuse(stored[branch_id].kek_id)
                    found[branch_id] = rejected = RowRejectedError(
                        f"its branch key {branch_id.hex()} cannot be unwrapped: {answer.message}",
                        hint=answer.hint,
                        code=answer.code,
                    )
                    memory.fail(branch_id, rejected)
        except BaseException as error:
            for kek_id in {stored[branch_id].kek_id for branch_id in left if is_refusal(error)}:
                memory.refuse(kek_id)
            stale, all_found = memory.give_up(left, error)
            if not all_found:
                raise
            found |= stale
        yield from wait_for(claim.others, until)
        memory.abandon(claim.others)
        again = {}
        for branch_id, call in claim.others.items():
            try:
                found[branch_id] = result_of(call)
            except AbandonedError:
                again[branch_id] = stored[branch_id]
            except RowRejectedError as rejected:
                found[branch_id] = rejected
        if again:
            found |= yield from self._unwrap(again)
        return found | {each: rejection(failure) for each, failure in claim.failed.items()}
