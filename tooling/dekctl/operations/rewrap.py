"""Rewrap: move rows to another KEK. The ciphertext of the files is not touched.

Within KMS this is ReEncrypt alone: the plaintext key never leaves KMS. A V1 row becomes V2 on the
way, so its key is bound to the row from then on.

With hierarchical wrapping (V3) the branch keys are re-encrypted first, all of them; a row of theirs
then only gets its new ``kek_id``. From V2 to V3 and back a key is opened and wrapped again.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dekctl.config.roles import Role
from dekctl.db.row import Change, Row
from dekctl.db.sql import literal
from dekctl.db.table import DekTable
from dekctl.errors import RowRejectedError, UsageError
from dekctl.kek_id import alias_spellings, could_be, is_same_kek, key_id_of, replica_suffix
from dekctl.kms.branch.store import BranchRewrapResult
from dekctl.kms.context import V1, V2, V3, row_context
from dekctl.kms.interface import RewrapRequest
from dekctl.kms.router import RoutedKMS
from dekctl.operations.base import Fault, Operation, Verdict, reason_of
from dekctl.operations.target import Target, values_of_now, wrapped_columns


@dataclass(frozen=True, slots=True)
class Choice:
    """Which wrapped keys to move; all that are not where they should be, if nothing is set.

    Args:
        source: only those of this KEK.
        named: what a person called it: rows that name it so, by an alias, are meant too.
        version: only those of this version.
        before: only those wrapped before this moment (UTC), or nobody knows when. Keys that are
            where they should be count too: their KEK's material may have been rotated since.
        same_key: also those that are where they should be.
    """

    source: str | None = None
    named: str | None = None
    version: str | None = None
    before: datetime | None = None
    same_key: bool = False

    @property
    def everything(self) -> bool:
        """Whether no row is left out that is not where it should be."""
        return self.source is None and self.version is None and self.before is None


@dataclass(frozen=True, slots=True)
class Kind:
    """What decides how a row is moved: ``at_target`` says that ReEncrypt reaches the new KEK."""

    hierarchical: bool
    provider: str | None
    at_target: bool


class Rewrap(Operation):
    """Rewraps what is not ``version`` under its target KEK, or rows of a :class:`Choice`."""

    name = "rewrap"
    works_in_dry_run = False

    def __init__(
        self,
        table: DekTable,
        kms: RoutedKMS,
        choice: Choice | None = None,
        to: str | None = None,
        *,
        version: str = V2,
    ) -> None:
        super().__init__(table, kms)
        self.routed = kms
        self.version = version
        self.columns = wrapped_columns(table)
        self.choice = choice or Choice()
        self.keks = Target(table, kms, Role.REWRAPPER, to)
        # A table with KEKs of its own needs no KEK of the environment.
        self.target = None if self.keks.ids else kms.kek_id
        self.sources: Counter[str] = Counter()
        self.moves: Counter[tuple[str, str]] = Counter()
        self.materials: Counter[str] = Counter()
        self.kinds: Counter[Kind] = Counter()
        """In a dry run: the due rows by kind."""
        self._count_lock = threading.Lock()
        self.branches = BranchRewrapResult()
        """What came of the branch keys, which move before the rows."""
        if self.choice.before is not None and not table.has("wrapped_at"):
            raise UsageError(
                f"{table.config.name} does not keep when its keys were wrapped",
                hint="name a column for it (wrapped_at_column in [table]), or take them all: "
                "dekctl rewrap --same-key",
            )

    def due(self) -> str:
        wrapped, version, kek = (self.table.quoted(c) for c in ("wrapped", "version", "kek"))
        choice = self.choice
        conditions = [f"{wrapped} IS NOT NULL"]
        if choice.before is None and not choice.same_key:
            there = f"{kek} = {self.keks.sql(self.target or '')} AND {version} = '{self.version}'"
            conditions.append(f"({kek} IS NULL OR {version} IS NULL OR NOT ({there}))")
        if choice.source is not None:
            conditions.append(self._names(choice.source, choice.named))
        if choice.version is not None:
            missing = f" OR {version} IS NULL" if choice.version == V1 else ""
            conditions.append(f"({version} = {literal(choice.version)}{missing})")
        if choice.before is not None:
            at = self.table.quoted("wrapped_at")
            conditions.append(f"({at} IS NULL OR {at} < {self._moment(choice.before)})")
        return " AND ".join(conditions)

    def _names(self, source: str, named: str | None) -> str:
        """SQL of :func:`dekctl.kek_id.is_same_kek` for the rows of a KEK."""
        kek, key_id = self.table.quoted("kek"), key_id_of(source)
        # V1 rows may name the key by its id alone.
        spellings = {source, key_id, *(alias_spellings(named, source) if named else ())}
        ids = ", ".join(literal(name) for name in sorted(spellings))
        suffix = replica_suffix(source)
        if suffix is None:
            return f"{kek} IN ({ids})"
        # No LIKE: drivers read % as theirs.
        return f"({kek} IN ({ids}) OR replace({kek}, {literal(suffix)}, '') <> {kek})"

    def leaves_unclear(self) -> bool:
        """Whether rows that may mean the chosen KEK, and do not say so, were not looked at."""
        source, version = self.choice.source, self.choice.version
        if source is None or version not in (None, V1):
            return False
        return any(could_be(kek_id, source) for kek_id in self._kek_ids())

    def _left(self, source: str) -> bool:
        """Whether a row that names a KEK, or may mean it, is still there."""
        found = self._kek_ids()
        return any(is_same_kek(kek_id, source) or could_be(kek_id, source) for kek_id in found)

    def _kek_ids(self) -> Sequence[str | None]:
        """What the wrapped rows name as their KEK."""
        kek = self.table.quoted("kek")
        query = (
            f"SELECT DISTINCT {kek} FROM {self.table.quoted_name} "
            f"WHERE {self.table.quoted('wrapped')} IS NOT NULL"
        )
        with self.table.database.transaction(patient=True) as connection:
            return connection.exec_driver_sql(query).scalars().all()

    def _moment(self, moment: datetime) -> str:
        zone = getattr(self.table.column("wrapped_at").type, "timezone", False)
        text = f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        return literal(text + "+00:00" if zone else text)

    def begin(self) -> None:
        choice = self.choice
        if choice.version not in (None, V3):
            return
        # Branch keys are shared by all rows of a table. Where each owner has a KEK, they stay with
        # the environment's: under one owner's they would go with that owner.
        own = self.keks.ids if self.table.config.kek_by is None else []
        new_kek = own[0] if own else None
        name = self.table.config.context_name
        self.branches = self.routed.rewrap_branch_keys(
            name,
            choice.source,
            new_kek,
            include_current=choice.same_key or choice.before is not None,
        )

    def rehearse(self, rows: Sequence[Row]) -> list[Verdict]:
        rows_at = Counter((row.version == V3, self.routed.location(row.kek)) for row in rows)
        with self._count_lock:
            for (hierarchical, location), count in rows_at.items():
                at_target = location == self.routed.home
                self.kinds[Kind(hierarchical, location.provider, at_target)] += count
        return super().rehearse(rows)

    def work(self, rows: Sequence[Row]) -> list[Verdict]:
        verdicts: dict[int, Verdict] = {}
        places: list[int] = []
        requests: list[RewrapRequest] = []
        moves: Counter[tuple[str, str]] = Counter()
        materials: Counter[str] = Counter()
        for i, row in enumerate(rows):
            assert row.wrapped is not None
            try:
                context, kek = self.context_of(row), self.keks.of(row)
            except RowRejectedError as error:
                verdicts[i] = Fault(row, reason_of(error))
                continue
            places.append(i)
            new_context = row_context(self.table.config.context_name, row.pk)
            old, new = row.version == V3, self.version == V3
            requests.append(
                RewrapRequest(row.wrapped, row.kek, context, new_context, kek, old, new)
            )
        values_of = values_of_now(self.table, self.version)
        for i, answer in zip(places, self.kms.rewrap_many(requests), strict=True):
            if isinstance(answer, RowRejectedError):
                verdicts[i] = Fault(rows[i], reason_of(answer))
                continue
            verdicts[i] = Change(rows[i], values_of(answer))
            moves[rows[i].kek or "", answer.kek_id] += 1
            if answer.key_material_id:
                materials[answer.key_material_id] += 1
        with self._count_lock:
            self.moves.update(moves)
            self.materials.update(materials)
            for (source, _), count in moves.items():
                self.sources[source] += count
        return [verdicts[i] for i in range(len(rows))]

    def account(self, *, whole: bool) -> dict[str, Any]:
        """What the ledger keeps of a run: which KEKs rows came from, and the key material now.

        ``left_none_of`` says of which KEK no row was left behind: ``any`` (but the target), one, or
        None. ``moves`` are the pairs of KEKs that this process moved rows between. ``whole`` tells
        that the run saw every row and none was set aside.
        """
        left: str | None = None
        whole = whole and not self.branches.failed
        if whole and self.choice.everything:
            left = "any"
        elif whole and (source := self.choice.source) is not None and not self._left(source):
            left = source
        return {
            "targets": self.keks.ids or [self.target],
            "sources": dict(self.sources),
            "moves": [[old, new, rows] for (old, new), rows in self.moves.items()],
            "key_materials": dict(self.materials),
            "left_none_of": left,
        }
