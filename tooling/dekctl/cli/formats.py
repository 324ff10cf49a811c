"""The formats in which a command prints its result: one function each, entered in ``FORMATS``."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Format = Callable[[dict[str, Any], str], str]
"""Takes a result, as plain values and as text for people; returns what goes to stdout."""


def text_format(_value: dict[str, Any], text: str) -> str:
    """Text for people."""
    return text


def json_format(value: dict[str, Any], _text: str) -> str:
    """One JSON object, on one line."""
    return json.dumps(value, default=str)


DEFAULT = "text"
FORMATS: dict[str, Format] = {DEFAULT: text_format, "json": json_format}
"""By name. Each but the default is an option of ``dekctl``: ``--json``."""
