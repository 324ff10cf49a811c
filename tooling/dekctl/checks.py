"""One thing that a command looked at and how it stands: what ``doctor`` and ``retire`` list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dekctl.errors import ExitCode


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of one check.

    ``hint`` is the next command where it is not ``ok``; ``code`` is the exit code with which a
    command would end because of it. ``warning`` says that it is ``ok``, but people should know.
    """

    name: str
    ok: bool
    detail: str
    hint: str | None = None
    code: ExitCode = ExitCode.OK
    warning: bool = False

    def as_json(self) -> dict[str, Any]:
        """The public form, as plain values."""
        return {
            "check": self.name,
            "ok": self.ok,
            "detail": self.detail,
            "hint": self.hint,
            "warning": self.warning,
        }
