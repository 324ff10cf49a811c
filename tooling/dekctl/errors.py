"""The errors of dekctl, and the exit code each of them ends a command with.

::

    DekctlError (1)
    ├── UsageError (2)            wrong command line or configuration
    ├── RefusedError (3)          a guard refused; nothing was changed
    ├── KMSError (5)              KMS or AWS refused, or cannot be reached
    │   ├── KMSRefusedError       every row would fail the same way: stop
    │   ├── KMSUnavailableError   still unavailable after all retries
    │   └── RowRejectedError      only this row is affected: quarantine it
    │       ├── KekRefusedError   the KEK that this row names is refused: likewise
    │       └── BranchKeyMissingError   the branch key that it needs is not stored: likewise
    ├── DatabaseError (6)         the database refused, or cannot be reached
    │   └── RowRefusedError       it refused to change this row: quarantine it
    └── InterruptError (130)      Ctrl-C ended a command that had no result yet

A message says what is wrong; the hint is the next command. Neither may ever hold key material, so
no error is built from a value that was read from a key column.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the command line; part of the public contract."""

    OK = 0
    ERROR = 1
    USAGE = 2
    REFUSED = 3
    ROWS_LEFT = 4
    KMS = 5
    DATABASE = 6
    INTERRUPTED = 130


class DekctlError(Exception):
    """The base of all errors. Raised itself, it means a bug in dekctl or a broken machine."""

    exit_code: ExitCode = ExitCode.ERROR

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.table: str | None = None
        """The table that it is about, where several are configured; :func:`of_table` sets it."""

    @property
    def hint(self) -> str | None:
        """The next command or step. An application's log shows it below the traceback."""
        return self._hint

    @hint.setter
    def hint(self, hint: str | None) -> None:
        self._hint = hint
        self.__notes__ = [f"hint: {hint}"] if hint else []


@contextlib.contextmanager
def of_table(name: str, *, several: bool) -> Iterator[None]:
    """Let the errors of the ``with`` block name a table, where ``several`` are configured.

    Those of usage are about the configuration, and name a table where they are about one.
    """
    try:
        yield
    except DekctlError as error:
        if several and error.table is None and not isinstance(error, UsageError):
            error.table = name
        raise


class UsageError(DekctlError):
    """The command line or the configuration is wrong."""

    exit_code = ExitCode.USAGE


class RefusedError(DekctlError):
    """A guard refused the command before it changed anything."""

    exit_code = ExitCode.REFUSED


class KMSError(DekctlError):
    """KMS or AWS refused the call or cannot be reached.

    ``code`` is the error name that KMS gave (``DisabledException``), or None if there was no
    response.
    """

    exit_code = ExitCode.KMS

    def __init__(self, message: str, *, hint: str | None = None, code: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class KMSRefusedError(KMSError):
    """KMS refused, and would refuse every other row in the same way."""


class KMSUnavailableError(KMSError):
    """KMS gave no usable response, in spite of retries."""


class RowRejectedError(KMSError):
    """One row's key cannot be wrapped or unwrapped; other rows are not affected."""

    def after(self, text: str) -> RowRejectedError:
        """The same error with a text before its message."""
        return type(self)(f"{text}: {self.message}", hint=self.hint, code=self.code)


class KekRefusedError(RowRejectedError, KMSRefusedError):
    """The KEK that a row names cannot be used, and it is none of the environment's own.

    That row's trouble while rows of other KEKs are good. Where no row is, the run stops with it.
    """


class BranchKeyMissingError(RowRejectedError):
    """The branch key that a V3 key needs is not stored."""


class DatabaseError(DekctlError):
    """The database refused or cannot be reached."""

    exit_code = ExitCode.DATABASE


class RowRefusedError(DatabaseError):
    """The database refused a change because of the rows that it concerns: a CHECK, a trigger.

    ``reason`` is the same without the database's address; it never shows a value of a row.
    """

    def __init__(self, message: str, *, hint: str | None = None, reason: str) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class InterruptError(DekctlError):
    """Ctrl-C ended a command before it had a result; finished batches are kept."""

    exit_code = ExitCode.INTERRUPTED
