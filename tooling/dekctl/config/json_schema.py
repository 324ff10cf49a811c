"""A JSON schema of ``dekctl.toml``, for editors: made of :mod:`dekctl.config.model` alone.

Editors find it by the first line of the file: ``#:schema ./dekctl.schema.json``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from dekctl.config.model import EnvConfig, KekBy, TableConfig
from dekctl.config.settings import Setting, settings_of

SCHEMA_FILE = "dekctl.schema.json"
_FROM_VARIABLE = {"type": "string", "pattern": "^env:."}


def json_schema() -> dict[str, Any]:
    """The schema: draft 7, which the editors' TOML extensions read."""
    table = _object(TableConfig)
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "dekctl.toml",
        "type": "object",
        "properties": {
            "table": {
                "description": "The table that holds data keys; [[table]] for each of several.",
                "anyOf": [table, {"type": "array", "items": table, "minItems": 1}],
            },
            "env": {
                "description": "One [env.NAME] for each environment.",
                "type": "object",
                "additionalProperties": _object(EnvConfig),
                "minProperties": 1,
            },
        },
        "required": ["env"],
        "additionalProperties": False,
    }


def _object(model: type) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: _property(each) for name, each in settings_of(model).items()},
        "additionalProperties": False,
    }


def _property(setting: Setting) -> dict[str, Any]:
    value = _value(setting)
    if setting.many:
        value = {"anyOf": [value, {"type": "array", "items": value, "minItems": 1}]}
    found = {"description": re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", setting.meaning), **value}
    if setting.default not in (None, ""):
        default = setting.default
        found["default"] = list(default) if isinstance(default, tuple) else default
    return found


def _value(setting: Setting) -> dict[str, Any]:
    """One value, or an ``"env:VAR"`` in its place."""
    if setting.kind is KekBy:
        text = {"type": "string", "minLength": 1}
        return {
            "type": "object",
            "properties": {
                "column": text,
                "keks": {"type": "object", "additionalProperties": text, "minProperties": 1},
            },
            "required": ["column", "keks"],
            "additionalProperties": False,
        }
    if setting.choices:
        return {"anyOf": [{"enum": list(setting.choices)}, _FROM_VARIABLE]}
    if setting.kind is bool:
        return {"anyOf": [{"type": "boolean"}, _FROM_VARIABLE]}
    if setting.kind in (str, Path):
        return {"type": "string", "minLength": 1}
    number: dict[str, Any] = {"type": "integer" if setting.kind is int else "number"}
    number["exclusiveMinimum" if setting.above_zero else "minimum"] = setting.minimum
    if setting.maximum != float("inf"):
        number["maximum"] = setting.maximum
    return {"anyOf": [number, _FROM_VARIABLE]}
