"""What verify, scrub and restore share: each wrapped key is decrypted and compared."""

from __future__ import annotations

import hmac
from abc import abstractmethod
from collections.abc import Sequence

from dekctl.db.plaintext import decode_plaintext, refuse_other_form
from dekctl.db.row import Row
from dekctl.errors import RowRejectedError
from dekctl.kms.context import V3
from dekctl.kms.interface import Unwrapped, UnwrapRequest
from dekctl.operations.base import Operation, Pending, Rejected, Verdict
from dekctl.operations.settle import SETTLE_HINT


class Prove(Operation):
    """Decrypts the wrapped key of each row and, where there is a plaintext, compares the two."""

    refuses_other_forms = False
    """Whether a plaintext is rejected that restore would write in another form."""

    def work(self, rows: Sequence[Row]) -> list[Verdict]:
        verdicts: dict[int, Verdict] = {}
        places: list[int] = []
        requests: list[UnwrapRequest] = []
        for i, row in enumerate(rows):
            if row.wrapped is None:
                verdicts[i] = Pending(row)  # until it is wrapped
                continue
            try:
                context = self.context_of(row)
            except RowRejectedError as error:
                verdicts[i] = Rejected.by(row, error)
                continue
            places.append(i)
            requests.append(UnwrapRequest(row.wrapped, row.kek, context, row.version == V3))
        for i, answer in zip(places, self.kms.unwrap_many(requests), strict=True):
            try:
                if isinstance(answer, RowRejectedError):
                    raise answer
                self._compare(rows[i], answer.plaintext)
                verdicts[i] = self.proved(rows[i], answer)
            except RowRejectedError as error:
                verdicts[i] = Rejected.by(rows[i], error)
        return [verdicts[i] for i in range(len(rows))]

    def _compare(self, row: Row, key: bytes) -> None:
        config = self.table.config
        if row.plaintext is None:
            if len(key) not in config.dek_bytes:
                raise RowRejectedError(
                    f"its wrapped key decrypts to {len(key)} bytes; allowed: "
                    f"{', '.join(map(str, config.dek_bytes))}",
                    hint="check dek_bytes in [table]",
                )
            return
        plaintext = decode_plaintext(row.plaintext, config.plaintext_encoding, config.dek_bytes)
        if not hmac.compare_digest(plaintext, key):
            raise RowRejectedError(
                "its wrapped key is not the key in its plaintext column",
                hint=SETTLE_HINT,
            )
        if self.refuses_other_forms:
            as_text = self.table.plaintext_is_text
            refuse_other_form(row.plaintext, plaintext, config.plaintext_encoding, as_text=as_text)

    @abstractmethod
    def proved(self, row: Row, key: Unwrapped) -> Verdict:
        """The verdict on a row whose wrapped key was decrypted and equals its plaintext, if any."""
