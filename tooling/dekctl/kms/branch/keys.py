"""Branch keys: KMS wraps one key for many rows, and the rows' keys are wrapped under it locally.

A V3 blob is::

    format (1 byte, 3) | branch id (16) | nonce (12) | AES-256-GCM ciphertext and tag (DEK + 16)

with the row's encryption context as additional data. A branch key wraps at most ``rows_per_key``
keys, in one process, for at most an hour. Its nonces are random and 96 bits long; NIST SP 800-38D
(section 8.3) allows 2^32 of them per key, and the configuration allows far fewer.

A branch key is stored and committed before any row uses it. One that no row ever used, because the
process was killed, does no harm.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from cryptography.exceptions import InvalidTag

from dekctl.config.model import ROWS_PER_BRANCH_KEY
from dekctl.errors import (
    KMSRefusedError,
    KMSUnavailableError,
    RowRejectedError,
)
from dekctl.kms.branch.rewrap import BranchRewraps
from dekctl.kms.branch.store import BranchRewrapResult, BranchStore, damaged, missing
from dekctl.kms.branch.supply import V3_FORMAT, BranchScope, BranchSupply, OpenedBranch
from dekctl.kms.branch_key import BranchKey
from dekctl.kms.context import (
    OTHER_CONTEXT_HINT,
    TABLE,
    branch_context,
    encode_context,
    row_encoder,
)
from dekctl.kms.dek import hides_keys
from dekctl.kms.fork_safety import reset_after_fork
from dekctl.kms.interface import (
    KMSInterface,
    RewrapRequest,
    Unwrapped,
    UnwrapRequest,
    Wrapped,
    WrapRequest,
)

ID_BYTES = 16
NONCE_BYTES = 12
TAG_BYTES = 16
HEAD_BYTES = len(V3_FORMAT) + ID_BYTES
KEY_BYTES = 32

KEEP_SECONDS = 3600.0
"""How long a branch key is kept in memory; then KMS is asked again, and may refuse."""
KEEP_KEYS = 1000

Request = TypeVar("Request")
Branch = TypeVar("Branch")
Answer = TypeVar("Answer")


class BranchKeys:
    """Wraps and unwraps V3 keys. Safe to use from several threads at once."""

    def __init__(
        self,
        kms: KMSInterface,
        store: BranchStore,
        *,
        rows_per_key: Mapping[str, int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; no call is made yet.

        Args:
            kms: wraps and unwraps the branch keys themselves.
            store: where they are kept.
            rows_per_key: how many keys one branch key may wrap, by the table's context name;
                10,000 for a table that is not named.
            clock: seconds, for the age of keys in memory.
        """
        self._kms = kms
        self._store = store
        self._rows_per_key = rows_per_key or {}
        self._clock = clock
        self._supply = BranchSupply(self._make, clock)
        self._opened: OrderedDict[str, tuple[float, OpenedBranch]] = OrderedDict()
        self._rewraps = BranchRewraps(kms, store)
        self._new_locks()
        reset_after_fork(self)

    def _new_locks(self) -> None:
        self._remembering = threading.Lock()  # short: a key in memory waits for nobody
        self._fetching = threading.Lock()

    def after_fork(self) -> None:
        """Start with no branch key: two processes would each count its uses from the start."""
        self._supply.reset()
        self._opened = OrderedDict()  # another thread may have been changing it
        self._new_locks()

    # -- wrapping ------------------------------------------------------------------------------

    @hides_keys
    def wrap_many(self, requests: Sequence[WrapRequest]) -> list[Wrapped | RowRejectedError]:
        """Wrap each key under a branch key. All requests are of one table and one KEK.

        Raises:
            KMSError: KMS gave no new branch key.
            DatabaseError: it could not be stored.
        """
        answers: list[Wrapped | RowRejectedError] = []
        while len(answers) < len(requests):
            context = requests[len(answers)].context
            assert context is not None, "a V3 key is always bound to its row"
            wanted = len(requests) - len(answers)
            branch, count = self._supply.take((context[TABLE], requests[0].kek), wanted)
            part = requests[len(answers) : len(answers) + count]
            encode = row_encoder(context[TABLE])
            head, encrypt, stored = branch.head, branch.cipher.encrypt, branch.stored
            kek_id = stored.kek_id
            random = os.urandom(NONCE_BYTES * count)
            nonces = [random[i : i + NONCE_BYTES] for i in range(0, len(random), NONCE_BYTES)]
            answers += [
                Wrapped(
                    head + nonce + encrypt(nonce, r.plaintext, encode(r.context)),
                    kek_id,
                    branch_key=stored,
                )
                for nonce, r in zip(nonces, part, strict=True)
            ]
        return answers

    def expect(self, context_name: str, kek: str | None, rows: int) -> None:
        """Announce that this many keys of a table will be wrapped soon. Does not wait."""
        self._supply.expect((context_name, kek), rows)

    def _make(self, scope: BranchScope) -> OpenedBranch:
        context_name, kek = scope
        branch_id = uuid.uuid4().hex
        context = branch_context(context_name, branch_id)
        try:
            key, wrapped = self._kms.generate(KEY_BYTES, context, kek)
        except KMSRefusedError as error:
            if error.code == "AccessDeniedException":
                error.hint = (
                    "V3 needs allow_branch_keys = true in Terraform, then: make apply; or let KMS "
                    'wrap every key: set wrapping = "V2", and leave out --hierarchical'
                )
            raise
        if len(key.plaintext) != KEY_BYTES:
            raise KMSUnavailableError("KMS returned a branch key of the wrong size")
        uses = self._rows_per_key.get(context_name, ROWS_PER_BRANCH_KEY)
        stored = BranchKey(branch_id, context_name, wrapped.blob, wrapped.kek_id, uses)
        self._store.add(stored)
        return OpenedBranch(stored, key.plaintext, self._clock(), uses)

    # -- opening -------------------------------------------------------------------------------

    @hides_keys
    def unwrap_many(self, requests: Sequence[UnwrapRequest]) -> list[Unwrapped | RowRejectedError]:
        """Unwrap each V3 key. KMS is called only for branch keys that are not in memory.

        Raises:
            KMSError: KMS refused to unwrap branch keys.
            DatabaseError: they could not be read.
        """
        ids = [_branch_id(request.wrapped) for request in requests]
        wanted = {
            branch_id: request.context
            for branch_id, request in zip(ids, requests, strict=True)
            if branch_id is not None
        }
        return _answers(ids, requests, self._open(wanted), _unwrap)

    def forget(self, wrapped: bytes) -> None:
        """Drop the branch key of a V3 blob from memory, so that its next use reads it again."""
        with self._remembering:
            self._opened.pop(_branch_id(wrapped) or "", None)

    def not_stored(self, transaction: Any, keys: Collection[BranchKey]) -> set[str]:
        """The ids of those branch keys under which this transaction must not write rows.

        They were deleted, changed, or lost by a fail-over; call :meth:`forget_all` once it has
        ended. The others stay as they are until then.
        """
        return self._store.not_stored(transaction, keys)

    def forget_all(self, branch_ids: Collection[str]) -> None:
        """Drop branch keys from memory: none wraps any more, the next use reads them again."""
        self._supply.drop(branch_ids)
        with self._remembering:
            for branch_id in branch_ids:
                self._opened.pop(branch_id, None)

    def _open(
        self, wanted: Mapping[str, Mapping[str, str] | None]
    ) -> dict[str, OpenedBranch | RowRejectedError]:
        """Return the branch keys of these ids, from memory or from the store and KMS."""
        found, missing = self._remembered(wanted)
        if missing:
            with self._fetching:  # one thread at a time: the others then find the keys in memory
                more, missing = self._remembered(missing)
                found |= more
                if missing:
                    found |= self._fetch({branch_id: wanted[branch_id] for branch_id in missing})
        return found

    def _remembered(
        self, wanted: Iterable[str]
    ) -> tuple[dict[str, OpenedBranch | RowRejectedError], list[str]]:
        """Return the branch keys in memory, and the ids of those that are not."""
        found: dict[str, OpenedBranch | RowRejectedError] = {}
        missing: list[str] = []
        with self._remembering:
            now = self._clock()
            for branch_id in wanted:
                known = self._opened.get(branch_id)
                if known is None or now - known[0] > KEEP_SECONDS:
                    missing.append(branch_id)
                else:
                    self._opened.move_to_end(branch_id)
                    found[branch_id] = known[1]
        return found, missing

    def _fetch(
        self, wanted: Mapping[str, Mapping[str, str] | None]
    ) -> dict[str, OpenedBranch | RowRejectedError]:
        """Read branch keys from the store, unwrap them with KMS and remember them."""
        found: dict[str, OpenedBranch | RowRejectedError] = {}
        stored = [
            key
            for key in self._store.get(wanted).values()
            # Another table's branch key could not be unwrapped here: report it as missing.
            if (wanted[key.branch_id] or {}).get(TABLE) == key.context_name
        ]
        found |= {key.branch_id: damaged(key.branch_id) for key in stored if not key.wrapped}
        stored = [key for key in stored if key.wrapped]
        since = self._clock()
        answers = self._kms.unwrap_many([_request(key) for key in stored])
        for key, answer in zip(stored, answers, strict=True):
            if isinstance(answer, RowRejectedError):
                found[key.branch_id] = answer.after(
                    f"KMS cannot decrypt its branch key {key.branch_id}"
                )
            elif len(answer.plaintext) != KEY_BYTES:
                found[key.branch_id] = damaged(key.branch_id)
            else:
                found[key.branch_id] = OpenedBranch(key, answer.plaintext, since)
        with self._remembering:
            for branch_id, opened in found.items():
                if isinstance(opened, OpenedBranch):
                    self._opened[branch_id] = (since, opened)
            while len(self._opened) > KEEP_KEYS:
                self._opened.popitem(last=False)
        return found

    # -- another KEK ---------------------------------------------------------------------------

    def rewrap_all(
        self,
        context_name: str,
        source: str | None = None,
        new_kek: str | None = None,
        *,
        include_current: bool = False,
    ) -> BranchRewrapResult:
        """Rewrap the branch keys of a table; see :meth:`.BranchRewraps.rewrap_all`."""
        return self._rewraps.rewrap_all(
            context_name, source, new_kek, include_current=include_current
        )

    @hides_keys
    def rewrap_many(self, requests: Sequence[RewrapRequest]) -> list[Wrapped | RowRejectedError]:
        """Move V3 rows to another KEK: only their branch keys are rewrapped.

        Raises:
            KMSError: KMS refused.
            DatabaseError: the store refused.
        """
        ids = [_branch_id(request.wrapped) for request in requests]
        stored = self._store.get({branch_id for branch_id in ids if branch_id is not None})
        table = (requests[0].context or {}).get(TABLE)  # one call never mixes tables
        own = [key for key in stored.values() if key.context_name == table]
        rewrapped = self._rewraps.moved(own, requests[0].new_kek)
        return _answers(
            ids,
            requests,
            rewrapped,
            lambda key, request: Wrapped(request.wrapped, key.kek_id, branch_key=key),
        )


_NO_BLOB = RowRejectedError(
    "its wrapped key is not a V3 blob", hint="was wrapped_key_version changed by hand?"
)


def _answers(
    ids: Sequence[str | None],
    requests: Sequence[Request],
    found: Mapping[str, Branch | RowRejectedError],
    answer: Callable[[Branch, Request], Answer | RowRejectedError],
) -> list[Answer | RowRejectedError]:
    """The answer for each row, or why its branch key cannot be used."""
    answers: list[Answer | RowRejectedError] = []
    for branch_id, request in zip(ids, requests, strict=True):
        branch = found.get(branch_id) if branch_id is not None else _NO_BLOB
        if isinstance(branch, RowRejectedError):
            answers.append(branch)
        elif branch is None:
            answers.append(missing(branch_id))
        else:
            answers.append(answer(branch, request))
    return answers


def _branch_id(blob: bytes) -> str | None:
    """Return the branch id in a V3 blob, or None for any other blob."""
    if len(blob) <= HEAD_BYTES + NONCE_BYTES + TAG_BYTES or blob[:1] != V3_FORMAT:
        return None
    return bytes(blob[1:HEAD_BYTES]).hex()


def _request(key: BranchKey) -> UnwrapRequest:
    return UnwrapRequest(key.wrapped, key.kek_id, branch_context(key.context_name, key.branch_id))


def _unwrap(branch: OpenedBranch, request: UnwrapRequest) -> Unwrapped | RowRejectedError:
    blob = request.wrapped
    nonce = blob[HEAD_BYTES : HEAD_BYTES + NONCE_BYTES]
    sealed = blob[HEAD_BYTES + NONCE_BYTES :]
    try:
        key = branch.cipher.decrypt(nonce, sealed, encode_context(request.context))
    except InvalidTag:
        return RowRejectedError(
            "its wrapped key cannot be decrypted: it is damaged, or belongs to another row",
            hint=OTHER_CONTEXT_HINT,
        )
    return Unwrapped(key, branch.stored.kek_id, branch_key=branch.stored)
