"""Reading data keys: what is at hand without asking anybody, and the steps to get the rest."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from dekctl.config import PlaintextUse, TableConfig
from dekctl.db.plaintext import decode_plaintext
from dekctl.errors import DekctlError, RowRejectedError
from dekctl.kek_id import is_key_arn
from dekctl.kms.context import (
    PRIMARY_KEY,
    TABLE,
    V2,
    V3,
    context_for_version,
    primary_key_text,
)
from dekctl.kms.dek import DEK
from dekctl.kms.interface import Unwrapped, UnwrapRequest
from dekctl.reader.allowed import AllowedKEKs
from dekctl.reader.branch_opening import Branches, BranchOpener, look_up
from dekctl.reader.memory import AbandonedError, Memory
from dekctl.reader.patience import Patience, is_refusal, parts
from dekctl.reader.rows import RowClass, RowClasses, session_of
from dekctl.reader.stats import Counters
from dekctl.reader.steps import InDatabase, InKMS, Steps, rejection, result_of, wait_for
from dekctl.reader.stored import StoredRows

Answer = DEK | RowRejectedError


@dataclass(slots=True)
class Wanted:
    """A wrapped key that has to be asked for."""

    row: Any
    kind: RowClass
    wrapped: bytes
    version: str | None
    kek_id: str | None
    key: str
    """The row's primary key as text, as far as known without asking the database."""
    opened_by: str | None = None
    """The KEK that KMS used, once it has: the row may name none, or an alias."""


class Opener:
    """Reads the keys of one table's rows."""

    def __init__(
        self,
        table: TableConfig,
        use: PlaintextUse,
        *,
        classes: RowClasses,
        stored: StoredRows,
        allowed: AllowedKEKs,
        patience: Patience,
        branches: BranchOpener,
        deks: Memory[Hashable, DEK] | None,
        counters: Counters,
    ) -> None:
        self._table = table
        self._refuses = use == "refuse"
        self._classes = classes
        self._stored = stored
        self._allowed = allowed
        self._patience = patience
        self._branches = branches
        self._blobs = branches.blobs
        self._deks = deks
        self._counters = counters

    # -- at hand -------------------------------------------------------------------------------

    def at_hand(self, row: Any) -> DEK | Wanted:
        """A row's key, where nobody has to be asked for it.

        Raises:
            RowRejectedError: the row has no key, or one that is refused.
            UsageError: the row lacks a column, or its primary key is of a wrong type.
        """
        table, kind = self._table, self._classes.of(row)
        wrapped = kind.get(row, table.wrapped_column)
        if wrapped is None:
            return self._plaintext(row, kind)
        if type(wrapped) is not bytes:
            wrapped = _as_bytes(wrapped)
        version = kind.get(row, table.version_column)
        if self._refuses and version not in (V2, V3):
            raise RowRejectedError(
                f"the row's wrapped key is of version {version or 'V1'}, bound to no row, and "
                'plaintext = "refuse" accepts V2 and V3 only',
                hint="rewrap such rows: dekctl rewrap --version V1",
            )
        key = primary_key_text(self._stored.primary_key(row, kind))
        kek_id = kind.get(row, table.kek_column)
        known: DEK | None = None
        if version == V3:
            known = self._in_memory(wrapped, key)
        else:
            if kek_id is not None:
                self._refuse_kek(kek_id)
            if self._deks is not None:
                known = self._deks.get(self._entry(wrapped, version, kek_id, key))
        return Wanted(row, kind, wrapped, version, kek_id, key) if known is None else known

    def _refuse_kek(self, kek_id: str) -> None:
        """Refuse a row by the KEK that it names, where there is no need to ask anybody."""
        if not isinstance(kek_id, str):  # SQLite stores what it is given
            raise RowRejectedError(f"its KEK id is stored as {type(kek_id).__name__}, not as text")
        if is_key_arn(kek_id) and not self._allowed.is_open(kek_id):
            self._allowed.refuse_others(kek_id)

    def _in_memory(self, wrapped: bytes, key: str) -> DEK | None:
        """The key of a V3 row whose branch key is in memory."""
        branch = self._branches.at_hand(self._blobs.branch_id(wrapped))
        if branch is None:
            return None
        try:
            return self._blobs.open(branch, wrapped, key)
        except RowRejectedError:
            return None  # the database may store another spelling of the primary key

    def _plaintext(self, row: Any, kind: RowClass) -> DEK:
        table = self._table
        if self._refuses:
            raise RowRejectedError(
                'the row has no wrapped key, and plaintext = "refuse" accepts nothing else',
                hint="wrap what is left: dekctl migrate",
            )
        plaintext = kind.get(row, table.plaintext_column)
        if plaintext is None:
            raise RowRejectedError("the row has neither a wrapped key nor a plaintext")
        if not isinstance(plaintext, str):
            plaintext = _as_bytes(plaintext)
        self._counters.count("plaintext")
        return DEK(decode_plaintext(plaintext, table.plaintext_encoding, table.dek_bytes))

    def _entry(self, wrapped: bytes, version: str | None, kek_id: str | None, key: str) -> Hashable:
        """What an entry of the cache is bound to: blob, version, KEK and context."""
        return wrapped, version, kek_id, (self._table.context_name, key) if version == V2 else None

    def _entry_of(self, wanted: Wanted) -> Hashable:
        return self._entry(wanted.wrapped, wanted.version, wanted.kek_id, wanted.key)

    # -- to be asked for -----------------------------------------------------------------------

    def read(self, rows: Iterable[Any]) -> Steps[list[Answer]]:
        """The keys of rows, each a key or what is wrong with that row alone."""
        answers: list[Answer | Wanted] = []
        for row in rows:
            try:
                answers.append(self.at_hand(row))
            except RowRejectedError as rejected:
                answers.append(rejected)
        places = [i for i, answer in enumerate(answers) if isinstance(answer, Wanted)]
        found = yield from self.open([a for a in answers if isinstance(a, Wanted)])
        for place, answer in zip(places, found, strict=True):
            answers[place] = answer
        return [answer for answer in answers if not isinstance(answer, Wanted)]

    def open(self, wanted: Sequence[Wanted]) -> Steps[list[Answer]]:
        """The keys that have to be asked for."""
        branches = yield from self._branches.open([w for w in wanted if w.version == V3])
        answers: list[Answer] = []
        for part in parts(wanted):
            answers += yield from self._open_part(part, branches)
        return answers

    def _open_part(self, wanted: Sequence[Wanted], branches: Branches) -> Steps[list[Answer]]:
        until = self._patience.deadline(len(wanted))
        answers = yield from self._unwrap(wanted, branches, until)
        # The database may store a key other than the session wrote it: padded, or truncated.
        # Asking costs a statement, so it is done only where decryption failed.
        again: list[tuple[int, Wanted]] = []
        for place, (each, answer) in enumerate(zip(wanted, answers, strict=True)):
            if isinstance(answer, RowRejectedError) and each.version in (V2, V3):
                other = yield from self._as_stored(each)
                if other != each.key:
                    again.append((place, _bound_to(each, other)))
        if again:
            second = yield from self._unwrap([each for _, each in again], branches, until)
            for (place, _), answer in zip(again, second, strict=True):
                answers[place] = answer
        return answers

    def _as_stored(self, wanted: Wanted) -> Steps[str]:
        row, kind, stored = wanted.row, wanted.kind, self._stored
        try:
            if session_of(row, kind) is None:
                return primary_key_text(stored.other_key(row, kind))
            work = partial(stored.ask, rows=[row], kind=kind)
            [found] = yield InDatabase(work, row, kind, in_transaction=True)
            return primary_key_text(found.primary_key)
        except DekctlError:
            return wanted.key

    def _unwrap(
        self,
        wanted: Sequence[Wanted],
        branches: Branches,
        until: float,
    ) -> Steps[list[Answer]]:
        answers: list[Answer | None] = [
            self._with_branch(each, branches) if each.version == V3 else None for each in wanted
        ]
        places = [i for i, each in enumerate(wanted) if each.version != V3]
        rest = [wanted[i] for i in places]
        if self._deks is not None:
            found = yield from self._through(self._deks, rest, until)
        else:
            found = yield from self._ask(rest, until)
        for place, answer in zip(places, found, strict=True):
            answers[place] = answer
        return [answer for answer in answers if answer is not None]

    def _ask(self, wanted: Sequence[Wanted], until: float) -> Steps[list[Answer]]:
        """Have KMS unwrap V1 and V2 keys."""
        named = [each.kek_id for each in wanted if each.kek_id and is_key_arn(each.kek_id)]
        yield from look_up(self._allowed, named, self._patience, until)
        answers: dict[int, Answer] = {}
        places: list[int] = []
        requests: list[UnwrapRequest] = []
        for place, each in enumerate(wanted):
            try:
                if each.kek_id in named:
                    self._allowed.refuse_others(each.kek_id)
                context = self._context(each)
            except RowRejectedError as rejected:
                answers[place] = rejected
                continue
            places.append(place)
            requests.append(UnwrapRequest(each.wrapped, each.kek_id, context))
        if requests:
            opened = yield InKMS(partial(self._patience.unwrap, requests, until))
            found = {answer.kek_id for answer in opened if isinstance(answer, Unwrapped)}
            yield from look_up(self._allowed, found, self._patience, until)
            for place, answer in zip(places, opened, strict=True):
                wanted[place].opened_by = getattr(answer, "kek_id", None)
                answers[place] = self._checked(answer)
            self._counters.count("kms", sum(isinstance(a, DEK) for a in answers.values()))
        return [answers[place] for place in range(len(wanted))]

    def _context(self, wanted: Wanted) -> dict[str, str] | None:
        if wanted.version == V2:
            return {TABLE: self._table.context_name, PRIMARY_KEY: wanted.key}
        return context_for_version(wanted.version, self._table.context_name, (wanted.key,))

    def _checked(self, answer: Unwrapped | RowRejectedError) -> Answer:
        if isinstance(answer, RowRejectedError):
            return answer
        try:
            self._allowed.refuse_others(answer.kek_id)
        except RowRejectedError as refused:
            return refused
        return DEK(answer.plaintext)

    def _through(
        self, deks: Memory[Hashable, DEK], wanted: Sequence[Wanted], until: float
    ) -> Steps[list[Answer]]:
        """The same by way of the cache: one call for all who want a key at the same time."""
        entries = [self._entry_of(each) for each in wanted]
        by_entry = dict(zip(entries, wanted, strict=True))
        claim = deks.claim(by_entry)
        answers: dict[Hashable, Answer] = dict(claim.found)
        left = list(claim.mine)
        since = time.monotonic()
        try:
            opened = yield from self._ask([by_entry[entry] for entry in left], until)
            for entry, answer in zip(claim.mine, opened, strict=True):
                left.remove(entry)
                answers[entry] = answer
                if isinstance(answer, DEK):
                    deks.keep(entry, answer, since, by_entry[entry].opened_by)
                    continue
                if is_refusal(answer):
                    deks.refuse(by_entry[entry].kek_id)
                deks.fail(entry, answer)
        except BaseException as error:
            for kek_id in {by_entry[entry].kek_id for entry in left if is_refusal(error)}:
                deks.refuse(kek_id)
            stale, all_found = deks.give_up(left, error)
            if not all_found:
                raise
            answers |= stale
        yield from wait_for(claim.others, until)
        deks.abandon(claim.others)
        again = []
        for entry, call in claim.others.items():
            try:
                answers[entry] = result_of(call)
            except AbandonedError:
                again.append(by_entry[entry])
            except RowRejectedError as rejected:
                answers[entry] = rejected
        if again:
            found = yield from self._through(deks, again, until)
            answers |= {self._entry_of(each): a for each, a in zip(again, found, strict=True)}
        answers |= {entry: rejection(failure) for entry, failure in claim.failed.items()}
        return [answers[entry] for entry in entries]

    # -- branch keys ---------------------------------------------------------------------------

    def _with_branch(self, wanted: Wanted, branches: Branches) -> Answer:
        try:
            branch = branches[self._blobs.branch_id(wanted.wrapped)]
            if isinstance(branch, RowRejectedError):
                return branch
            self._allowed.refuse_others(branch.kek_id)
            return self._blobs.open(branch, wanted.wrapped, wanted.key)
        except RowRejectedError as rejected:
            return rejected


def _bound_to(wanted: Wanted, key: str) -> Wanted:
    return Wanted(wanted.row, wanted.kind, wanted.wrapped, wanted.version, wanted.kek_id, key)


def _as_bytes(stored: Any) -> bytes:
    """Bytes as drivers hand them out. Not ``bytes(…)`` alone: of a number it would make zeros."""
    if isinstance(stored, bytes | bytearray | memoryview):
        return bytes(stored)
    raise RowRejectedError(f"its key is stored as {type(stored).__name__}, which is not binary")
