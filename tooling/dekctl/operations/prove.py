"""The proof that verify, scrub and restore share: a wrapped key opens to its plaintext."""

from __future__ import annotations

import hmac
from abc import abstractmethod
from collections.abc import Sequence

from dekctl.db.plaintext import decode_plaintext, refuse_other_form
from dekctl.db.row import Row
from dekctl.errors import RowRejectedError
from dekctl.kms.context import V3
from dekctl.kms.interface import UnwrapRequest
from dekctl.operations.base import Fault, Operation, Pending, Verdict, reason_of


class Prove(Operation):
    """Opens the wrapped key of each row and, where there is a plaintext, compares the two."""

    refuses_other_forms = False
    """Whether a plaintext that restore could not write again as it stands is rejected."""

    def work(self, rows: Sequence[Row]) -> list[Verdict]:
        verdicts: dict[int, Verdict] = {}
        places: list[int] = []
        requests: list[UnwrapRequest] = []
        for i, row in enumerate(rows):
            if row.wrapped is None:
                verdicts[i] = Pending(row)  # for wrap to see to
                continue
            try:
                context = self.context_of(row)
            except RowRejectedError as error:
                verdicts[i] = Fault(row, reason_of(error))
                continue
            places.append(i)
            requests.append(UnwrapRequest(row.wrapped, row.kek, context, row.version == V3))
        for i, answer in zip(places, self.kms.unwrap_many(requests), strict=True):
            try:
                if isinstance(answer, RowRejectedError):
                    raise answer
                self._compare(rows[i], answer.plaintext)
                verdicts[i] = self.proved(rows[i], answer.plaintext)
            except RowRejectedError as error:
                verdicts[i] = Fault(rows[i], reason_of(error))
        return [verdicts[i] for i in range(len(rows))]

    def _compare(self, row: Row, key: bytes) -> None:
        config = self.table.config
        if row.plaintext is None:
            if len(key) not in config.dek_bytes:
                raise RowRejectedError(
                    f"its wrapped key opens to {len(key)} bytes, which no key here is",
                    hint="check dek_bytes in [table]",
                )
            return
        plaintext = decode_plaintext(row.plaintext, config.plaintext_encoding, config.dek_bytes)
        if not hmac.compare_digest(plaintext, key):
            raise RowRejectedError(
                "its wrapped key opens to another key than its plaintext",
                hint="which one is in use? If old writers still set the plaintext and none issues "
                "wrapped keys yet: dekctl wrap --stale. Else clear the row's plaintext",
            )
        if self.refuses_other_forms:
            as_text = self.table.plaintext_is_text
            refuse_other_form(row.plaintext, plaintext, config.plaintext_encoding, as_text=as_text)

    @abstractmethod
    def proved(self, row: Row, key: bytes) -> Verdict:
        """What follows for a row whose wrapped key was opened and agrees with its plaintext."""
