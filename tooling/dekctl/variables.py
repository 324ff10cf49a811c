"""Values of ``dekctl.toml`` that are read from environment variables: ``"env:VAR"``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from dekctl.errors import UsageError

_PREFIX = "env:"
_LOCAL_KEK = re.compile(r"env:[0-9a-f]{16}")
"""How rows, and so ``kek`` and ``kek_by``, name a KEK of the local provider."""
_NUMBERS: dict[str, type[int] | type[float]] = {
    "backup_retention_days": int,
    "dek_bytes": int,
    "hold_back_above": float,
    "lock_timeout_seconds": float,
    "rows_per_branch_key": int,
    "statement_timeout_seconds": float,
}


def filled_in(raw: Mapping[str, Any], where: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """A table of the file with every ``"env:VAR"`` replaced by what the variable holds.

    Args:
        raw: the table as TOML has it.
        where: how errors name it.
        environ: the variables.

    Raises:
        UsageError: a variable is not set, or does not hold a number where one is needed.
    """
    return {key: _filled(key, value, where, environ) for key, value in raw.items()}


def _filled(key: str, value: Any, where: str, environ: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_filled(key, each, where, environ) for each in value]
    if isinstance(value, dict):
        return {name: _filled(key, each, where, environ) for name, each in value.items()}
    if not isinstance(value, str) or not value.startswith(_PREFIX):
        return value
    if key in {"kek", "kek_by"} and _LOCAL_KEK.fullmatch(value):
        return value
    variable = value.removeprefix(_PREFIX)
    held = environ.get(variable)
    if not held:
        raise UsageError(
            f"{key} in {where} is read from {variable}, which is not set",
            hint=f"set it and run the same command again: export {variable}=…",
        )
    return _number(key, held, variable, where) if key in _NUMBERS else held


def _number(key: str, held: str, variable: str, where: str) -> float:
    try:
        number = _NUMBERS[key](held)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        kind = "a whole number" if _NUMBERS[key] is int else "a number"
        # What it holds is not shown: it may be a secret that was meant for another setting.
        raise UsageError(
            f"{key} in {where} is read from {variable}, which does not hold {kind}",
            hint=f"set it and run the same command again: export {variable}=…",
        )
    return number
