"""Rewrap: move rows to another KEK. The ciphertext of the files is not touched.

Within KMS this is ReEncrypt alone: the plaintext key never leaves KMS. A V1 row becomes V2 on the
way, so its key is bound to the row from then on.

With hierarchical wrapping (V3) all branch keys are re-encrypted first; their rows then only get
a new ``kek_id``. Between V2 and V3 each key is decrypted and wrapped again.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from dekctl.config.roles import Role
from dekctl.db.row import Change, Row
from dekctl.db.shape import Stage
from dekctl.db.sql import literal
from dekctl.db.stored import text_of
from dekctl.db.table import DekTable
from dekctl.errors import RowRejectedError, UsageError
from dekctl.kek_id import alias_spellings, could_be, is_same_kek, key_id_of, replica_suffix
from dekctl.kms.branch.store import BranchRewrapResult
from dekctl.kms.context import V1, V2, V3, row_context
from dekctl.kms.interface import RewrapRequest
from dekctl.kms.providers import provider_named
from dekctl.kms.router import RoutedKMS
from dekctl.ledger import Ledger
from dekctl.operations.base import Notify, Operation, Rejected, Verb, Verdict
from dekctl.operations.cost import Cost
from dekctl.operations.target import Target, values_of_now, version_for, wrapped_columns
from dekctl.wording import counted


@dataclass(frozen=True)
class Rewrap(Verb):
    """Move wrapped keys that are not where they should be, or those that the options choose.

    Args:
        source: only those of this KEK.
        named: what a person called it: rows that name it so, by an alias, are meant too.
        target: the KEK to move them to, instead of the active one.
        version: only those of this version.
        before: only those wrapped before this moment (UTC), or at an unknown one. Keys that are
            where they should be count too: their KEK's material may have been rotated since.
        same_key: also those that are where they should be.
        hierarchical: wrap under branch keys (V3), whatever the table's configuration says.
    """

    name = "rewrap"
    role = Role.REWRAPPER
    stages = (Stage.EXPANDED, Stage.CONTRACTED)

    source: str | None = None
    named: str | None = None
    target: str | None = None
    version: str | None = None
    before: datetime | None = None
    same_key: bool = False
    hierarchical: bool = False

    @property
    def takes_all(self) -> bool:
        """Whether it moves every row that is not where it should be."""
        return self.source is None and self.version is None and self.before is None

    def with_keks(self, find: Callable[[str], str]) -> Rewrap:
        return replace(
            self,
            source=self.source and find(self.source),
            named=self.source,
            target=self.target and find(self.target),
        )

    def on(self, table: DekTable, kms: RoutedKMS) -> RewrapRows:
        return RewrapRows(table, kms, self)

    def check(self, table: DekTable, ledger: Ledger | None) -> None:  # noqa: ARG002
        table.refuse_ambiguous_key()

    def result_fields(self, *, reencrypted_locally: int) -> dict[str, Any]:
        return {"carried_over": reencrypted_locally}


@dataclass(frozen=True, slots=True)
class Origin:
    """What decides how a row is moved; ``near`` says that ReEncrypt can move it to the new KEK."""

    hierarchical: bool
    provider: str | None
    near: bool


class RewrapRows(Operation):
    """Moves the rows of one table, its branch keys first."""

    works_in_dry_run = False

    def __init__(self, table: DekTable, kms: RoutedKMS, verb: Rewrap) -> None:
        super().__init__(table, kms)
        self.verb = verb
        self.version = version_for(table, hierarchical=verb.hierarchical)
        self.columns = wrapped_columns(table)
        self.keks = Target(table, kms, Role.REWRAPPER, verb.target)
        # A table with KEKs of its own needs no KEK of the environment.
        self.kek_id = None if self.keks.ids else kms.kek_id
        self._branches = BranchRewrapResult()
        """What came of the branch keys, which are moved before the rows."""
        if verb.before is not None and not table.has("wrapped_at"):
            raise UsageError(
                f"{table.config.name} does not record when its keys were wrapped",
                hint="name a column for it (wrapped_at_column in [table]), or take them all: "
                "dekctl rewrap --same-key",
            )

    def due(self) -> str:
        version, kek = self.table.quoted("version"), self.table.quoted("kek")
        choice = self.verb
        conditions = [self.table.has_value("wrapped")]
        if choice.before is None and not choice.same_key:
            done = f"{kek} = {self.keks.sql(self.kek_id or '')} AND {version} = '{self.version}'"
            conditions.append(f"({kek} IS NULL OR {version} IS NULL OR NOT ({done}))")
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

    def _skips_unclear(self) -> bool:
        """Whether rows that may be under the chosen KEK, and do not name it, were not read."""
        source, version = self.verb.source, self.verb.version
        if source is None or version not in (None, V1):
            return False
        return any(could_be(kek_id, source) for kek_id in self._kek_ids())

    def _has_rows_of(self, source: str) -> bool:
        """Whether a row is left that names a KEK, or may be under it."""
        found = self._kek_ids()
        return any(is_same_kek(kek_id, source) or could_be(kek_id, source) for kek_id in found)

    def _kek_ids(self) -> Sequence[str | None]:
        """What the wrapped rows name as their KEK."""
        kek = self.table.quoted("kek")
        query = (
            f"SELECT DISTINCT {kek} FROM {self.table.quoted_name} "
            f"WHERE {self.table.has_value('wrapped')}"
        )
        with self.table.database.transaction(patient=True) as connection:
            return [text_of(kek_id) for kek_id in connection.exec_driver_sql(query).scalars()]

    def _moment(self, moment: datetime) -> str:
        zone = getattr(self.table.column("wrapped_at").type, "timezone", False)
        text = f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        return literal(text + "+00:00" if zone else text)

    def begin(self, notify: Notify) -> None:
        verb = self.verb
        if verb.version not in (None, V3):
            return
        # Branch keys are shared by all rows of a table. Where each owner has a KEK, they stay with
        # the environment's: under one owner's they would go with that owner.
        own = self.keks.ids if self.table.config.kek_by is None else []
        kek = own[0] if own else None
        self._branches = self.kms.rewrap_branch_keys(
            self.table.config.context_name,
            verb.source,
            kek,
            include_current=verb.same_key or verb.before is not None,
        )
        if failed := self._branches.failed:
            # Where other branch keys can be moved, these are damaged and no setting is wrong.
            self.settings_proved = self._branches.rewrapped > 0
            keys = counted(len(failed), "branch key")
            notify(f"{keys} cannot be moved; their rows are quarantined: {failed[0].message}")

    def rehearse(self, rows: Sequence[Row]) -> list[Verdict]:
        rows_at = Counter((row.version == V3, self.kms.location(row.kek)) for row in rows)
        for (hierarchical, location), count in rows_at.items():
            near = location == self.kms.home
            self.count("origins", {Origin(hierarchical, location.provider, near): count})
        return super().rehearse(rows)

    def cost(self, rows: int) -> Cost:  # noqa: ARG002 - the origins say more
        """Count what :class:`dekctl.kms.router.RoutedKMS` does with rows of each origin.

        ReEncrypt within the target; else the key is decrypted, wrapped, and decrypted again as a
        check. Rows of a branch key share what is done to it. A local provider makes no calls, but
        where there is nothing else the run is a rehearsal, and priced as if it were KMS.
        """
        target = self.kms.target
        wraps = provider_named(target)
        calls: Counter[str] = Counter({V2: 0, V3: 0})
        for origin, count in self.counts["origins"].items():
            # Calls for one use of the target, and of the provider that the row is with now.
            new = int(wraps.remote or origin.provider == target)
            old = int(origin.provider == target or _is_remote(origin.provider))
            branch_keys = math.ceil(count / self.table.config.rows_per_branch_key)
            if origin.hierarchical:
                calls[V2] += branch_keys * old + 2 * count * new
                calls[V3] += branch_keys * (2 * new if origin.near else old + 3 * new)
            else:
                calls[V2] += count * (new if origin.near else old + 2 * new)
                calls[V3] += count * old + 2 * branch_keys * new
        return Cost(self.counts["origins"].total(), self.version, dict(calls))

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
                new_context = row_context(self.table.config.context_name, row.pk)
            except RowRejectedError as error:
                verdicts[i] = Rejected.by(row, error)
                continue
            places.append(i)
            old, new = row.version == V3, self.version == V3
            requests.append(
                RewrapRequest(row.wrapped, row.kek, context, new_context, kek, old, new)
            )
        values_of = values_of_now(self.table, self.version)
        for i, answer in zip(places, self.kms.rewrap_many(requests), strict=True):
            if isinstance(answer, RowRejectedError):
                verdicts[i] = Rejected.by(rows[i], answer)
                continue
            verdicts[i] = Change(rows[i], values_of(answer), branch_key=answer.branch_key)
            moves[rows[i].kek or "", answer.kek_id] += 1
            if answer.key_material_id:
                materials[answer.key_material_id] += 1
        self.count("moves", moves)
        self.count("materials", materials)
        for (source, _), count in moves.items():
            self.count("sources", {source: count})
        return [verdicts[i] for i in range(len(rows))]

    def end(self, notify: Notify) -> None:
        if self._skips_unclear():
            notify(
                f"skipped rows of {self.table.config.name} that name an alias or no KEK, and so "
                "may be under this one: dekctl rewrap --version V1"
            )

    def ledger_facts(self, *, complete: bool) -> dict[str, Any]:
        """What the ledger keeps: which KEKs rows came from, and the key material now.

        ``left_none_of`` is the KEK of which no row was left behind: ``any`` (but the target), one,
        or None. ``moves`` are the pairs of KEKs that rows were moved between.
        """
        left: str | None = None
        complete = complete and not self._branches.failed
        if complete and self.verb.takes_all:
            left = "any"
        elif complete and (source := self.verb.source) is not None:
            left = None if self._has_rows_of(source) else source
        return {
            "targets": self.keks.ids or [self.kek_id],
            "sources": dict(self.counts["sources"]),
            "moves": [[old, new, rows] for (old, new), rows in self.counts["moves"].items()],
            "key_materials": dict(self.counts["materials"]),
            "left_none_of": left,
        }


def _is_remote(provider: str | None) -> bool:
    return provider is not None and provider_named(provider).remote
