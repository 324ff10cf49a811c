"""What a setting of ``dekctl.toml`` may be. Each stands once, in :mod:`dekctl.config.model`.

A field that is made by :func:`setting` carries its meaning and its limits; its type says whether it
is text, a number, a path, a choice or a list. The file is checked by these alone, and the tables of
docs/configuration.md are made of them.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from dekctl.errors import UsageError
from dekctl.kek_id import is_env_kek

_VARIABLE = "env:"
_KEK_NAME = re.compile(r"(?![0-9A-Fa-f]{64}$)[\w:/.-]+", re.ASCII)
"""The characters of ARNs, key ids and aliases; no base64 text of a key, as that has ``=``."""


def setting(
    default: Any,
    meaning: str,
    *,
    minimum: float = 0,
    maximum: float = math.inf,
    above_zero: bool = False,
    is_name: bool = False,
    is_kek: bool = False,
    secret: bool = False,
    late: bool = False,
) -> Any:
    """A field of a settings class.

    Args:
        default: its value where the file has none.
        meaning: what it is for, in Markdown.
        minimum: the least number that is accepted.
        maximum: the greatest number that is accepted.
        above_zero: whether 0 itself is refused.
        is_name: whether it names a table or a column.
        is_kek: whether it names a KEK, which for the local provider begins with ``env:``.
        secret: whether nobody may see it: ``repr`` hides it, ``config show`` all but its host.
        late: whether an ``"env:VAR"`` of a variable that is not set stays as it is, for whoever
            needs the value to refuse.
    """
    notes = {
        "meaning": meaning,
        "minimum": minimum,
        "maximum": maximum,
        "above_zero": above_zero,
        "is_name": is_name,
        "is_kek": is_kek,
        "secret": secret,
        "late": late,
    }
    return field(default=default, repr=not secret, metadata=notes)


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting as the file is checked by it. ``kind`` is the type of a value, or of a list's."""

    name: str
    kind: type
    many: bool
    choices: tuple[str, ...]
    default: Any
    meaning: str
    minimum: float
    maximum: float
    above_zero: bool
    is_name: bool
    is_kek: bool
    secret: bool
    late: bool

    @property
    def is_number(self) -> bool:
        """Whether it is a number, or a list of numbers."""
        return self.kind in (int, float)

    def expected(self) -> str:
        """What a value has to be."""
        if self.choices:
            return f"one of: {', '.join(self.choices)}"
        if self.kind is bool:
            return "true or false"
        if self.kind not in (str, Path, int, float):
            return "a table"
        if not self.is_number:
            return "text, or a list of texts" if self.many else "text"
        what = "whole number" if self.kind is int else "number"
        what = f"a list of {what}s" if self.many else f"a {what}"
        if self.above_zero:
            return f"{what} above 0"
        if math.isfinite(self.maximum):
            return f"{what} from {self.minimum:,} to {self.maximum:,}"
        return f"{what} of {self.minimum:,} or more"

    def accepts(self, value: Any) -> bool:
        """Whether one value, or one of a list, is right."""
        if self.choices:
            return value in self.choices
        if self.kind is bool:
            return isinstance(value, bool)
        if not self.is_number:
            return isinstance(value, str) and bool(value)
        right = isinstance(value, int if self.kind is int else (int, float))
        return (
            right
            and not isinstance(value, bool)
            and math.isfinite(value)
            and self.minimum <= value <= self.maximum
            and not (self.above_zero and value == 0)
        )

    def read(self, raw: Any, where: str, environ: Mapping[str, str]) -> Any:
        """The value that the file gives, with ``"env:VAR"`` resolved.

        Raises:
            UsageError: it is not what is expected, or a variable is not set.
        """
        values = [
            self._one(each, where, environ)
            for each in (raw if self.many and isinstance(raw, list) else [raw])
        ]
        if not values:
            raise self._wrong(where, None, None)
        return tuple(values) if self.many else values[0]

    def _one(self, raw: Any, where: str, environ: Mapping[str, str]) -> Any:
        as_it_is = isinstance(raw, str) and (
            (self.is_kek and is_env_kek(raw)) or (self.late and _is_unset(raw, environ))
        )
        value = raw if as_it_is else resolve_env(self.name, raw, where, environ)
        if self.kind is bool and value is not raw:
            value = {"true": True, "false": False}.get(value, value)
        if self.is_number and value is not raw:
            with contextlib.suppress(ValueError):
                value = self.kind(value)
        if not self.accepts(value):
            raise self._wrong(
                where, raw.removeprefix(_VARIABLE) if value is not raw else None, value
            )
        if self.is_name:
            refuse_odd_name(self.name, value, where)
        if self.is_kek and not _KEK_NAME.fullmatch(value):
            raise UsageError(  # the value is not shown: it may be a key
                f"{self.name} in {where} must name a KEK, and this looks like a key itself or is "
                "misspelled",
                hint="use an ARN, a key id or an alias, for example alias/app-dek",
            )
        return Path(value) if self.kind is Path else value

    def _wrong(self, where: str, variable: str | None, value: Any) -> UsageError:
        # What it holds is not shown: it may be a secret that was meant for another setting.
        source = f", read from {variable}," if variable else ""
        hint = f"correct {where}"
        if variable:
            hint = f"set it: export {variable}=…"
        elif self.many:
            hint = f"for example {self.name} = {json.dumps(self.default)}"
        elif near := difflib.get_close_matches(str(value), self.choices, n=1):
            hint = f"did you mean {near[0]!r}?"
        return UsageError(f"{self.name} in {where}{source} must be {self.expected()}", hint=hint)


@cache
def settings_of(model: type) -> dict[str, Setting]:
    """The settings of a class of :mod:`dekctl.config.model`, in its order."""
    hints = get_type_hints(model)
    found = {}
    for each in fields(model):
        if not each.metadata:
            continue
        kind, many = hints[each.name], False
        if get_origin(kind) in (Union, UnionType):
            kind = next(part for part in get_args(kind) if part is not type(None))
        if get_origin(kind) is tuple:
            kind, many = get_args(kind)[0], True
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        default = None if each.default is MISSING else each.default
        found[each.name] = Setting(
            each.name, str if choices else kind, many, choices, default, **each.metadata
        )
    return found


def _is_unset(text: str, environ: Mapping[str, str]) -> bool:
    return text.startswith(_VARIABLE) and not environ.get(text.removeprefix(_VARIABLE))


def resolve_env(key: str, value: Any, where: str, environ: Mapping[str, str]) -> Any:
    """A value, or what the variable holds where it is ``"env:VAR"``.

    Raises:
        UsageError: the variable is not set.
    """
    if not isinstance(value, str) or not value.startswith(_VARIABLE):
        return value
    variable = value.removeprefix(_VARIABLE)
    held = environ.get(variable)
    if not held:
        raise UsageError(
            f"{key} in {where} is read from {variable}, which is not set",
            hint=f"set it: export {variable}=…",
        )
    return held


def refuse_odd_name(key: str, name: str, where: str) -> None:
    """Refuse names that a driver or SQLAlchemy may misread, however they are quoted.

    Raises:
        UsageError: the name has such a character.
    """
    if re.search(r"[:%`\\\x00-\x1f]", name):
        raise UsageError(
            f"{key} in {where} is {name!r}; a name must not have a colon, a percent sign, a "
            "backquote, a backslash or a control character",
            hint="rename it in the database, then here",
        )
