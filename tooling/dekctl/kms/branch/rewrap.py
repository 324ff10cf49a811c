"""Moves branch keys to another KEK. Thousands of rows need each one, so every copy is proved."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from dekctl.errors import RowRejectedError
from dekctl.kek_id import is_same_kek
from dekctl.kms.branch.store import BranchRewrapResult, BranchStore, damaged, missing
from dekctl.kms.branch_key import BranchKey
from dekctl.kms.context import branch_context
from dekctl.kms.interface import KMSInterface, RewrapRequest, Wrapped

REWRAP_BATCH = 500


class BranchRewraps:
    """Rewraps the branch keys of a store. Safe to use from several threads at once."""

    def __init__(self, kms: KMSInterface, store: BranchStore) -> None:
        self._kms = kms
        self._store = store
        self._proved: set[BranchKey] = set()
        """Those that KMS could decrypt as they are stored."""

    def rewrap_all(
        self,
        context_name: str,
        source: str | None = None,
        new_kek: str | None = None,
        *,
        include_current: bool = False,
    ) -> BranchRewrapResult:
        """Rewrap the branch keys of a table. A damaged one does not stop the others.

        Args:
            context_name: the table's.
            source: only those under this KEK; by default all.
            new_kek: the KEK to move them to; by default the one that wraps.
            include_current: re-encrypt those that are under it already, too.

        Raises:
            KMSError: KMS refused.
            DatabaseError: the store refused.
        """
        after, result = "", BranchRewrapResult()
        while page := self._store.page(context_name, after, REWRAP_BATCH):
            if page[-1].branch_id == after:  # ids that are no text sort behind every text (SQLite)
                break
            after = page[-1].branch_id
            chosen = [key for key in page if source is None or is_same_kek(key.kek_id, source)]
            for answer in self._rewrap(chosen, new_kek, include_current=include_current).values():
                if isinstance(answer, RowRejectedError):
                    result.failed.append(answer)
                else:
                    result.rewrapped += 1
        return result

    def moved(
        self, keys: Iterable[BranchKey], new_kek: str | None
    ) -> dict[str, BranchKey | RowRejectedError]:
        """Each branch key as it is under the new KEK, or why it is not, for rows to be moved.

        Raises:
            KMSError: KMS refused.
            DatabaseError: the store refused.
        """
        now = self._rewrap(keys, new_kek)
        return now | self._reject_unproved(now.values(), new_kek)

    def _rewrap(
        self, keys: Iterable[BranchKey], new_kek: str | None, *, include_current: bool = False
    ) -> dict[str, BranchKey | RowRejectedError]:
        """Rewrap branch keys. Returns each as it is stored now, or why it was not rewrapped."""
        target = new_kek or self._kms.kek_id
        now: dict[str, BranchKey | RowRejectedError] = {}
        old: list[BranchKey] = []
        for key in keys:
            if not key.wrapped:
                now[key.branch_id] = damaged(key.branch_id)
            elif key.kek_id == target and not include_current:
                now[key.branch_id] = key
            else:
                old.append(key)
        requests = [_request(key, new_kek) for key in old]
        answers = self._prove(requests, self._kms.rewrap_many(requests) if requests else [])
        for key, answer in zip(old, answers, strict=True):
            if isinstance(answer, RowRejectedError):
                now[key.branch_id] = answer.after(
                    f"its branch key {key.branch_id} cannot be rewrapped"
                )
            elif self._store.replace(key, answer.blob, answer.kek_id):
                new = replace(key, wrapped=answer.blob, kek_id=answer.kek_id)
                now[key.branch_id] = new
                self._proved.add(new)
            else:  # another process was first: what it stored counts
                stored = self._store.get([key.branch_id]).get(key.branch_id)
                now[key.branch_id] = stored or missing(key.branch_id)
        return now

    def _reject_unproved(
        self, keys: Iterable[BranchKey | RowRejectedError], new_kek: str | None
    ) -> dict[str, RowRejectedError]:
        """Which branch keys KMS cannot decrypt, of those that were where they should be.

        No row may count as moved under one. Each is looked at once in a process.
        """
        unproved = [k for k in keys if isinstance(k, BranchKey) and k not in self._proved]
        requests = [_request(key, new_kek) for key in unproved]
        answers = self._kms.rewrap_many(requests) if requests else []
        found: dict[str, RowRejectedError] = {}
        for key, answer in zip(unproved, answers, strict=True):
            if isinstance(answer, RowRejectedError):
                found[key.branch_id] = answer.after(
                    f"KMS cannot decrypt its branch key {key.branch_id}"
                )
            else:
                self._proved.add(key)
        return found

    def _prove(
        self, requests: Sequence[RewrapRequest], answers: Sequence[Wrapped | RowRejectedError]
    ) -> list[Wrapped | RowRejectedError]:
        """Have KMS decrypt each new copy before it replaces the one that thousands of keys need.

        It is re-encrypted once more, because the rewrapper may not Decrypt. The context names the
        branch key, so a copy that decrypts with it is that key.
        """
        proved = list(answers)
        indexes: list[int] = []
        copies: list[RewrapRequest] = []
        for i, (request, answer) in enumerate(zip(requests, answers, strict=True)):
            if isinstance(answer, Wrapped):
                context = request.new_context
                indexes.append(i)
                copies.append(
                    RewrapRequest(answer.blob, answer.kek_id, context, context, request.new_kek)
                )
        for i, proof in zip(indexes, self._kms.rewrap_many(copies) if copies else [], strict=True):
            if isinstance(proof, RowRejectedError):
                proved[i] = proof
        return proved


def _request(key: BranchKey, new_kek: str | None) -> RewrapRequest:
    context = branch_context(key.context_name, key.branch_id)
    return RewrapRequest(key.wrapped, key.kek_id, context, context, new_kek)
