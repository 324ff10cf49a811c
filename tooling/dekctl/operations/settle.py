"""Settle rows whose plaintext is not their wrapped key: the data decides which one is right.

Both keys are kept until a program of the operator has proved one and refused the other. Then the
other one is replaced (the wrapped key) or removed (the plaintext).
"""

from __future__ import annotations

import hmac
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dekctl.config.roles import Role
from dekctl.db.plaintext import key_reader
from dekctl.db.row import Change, Row
from dekctl.db.shape import Stage
from dekctl.db.table import DekTable
from dekctl.errors import RowRejectedError, UsageError
from dekctl.kms.context import V3, primary_key_text, row_context
from dekctl.kms.interface import Unwrapped, UnwrapRequest, WrapRequest
from dekctl.kms.router import RoutedKMS
from dekctl.ledger import Ledger
from dekctl.operations.base import Notify, Operation, Proved, Rejected, Verb, Verdict
from dekctl.operations.target import Target, values_of_now, version_for, wrapped_columns

SETTLE_HINT = (
    "keep both, and let the data decide which one is right: "
    "dekctl settle --prove PROGRAM (see docs/reliability.md)"
)
PROOF_SECONDS = 60.0
OPENS, OPENS_NOT = 0, 1
"""Exit codes of the program. Any other one decides nothing."""


@dataclass(frozen=True)
class Settle(Verb):
    """Settle the rows that have two different keys, by what ``program`` says of each.

    Args:
        program: a program and its arguments, as in a shell. It gets the row's primary key as its
            last argument (the text that is in the encryption context) and a key, its bytes, on
            standard input. It exits with 0 if that key opens the row's data, with 1 if not.
    """

    name = "settle"
    stages = (Stage.EXPANDED,)

    program: str = ""

    def on(self, table: DekTable, kms: RoutedKMS) -> SettleRows:
        return SettleRows(table, kms, Proof(self.program))

    def check(self, table: DekTable, ledger: Ledger | None) -> None:  # noqa: ARG002
        table.refuse_ambiguous_key()


class Proof:
    """The operator's program that tries a key on a row's data."""

    def __init__(self, program: str) -> None:
        """Split the program from its arguments.

        Raises:
            UsageError: there is none, or a quote is not closed.
        """
        try:
            self._command = shlex.split(program)
        except ValueError as error:
            raise UsageError(f"--prove: {error}", hint="correct the quotes of --prove") from None
        if not self._command:
            raise UsageError("--prove names no program", hint="name it: --prove './opens.sh'")

    def opens(self, row: Row, key: bytes) -> bool:
        """Whether a key opens the data of a row.

        Raises:
            RowRejectedError: the program did not decide.
            UsageError: it cannot be started.
        """
        command = [*self._command, primary_key_text(row.pk)]
        try:
            # What it prints is dropped: it could be a key.
            code = subprocess.run(
                command,
                input=key,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=PROOF_SECONDS,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            raise RowRejectedError(
                f"the program of --prove did not end within {PROOF_SECONDS:.0f} seconds"
            ) from None
        except OSError as error:
            raise UsageError(
                f"the program of --prove cannot be started: {error.strerror}",
                hint="correct --prove",
            ) from None
        if code not in (OPENS, OPENS_NOT):
            raise RowRejectedError(f"the program of --prove ended with {code}, so nothing is clear")
        return code == OPENS


class SettleRows(Operation):
    """Settles the rows of one table."""

    visits_quarantined = True  # verify has put these rows there
    max_rejected_first = 10_000  # undecided rows stay as they are

    def __init__(self, table: DekTable, kms: RoutedKMS, proof: Proof) -> None:
        super().__init__(table, kms)
        self.proof = proof
        self.version = version_for(table, hierarchical=False)
        self.columns = wrapped_columns(table)
        self.keks = Target(table, kms, Role.WRAPPER)
        config = table.config
        self._key_in = key_reader(
            config.plaintext_encoding, config.dek_bytes, as_text=table.plaintext_is_text
        )

    def due(self) -> str:
        wrapped, plaintext = self.table.quoted("wrapped"), self.table.quoted("plaintext")
        return f"({wrapped} IS NOT NULL AND {plaintext} IS NOT NULL)"

    def work(self, rows: Sequence[Row]) -> list[Verdict]:
        verdicts: dict[int, Verdict] = {}
        requests: dict[int, UnwrapRequest] = {}
        for i, row in enumerate(rows):
            assert row.wrapped is not None
            try:
                context = self.context_of(row)
                requests[i] = UnwrapRequest(row.wrapped, row.kek, context, row.version == V3)
            except RowRejectedError as error:
                verdicts[i] = Rejected.by(row, error)
        answers = self.kms.unwrap_many(list(requests.values())) if requests else ()
        wraps: dict[int, WrapRequest] = {}
        for i, answer in zip(requests, answers, strict=True):
            try:
                if isinstance(answer, RowRejectedError):
                    raise answer
                decided = self._decide(rows[i], answer)
            except RowRejectedError as error:
                verdicts[i] = Rejected.by(rows[i], error)
                continue
            if isinstance(decided, WrapRequest):
                wraps[i] = decided
            else:
                verdicts[i] = decided
        verdicts |= self._wrapped(rows, wraps)
        return [verdicts[i] for i in range(len(rows))]

    def _decide(self, row: Row, wrapped: Unwrapped) -> Verdict | WrapRequest:
        """Which of two keys is right; a request stands for the plaintext, to be wrapped."""
        assert row.plaintext is not None
        plaintext = self._key_in(row.plaintext)
        if hmac.compare_digest(plaintext, wrapped.plaintext):
            return Proved(row)
        opened = (self.proof.opens(row, plaintext), self.proof.opens(row, wrapped.plaintext))
        if opened == (True, False):
            self.count("settled", ["plaintext"])
            context = row_context(self.table.config.context_name, row.pk)
            return WrapRequest(plaintext, context, self.keks.of(row), self.version == V3)
        if opened == (False, True):
            self.count("settled", ["wrapped"])
            return Change(row, (None,), ("plaintext",), wrapped.branch_key)
        which = "both of its keys open" if all(opened) else "neither of its keys opens"
        raise RowRejectedError(f"{which} its data, says the program of --prove: both are kept")

    def _wrapped(self, rows: Sequence[Row], wraps: dict[int, WrapRequest]) -> dict[int, Verdict]:
        values_of = values_of_now(self.table, self.version)
        answers = self.kms.wrap_many(list(wraps.values())) if wraps else ()
        return {
            i: Rejected.by(rows[i], answer)
            if isinstance(answer, RowRejectedError)
            else Change(rows[i], values_of(answer), branch_key=answer.branch_key)
            for i, answer in zip(wraps, answers, strict=True)
        }

    def end(self, notify: Notify) -> None:
        settled = self.counts["settled"]
        if settled:
            notify(
                f"the data proved {settled['plaintext']:,} plaintexts and {settled['wrapped']:,} "
                "wrapped keys; where your application still reads the plaintext column: "
                "dekctl restore"
            )

    def ledger_facts(self, *, complete: bool) -> dict[str, Any]:  # noqa: ARG002
        return {"settled": dict(self.counts["settled"])}
