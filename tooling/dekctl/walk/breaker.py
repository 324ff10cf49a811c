"""Tells rows that are bad from a setting that is wrong: the latter rejects every row alike.

A wrong setting (context name, encoding, KEK, a right) is for the operator to correct, and no reason
to quarantine a billion rows. So rejected rows are held back until one row is good.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from dekctl.errors import DekctlError, RefusedError
from dekctl.kms.context import key_name
from dekctl.operations.base import Rejected
from dekctl.wording import counted, printable


class AllRowsRejectedError(RefusedError):
    """The first rows were all rejected; likely a wrong setting. This walk has written nothing.

    Where one refusal of KMS or of the database met them all, the exit code is that one's.
    """


class Breaker:
    """Holds rejected rows back. Safe to use from several threads at once."""

    def __init__(self, verb: str, most: int, *, trusting: bool) -> None:
        """Prepare.

        Args:
            verb: what is done, for people.
            most: so many rejected rows before the first good one stop the walk.
            trusting: hold nothing back: the settings are known to be right.
        """
        self._verb = verb
        self._most = most
        self._trusting = trusting
        self._held: list[Rejected] = []
        self._lock = threading.Lock()

    def pass_on(self, rejected: Iterable[Rejected], *, good: bool) -> list[Rejected]:
        """Take in rejected rows; return those to quarantine now.

        ``good`` says that a row was good, or that a person wants no row held back.

        Raises:
            AllRowsRejectedError: too many rows were rejected, and none was good.
        """
        with self._lock:
            self._trusting = self._trusting or good
            self._held += rejected
            if self._trusting:
                return self._release()
            if len(self._held) >= self._most:
                raise self._error()
            return []

    def end(self, scanned: int) -> list[Rejected]:
        """Return what is still held at the end of a walk over so many rows, none of them good.

        Few rows without a common cause are bad rows; so is a single one of many.

        Raises:
            AllRowsRejectedError: all rows met the same refusal of KMS or of the database.
        """
        with self._lock:
            alone = len(self._held) == 1 and scanned > 1
            if self._refusal() is not None and not alone:
                raise self._error()
            return self._release()

    def _release(self) -> list[Rejected]:
        rejected, self._held = self._held, []
        return rejected

    def _refusal(self) -> DekctlError | None:
        """The one refusal that all held rows have met; None where there is none."""
        reasons = {rejected.reason for rejected in self._held}
        return self._held[0].refusal if len(reasons) == 1 else None

    def _error(self) -> AllRowsRejectedError:
        first = self._held[0]
        rows = counted(len(self._held), "row") + (" was" if len(self._held) == 1 else " were all")
        keep = "If these rows really are all bad, quarantine them with --keep-going"
        refusal = self._refusal()
        hint = (refusal.hint if refusal else None) or "correct [table] or the KEK"
        error = AllRowsRejectedError(
            f"{self._verb} stopped: the first {rows} rejected; "
            f"{printable(key_name(first.row.pk))}: {first.reason}",
            hint=f"nothing was written; {hint}. {keep}",
        )
        if refusal is not None:
            error.exit_code = refusal.exit_code
        return error
