"""The errors of dekctl, and the exit code each of them ends a command with.

::

    DekctlError (1)
    ├── UsageError (2)            wrong command line or configuration
    ├── RefusedError (3)          a guard said no; nothing was changed
    ├── KMSError (5)              KMS or AWS refused, or cannot be reached
    │   ├── KMSRefusedError       will fail the same way for every row: stop at once
    │   ├── KMSUnavailableError   retried until the patience ran out
    │   └── RowRejectedError      this row's key alone is at fault: quarantine it
    └── DatabaseError (6)         the database refused, or cannot be reached

A message names what is wrong, the hint names the next command. Neither may ever hold key material,
so no error is built from a value that was read from a key column.
"""

from __future__ import annotations

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
    """dekctl failed; this is a bug or a broken machine if no subclass says more."""

    exit_code: ExitCode = ExitCode.ERROR

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(DekctlError):
    """The command line or the configuration is wrong."""

    exit_code = ExitCode.USAGE


class RefusedError(DekctlError):
    """A guard refused the command before it changed anything."""

    exit_code = ExitCode.REFUSED


class KMSError(DekctlError):
    """KMS or AWS refused the call or cannot be reached.

    ``code`` is the service's own error name (``DisabledException``), or ``None`` where no answer
    came.
    """

    exit_code = ExitCode.KMS

    def __init__(self, message: str, *, hint: str | None = None, code: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class KMSRefusedError(KMSError):
    """KMS refused in a way that every other row would meet too."""


class KMSUnavailableError(KMSError):
    """KMS did not give a usable answer in spite of retries."""


class RowRejectedError(KMSError):
    """One row's key cannot be wrapped or unwrapped; other rows are not affected."""


class DatabaseError(DekctlError):
    """The database refused or cannot be reached."""

    exit_code = ExitCode.DATABASE
