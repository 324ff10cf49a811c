"""Issuing data keys: a new one is bound to its row, and never takes the place of another."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import sqlalchemy as sa

from dekctl.config import PlaintextUse, TableConfig
from dekctl.config.model import OTHERS
from dekctl.db.plaintext import encode_plaintext
from dekctl.errors import DekctlError, RefusedError, RowRejectedError, UsageError
from dekctl.kms.context import V2, primary_key_text, row_context
from dekctl.kms.dek import DEK
from dekctl.kms.interface import GenerateRequest, Unwrapped, Wrapped
from dekctl.reader.allowed import AllowedKEKs
from dekctl.reader.columns import refuse_other_table
from dekctl.reader.patience import Patience, parts
from dekctl.reader.rows import MappingClass, RowClass, RowClasses, missing, read_only, session_of
from dekctl.reader.stats import Counters
from dekctl.reader.steps import InDatabase, InKMS, Steps
from dekctl.reader.stored import PrimaryKey, StoredRows


@dataclass(frozen=True, slots=True)
class NewKey:
    """A new data key, and what to store of it. Its ``repr`` shows no key."""

    dek: DEK
    """The plaintext key."""
    wrapped_key: bytes = field(repr=False)
    wrapped_key_version: str
    kek_id: str
    columns: Mapping[str, Any] = field(repr=False)
    """All that belongs into the row, by column name; with ``write`` the plaintext too."""


@dataclass(slots=True)
class _Target:
    """A row that is about to get a key. ``in_session`` rows can be looked up and locked."""

    row: Any
    kind: RowClass
    in_session: bool
    key: PrimaryKey = ()
    kek: str | None = None


class Issuer:
    """Makes data keys for one table's rows."""

    def __init__(
        self,
        table: TableConfig,
        use: PlaintextUse,
        *,
        classes: RowClasses,
        stored: StoredRows,
        allowed: AllowedKEKs,
        patience: Patience,
        counters: Counters,
    ) -> None:
        self._table = table
        self._use = use
        self._classes = classes
        self._stored = stored
        self._allowed = allowed
        self._patience = patience
        self._counters = counters

    def issue(self, rows: Sequence[Any], size: int, *, replace: bool) -> Steps[list[DEK]]:
        """New keys for rows, stored in them; for none of them where one gets none."""
        self._refuse_size(size)
        targets = [self._target(row) for row in rows]
        groups = self._groups(targets)
        for target in targets:
            held = (self._table.wrapped_column, self._table.plaintext_column)
            has_key = any(target.kind.peek(target.row, column) is not None for column in held)
            _refuse_second(has_key and not replace)
        for group in groups:
            found = yield self._look_up(group, lock=False)
            for target, stored in zip(group, found, strict=True):
                target.key, target.kek = stored.primary_key, self._kek_of(stored.owner)
                _refuse_second(stored.has_key and not replace)
        for target in targets:
            if not target.in_session:
                yield from self._prepare(target)
        self._refuse_twice(targets)
        made = yield from self._generate(targets, size)
        values = [
            self._values(key, wrapped, target.kind)
            for target, (key, wrapped) in zip(targets, made, strict=True)
        ]
        for group in groups:
            again = yield self._look_up(group, lock=True)
            for target, stored in zip(group, again, strict=True):
                _refuse_second(stored.has_key and not replace)
                if stored.primary_key != target.key:
                    raise DekctlError("the row's primary key was changed while its key was made")
        # The database may refuse; then no row may have a new key that the caller never gets.
        for group in groups:
            yield from self._clear_unmapped_in_table(group)
        for target in targets:
            if not target.in_session:
                yield from self._clear_unmapped(target)
        for target, each in zip(targets, values, strict=True):
            for column, value in each.items():
                target.kind.set(target.row, column, value)
        self._counters.count("issued", len(targets))
        return [DEK(key.plaintext) for key, _ in made]

    def issue_for(self, primary_key: Any, size: int, owner: Any) -> Steps[NewKey]:
        """A new key for a row that is not there yet."""
        self._refuse_size(size)
        key = primary_key if isinstance(primary_key, tuple) else (primary_key,)
        names = self._table.primary_key
        if len(key) != len(names) or any(part is None for part in key):
            raise UsageError(
                f"the primary key must have a value for each of {', '.join(names)}",
                hint="pass the value, or a tuple of them where the key has several columns",
            )
        yield from self._learn_types(key)
        target = _Target(None, MappingClass(dict), in_session=False)
        target.key = self._stored.written_key(key)
        target.kek = self._kek_of_unstored(owner)
        [(made, wrapped)] = yield from self._generate([target], size)
        self._counters.count("issued")
        columns = self._values(made, wrapped, target.kind)
        if self._use == "refuse":
            columns.pop(self._table.plaintext_column, None)
        return NewKey(DEK(made.plaintext), wrapped.blob, V2, wrapped.kek_id, columns)

    # -- before the call -----------------------------------------------------------------------

    def _refuse_size(self, size: int) -> None:
        allowed = self._table.dek_bytes
        if size not in allowed:
            raise UsageError(
                f"a data key of {size} bytes is not allowed; dek_bytes allows "
                f"{', '.join(map(str, allowed))}",
                hint="issue a key of an allowed size, or add this size to dek_bytes in [table]",
            )

    def _target(self, row: Any) -> _Target:
        table, kind = self._table, self._classes.of(row)
        if kind.read_only:
            raise read_only(kind.name)
        if kind.mapper is not None:
            refuse_other_table(kind.mapper, table)
        if any(kind.get(row, column) is None for column in table.primary_key):
            raise DekctlError(
                "the row has no primary key yet; its data key is bound to the primary key",
                hint="call session.flush() before issue(row)",
            )
        if not isinstance(kind, MappingClass):  # a dict takes any column
            needed = (table.wrapped_column, table.version_column, table.kek_column)
            for column in (*needed, *filter(None, [table.wrapped_at_column])):
                if not kind.has(row, column):
                    raise missing(kind.name, column)
            if self._use == "write" and not kind.has(row, table.plaintext_column):
                raise UsageError(
                    f'plaintext = "write" needs {table.plaintext_column}, which {kind.name} does '
                    "not have",
                    hint='map the column, or set plaintext = "refuse" in [table] of dekctl.toml, '
                    "once no row needs its plaintext any more",
                )
        return _Target(row, kind, in_session=kind.mapper is not None)

    def _groups(self, targets: Sequence[_Target]) -> list[list[_Target]]:
        """The rows of sessions: those of one session and one model together."""
        groups: dict[tuple[int, int], list[_Target]] = {}
        for target in targets:
            if target.in_session:
                self._stored.refuse_unflushed(target.row, target.kind)  # nor in no session
                session = session_of(target.row, target.kind)
                groups.setdefault((id(session), id(target.kind)), []).append(target)
        return list(groups.values())

    def _refuse_twice(self, targets: Sequence[_Target]) -> None:
        """Check that no row is there twice: of its two keys, one would be lost."""
        seen = set()
        for target in targets:
            bind = self._stored.bind(target.row, target.kind)
            key = primary_key_text(target.key)
            place = (bind.engine if bind is not None else None, key)
            if place in seen:
                raise UsageError(
                    f"the row {key} is there twice, and can have one data key only",
                    hint="pass each row once",
                )
            seen.add(place)

    def _look_up(self, group: Sequence[_Target], *, lock: bool) -> InDatabase:
        first = group[0]
        rows = [target.row for target in group]
        work = partial(self._stored.ask, rows=rows, kind=first.kind, lock=lock)
        return InDatabase(work, first.row, first.kind, in_transaction=True)

    def _prepare(self, target: _Target) -> Steps[None]:
        """What a new key of a row is bound to that the database is not asked about."""
        table, row, kind = self._table, target.row, target.kind
        values = [kind.get(row, name) for name in table.primary_key]
        yield from self._learn_types(values)
        target.key = self._stored.written_key(values)
        owner = kind.peek(row, table.kek_by.column) if table.kek_by is not None else None
        target.kek = self._kek_of_unstored(owner)

    def _learn_types(self, values: Sequence[Any]) -> Steps[None]:
        if self._stored.needs_types(values):
            yield InDatabase(self._stored.learn_types)

    def _generate(
        self, targets: Sequence[_Target], size: int
    ) -> Steps[list[tuple[Unwrapped, Wrapped]]]:
        name = self._table.context_name
        requests = [GenerateRequest(size, row_context(name, t.key), t.kek) for t in targets]
        made: list[tuple[Unwrapped, Wrapped]] = []
        for part in parts(requests):
            until = self._patience.deadline(len(part))
            answers = yield InKMS(partial(self._patience.generate, part, until))
            for request, answer in zip(part, answers, strict=True):
                if isinstance(answer, RowRejectedError):
                    raise answer
                if request.kek is None:
                    self._allowed.add(answer[1].kek_id)
                made.append(answer)
        return made

    # -- the values ----------------------------------------------------------------------------

    def _values(self, key: Unwrapped, wrapped: Wrapped, kind: RowClass) -> dict[str, Any]:
        """What a row gets, by column name."""
        table = self._table
        values: dict[str, Any] = {
            table.wrapped_column: wrapped.blob,
            table.version_column: V2,
            table.kek_column: wrapped.kek_id,
        }
        if table.wrapped_at_column:
            values[table.wrapped_at_column] = _now(kind, table.wrapped_at_column)
        known = kind.column(table.plaintext_column)
        if self._use == "write":
            values[table.plaintext_column] = self._plaintext(key.plaintext, known)
        elif known is not None or (kind.mapper is None and self._use == "read"):
            values[table.plaintext_column] = None
        return values

    def _plaintext(self, key: bytes, known: sa.Column[Any] | None) -> bytes | str:
        """A new key as the plaintext column holds it."""
        name, encoding = self._table.plaintext_column, self._table.plaintext_encoding
        kind = known.type if known is not None else self._stored.known_type(name)
        as_text = encoding != "raw" if kind is None else isinstance(kind, sa.String)
        try:
            return encode_plaintext(key, encoding, as_text=as_text)
        except RowRejectedError:
            raise UsageError(
                f'plaintext = "write" cannot store a random key in {name}, which holds text as it '
                "is",
                hint='set plaintext = "read" in [table] of dekctl.toml: new keys are then stored '
                "wrapped only",
            ) from None

    def _clear_unmapped(self, target: _Target) -> Steps[None]:
        """Remove an old plaintext, which ``wrap --stale`` would take for the current key.

        The row may have lost the column while the database still has it.
        """
        row, kind, name = target.row, target.kind, self._table.plaintext_column
        if self._use == "write":
            return
        there = kind.has(row, name)
        if not there and isinstance(kind, MappingClass) and self._stored.engine is not None:
            there = yield InDatabase(partial(self._stored.has_plaintext_column, kind=kind))
        if there:
            kind.set(row, name, None)

    def _clear_unmapped_in_table(self, group: Sequence[_Target]) -> Steps[None]:
        """The same for the models of one session, whose table may still have the column."""
        first = group[0]
        if self._use == "write" or first.kind.column(self._table.plaintext_column) is not None:
            return
        rows = [target.row for target in group]
        work = partial(self._stored.clear_plaintexts, rows=rows, kind=first.kind)
        yield InDatabase(work, first.row, first.kind, in_transaction=True)

    # -- the KEK -------------------------------------------------------------------------------

    def _kek_of(self, owner: Any) -> str | None:
        """The KEK for a new key of this owner's row; None for the provider's own."""
        table = self._table
        if table.kek_by is None:
            return table.kek
        kek = table.kek_by.kek_of(owner)
        if kek is None:
            raise RowRejectedError(
                f"kek_by has no KEK for the row's {table.kek_by.column}",
                hint="add its value to kek_by in [table], or add '*' for all other values",
            )
        return kek

    def _kek_of_unstored(self, owner: Any) -> str | None:
        """The KEK for a row that is not looked up in the database."""
        kek_by = self._table.kek_by
        listed = [value for value, _ in kek_by.keks if value != OTHERS] if kek_by else []
        if owner is not None and str(owner) not in listed:
            near = [value for value in listed if _alike(value) == _alike(str(owner))]
            if near:
                raise RowRejectedError(
                    f"the row's {kek_by.column if kek_by else ''} resembles {near[0]!r} of kek_by; "
                    "only the database can tell whether it compares equal",
                    hint="spell it as in kek_by, or flush a model's instance and issue for that",
                )
        return self._kek_of(owner)


def _refuse_second(has_key: bool) -> None:
    if has_key:
        raise RefusedError(
            "the row already has a data key; a new one would make what it encrypted unreadable",
            hint="read(row) returns it; issue(row, replace=True) replaces it",
        )


def _now(kind: RowClass, column: str) -> datetime:
    """The time now in UTC, with a zone where the column has one."""
    known = kind.column(column)
    moment = datetime.now(UTC)
    if known is not None and getattr(known.type, "timezone", False):
        return moment
    return moment.replace(tzinfo=None)


def _alike(text: str) -> str:
    """Text without what a collation may ignore: case, accents and padding."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in letters if not unicodedata.combining(c)).rstrip()
