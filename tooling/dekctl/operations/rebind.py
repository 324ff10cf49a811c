"""Rebind: bind wrapped keys to the key and the context name that their rows have now.

A wrapped key can only be decrypted with the context that it was wrapped with. After a change of the
context name, of the primary key or of its type, each row is re-encrypted from its old context to
its new one. KMS checks the old one, so a row that does not belong to it is rejected. The plaintext
key leaves KMS only for branch keys (V3) and other providers, as in rewrap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dekctl.config.roles import Role
from dekctl.db.row import Change, Row
from dekctl.db.shape import Stage
from dekctl.db.table import DekTable
from dekctl.errors import RowRejectedError, UsageError
from dekctl.kms.context import V2, V3, row_context
from dekctl.kms.interface import Context, RewrapRequest, UnwrapRequest, Wrapped
from dekctl.kms.router import RoutedKMS
from dekctl.ledger import Ledger
from dekctl.operations.base import Operation, Proved, Rejected, Verb, Verdict
from dekctl.operations.target import Target, values_of_now, wrapped_columns


@dataclass(frozen=True)
class Rebind(Verb):
    """Bind rows anew. With neither option, prove that they are bound to what they have now.

    Args:
        old_context_name: what the rows may be bound to instead of the configured name.
        old_key: SQL over the table's columns for the primary key that a row had when it was bound;
            several columns stand with commas between them. It comes from the command line alone.
    """

    name = "rebind"
    role = Role.REWRAPPER
    stages = (Stage.EXPANDED, Stage.CONTRACTED)
    rebinds = True

    old_context_name: str | None = None
    old_key: str | None = None

    def on(self, table: DekTable, kms: RoutedKMS) -> RebindRows:
        return RebindRows(table, kms, self)

    def check(self, table: DekTable, ledger: Ledger | None) -> None:  # noqa: ARG002
        table.refuse_ambiguous_key()
        if self.old_key is not None:
            table.values_of(self.old_key, [(None,) * len(table.quoted_key)])  # is it valid SQL?


class RebindRows(Operation):
    """Binds the rows of one table anew."""

    visits_quarantined = True  # verify has put these rows there

    def __init__(self, table: DekTable, kms: RoutedKMS, verb: Rebind) -> None:
        super().__init__(table, kms)
        self.columns = wrapped_columns(table)
        self.old_name = verb.old_context_name or table.config.context_name
        self.old_key = verb.old_key
        self.keks = Target(table, kms, Role.REWRAPPER)

    def due(self) -> str:
        version = self.table.quoted("version")  # V1 rows are bound to nothing
        return f"({self.table.has_value('wrapped')} AND {version} IN ('{V2}', '{V3}'))"

    def work(self, rows: Sequence[Row]) -> list[Verdict]:
        verdicts: dict[int, Verdict] = {}
        moves: dict[int, RewrapRequest] = {}
        kept: dict[int, RewrapRequest] = {}
        for i, (row, old) in enumerate(zip(rows, self._old_contexts(rows), strict=True)):
            try:
                if isinstance(old, RowRejectedError):
                    raise old
                new = row_context(self.table.config.context_name, row.pk)
                request = self._request(row, old, new)
                (kept if old == new else moves)[i] = request
            except RowRejectedError as error:
                verdicts[i] = Rejected.by(row, error)
        values_of = {version: values_of_now(self.table, version) for version in (V2, V3)}
        for i, answer in self._rewrapped(moves).items():
            if isinstance(answer, RowRejectedError):
                # An earlier run that was killed may have bound it already.
                kept[i] = self._request(rows[i], moves[i].new_context, moves[i].new_context)
            else:
                values = values_of[rows[i].version or V2](answer)
                verdicts[i] = Change(rows[i], values, branch_key=answer.branch_key)
                self.count("keks", [answer.kek_id])
        for i, problem in self._proved(kept).items():
            verdicts[i] = Proved(rows[i]) if problem is None else _neither(rows[i], problem)
        return [verdicts[i] for i in range(len(rows))]

    def _request(self, row: Row, old: Context | None, new: Context | None) -> RewrapRequest:
        assert row.wrapped is not None
        branch = row.version == V3
        return RewrapRequest(row.wrapped, row.kek, old, new, self.keks.of(row), branch, branch)

    def _old_contexts(self, rows: Sequence[Row]) -> list[Context | RowRejectedError]:
        """What each row was bound to, as far as the options tell."""
        old_keys = {}
        if self.old_key is not None:
            old_keys = self.table.values_of(self.old_key, [row.pk for row in rows])
        contexts: list[Context | RowRejectedError] = []
        for row in rows:
            try:
                contexts.append(row_context(self.old_name, old_keys.get(row.pk, row.pk)))
            except UsageError as error:
                contexts.append(RowRejectedError(f"its old key: {error.message}"))
        return contexts

    def _rewrapped(
        self, requests: dict[int, RewrapRequest]
    ) -> dict[int, Wrapped | RowRejectedError]:
        """Re-encrypt: within KMS where KMS can, in this process for branch keys."""
        answers: dict[int, Wrapped | RowRejectedError] = {}
        near = [i for i, request in requests.items() if not request.hierarchical]
        far = [i for i, request in requests.items() if request.hierarchical]
        if near:
            part = self.kms.rewrap_many([requests[i] for i in near])
            answers |= dict(zip(near, part, strict=True))
        if far:  # to rewrap a V3 row looks at its branch key alone, not at its context
            part = self.kms.reencrypt_locally([requests[i] for i in far])
            answers |= dict(zip(far, part, strict=True))
        return answers

    def _proved(self, requests: dict[int, RewrapRequest]) -> dict[int, RowRejectedError | None]:
        """Which rows are bound to their new context; the error for each one that is not."""
        near = {i: request for i, request in requests.items() if not request.hierarchical}
        answers: dict[int, object] = dict(self._rewrapped(near))  # the copy is not kept
        far = [i for i, request in requests.items() if request.hierarchical]
        opened = self.kms.unwrap_many(
            [
                UnwrapRequest(r.wrapped, r.kek_id, r.context, hierarchical=True)
                for r in (requests[i] for i in far)
            ]
        )
        answers |= dict(zip(far, opened, strict=True))
        return {
            i: answer if isinstance(answer, RowRejectedError) else None
            for i, answer in answers.items()
        }


def _neither(row: Row, problem: RowRejectedError) -> Rejected:
    return Rejected(
        row, f"it is bound neither to its old context nor to its new one: {problem.message}"
    )
