"""The file of findings that somebody has looked into and accepted, each with a reason."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from dekctl.errors import UsageError

_ID = re.compile(r"[0-9a-f]{16}")
_KEYS = {"id", "reason", "expires"}
_FORM = '[[accepted]] with id = "…" (from dekctl audit), reason = "…" and, if it ends, expires = '


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Why a finding is no matter. ``expires`` is the last day on which that holds (UTC)."""

    reason: str
    expires: date | None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "reason": self.reason,
            "expires": self.expires.isoformat() if self.expires else None,
        }


def accepted_findings(file: Path, today: date) -> tuple[dict[str, Acceptance], list[str]]:
    """Read the file: acceptances in force by finding id, and the ids of those that have expired.

    Raises:
        UsageError: the file cannot be read, or an entry has no id, no reason, or a key too many.
    """
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {file}: {error}", hint=f"write it as {_FORM}DATE") from None
    entries = document.pop("accepted", [])
    if document or not isinstance(entries, list):
        raise _malformed(file, "may only hold [[accepted]] entries")
    found: dict[str, Acceptance] = {}
    expired = []
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or set(entry) - _KEYS:
            raise _malformed(file, f"entry {number} may only have: {', '.join(sorted(_KEYS))}")
        name, reason, expires = (entry.get(key) for key in ("id", "reason", "expires"))
        if not isinstance(name, str) or not _ID.fullmatch(name):
            raise _malformed(file, f"entry {number} has no id of a finding")
        if not isinstance(reason, str) or not reason.strip():
            raise _malformed(file, f"entry {number} ({name}) has no reason")
        if expires is not None and type(expires) is not date:
            raise _malformed(file, f"expires of entry {number} ({name}) is not a date")
        if name in found or name in expired:
            raise _malformed(file, f"{name} is accepted twice")
        if expires is not None and expires < today:
            expired.append(name)
        else:
            found[name] = Acceptance(reason.strip(), expires)
    return found, expired


def _malformed(file: Path, why: str) -> UsageError:
    return UsageError(f"{file}: {why}", hint=f"write each entry as {_FORM}2027-01-31")
