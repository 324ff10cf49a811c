"""Wrap (the backfill): wrap the key of every row that has a plaintext and no wrapped key yet."""

from __future__ import annotations

import hmac
import math
from collections.abc import Sequence
from dataclasses import dataclass

from dekctl.config.roles import Role
from dekctl.db.plaintext import key_reader
from dekctl.db.row import Change, Row
from dekctl.db.shape import Stage
from dekctl.db.table import DekTable
from dekctl.errors import KekRefusedError, RowRejectedError
from dekctl.kms.context import V2, V3, row_context
from dekctl.kms.interface import Unwrapped, UnwrapRequest, WrapRequest
from dekctl.kms.providers import provider_of
from dekctl.kms.router import RoutedKMS
from dekctl.ledger import Ledger
from dekctl.operations.base import Operation, Proved, Rejected, Verb, Verdict
from dekctl.operations.cost import Cost
from dekctl.operations.encoding import refuse_other_encoding
from dekctl.operations.target import Target, values_of_now, version_for, wrapped_columns


@dataclass(frozen=True)
class Wrap(Verb):
    """Write ``wrapped_key`` as V2 (or V3), bound to the row; the plaintext stays where it is.

    With ``stale`` rows that have both keys are decrypted as well; where the wrapped key is not the
    plaintext, the plaintext is wrapped again. An application that does not know ``wrapped_key`` yet
    leaves such rows when it re-keys them: the plaintext is what it wrote last.
    """

    name = "wrap"
    role = Role.WRAPPER
    stages = (Stage.EXPANDED,)
    dry_run_stages = (Stage.LEGACY,)
    done_at = Stage.CONTRACTED

    stale: bool = False
    hierarchical: bool = False

    def on(self, table: DekTable, kms: RoutedKMS) -> WrapRows:
        version = version_for(table, hierarchical=self.hierarchical)
        return WrapRows(table, kms, stale=self.stale, version=version)

    def check(self, table: DekTable, ledger: Ledger | None) -> None:  # noqa: ARG002
        table.refuse_ambiguous_key()
        refuse_other_encoding(table)


class WrapRows(Operation):
    """Wraps the rows of one table."""

    works_in_dry_run = False

    def __init__(
        self, table: DekTable, kms: RoutedKMS, *, stale: bool = False, version: str = V2
    ) -> None:
        super().__init__(table, kms)
        self.version = version
        self.columns = wrapped_columns(table)
        self.keks = Target(table, kms, Role.WRAPPER)
        config = table.config
        self._key_in = key_reader(
            config.plaintext_encoding, config.dek_bytes, as_text=table.plaintext_is_text
        )
        self.stale = stale and table.has("wrapped")
        # A dry run has to decrypt the wrapped keys to know which ones are stale.
        self.works_in_dry_run = self.stale
        self.visits_quarantined = self.stale

    def due(self) -> str:
        if self.stale or not self.table.has("wrapped"):  # the latter: a dry run before expand
            return self.table.has_value("plaintext")
        return self.table.plaintext_only

    def rehearse(self, rows: Sequence[Row]) -> list[Verdict]:
        verdicts: list[Verdict] = []
        for row in rows:
            assert row.plaintext is not None
            try:
                self._key_in(row.plaintext)
                verdicts.append(Change(row, ()))
            except RowRejectedError as error:
                verdicts.append(Rejected.by(row, error))
        return verdicts

    def expect(self, rows: int) -> None:
        if self.version == V3 and not self.stale:  # how many rows are stale is not known yet
            kek = self.keks.ids[0] if self.keks.ids else None
            self.kms.expect(self.table.config.context_name, kek, rows)

    def cost(self, rows: int) -> Cost:
        per_key = self.table.config.rows_per_branch_key
        return Cost(rows, self.version, {V2: rows, V3: math.ceil(rows / per_key)})

    def work(self, rows: Sequence[Row]) -> list[Verdict]:
        verdicts: dict[int, Verdict] = {}
        requests: dict[int, WrapRequest] = {}
        name, hierarchical = self.table.config.context_name, self.version == V3
        for i, row in enumerate(rows):
            assert row.plaintext is not None
            try:
                key, kek = self._key_in(row.plaintext), self.keks.of(row)
                context = row_context(name, row.pk)
            except RowRejectedError as error:
                verdicts[i] = Rejected.by(row, error)
                continue
            requests[i] = WrapRequest(key, context, kek, hierarchical)
        if self.stale:
            for i in self._fresh(rows, requests):
                verdicts[i] = Proved(rows[i])
                del requests[i]
        values_of = values_of_now(self.table, self.version)
        answers = self.kms.wrap_many(list(requests.values())) if requests else ()
        kek_ids: list[str] = []
        for i, answer in zip(requests, answers, strict=True):
            if isinstance(answer, RowRejectedError):
                verdicts[i] = Rejected.by(rows[i], answer)
            else:
                verdicts[i] = Change(rows[i], values_of(answer), None, answer.branch_key)
                kek_ids.append(answer.kek_id)
        self.count("keks", kek_ids)
        return [verdicts[i] for i in range(len(rows))]

    def _fresh(self, rows: Sequence[Row], wanted: dict[int, WrapRequest]) -> list[int]:
        """Indexes of rows whose wrapped key decrypts to their plaintext."""
        places: list[int] = []
        requests: list[UnwrapRequest] = []
        for i in wanted:
            wrapped = rows[i].wrapped
            if wrapped is None:
                continue
            try:
                context = self.context_of(rows[i])
            except RowRejectedError:
                continue
            request = UnwrapRequest(wrapped, rows[i].kek, context, rows[i].version == V3)
            if self._is_lost(request):
                continue
            places.append(i)
            requests.append(request)
        if not requests:
            return []
        return [
            i
            for i, answer in zip(places, self.kms.unwrap_many(requests), strict=True)
            if isinstance(answer, Unwrapped)
            and hmac.compare_digest(answer.plaintext, wanted[i].plaintext)
        ]

    def _is_lost(self, request: UnwrapRequest) -> bool:
        """Whether the KEK was in the memory of a process that has ended."""
        provider = provider_of(request.kek_id) if request.kek_id is not None else None
        if provider is None or provider.lasts:
            return False
        return isinstance(self.kms.unwrap_many([request])[0], KekRefusedError)
