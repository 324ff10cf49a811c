"""Every value of a configuration and where it comes from, for ``dekctl config show``.

Secrets are not shown: of a database URL neither password nor query, and nothing that is the value
of a variable with credentials, whichever setting reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dekctl.config.file import Document
from dekctl.config.model import Config, EnvConfig, KekBy, TableConfig, shown_url
from dekctl.config.outputs import Outputs
from dekctl.config.settings import settings_of
from dekctl.errors import UsageError
from dekctl.kek_id import is_env_kek

Source = Literal["file", "environment", "terraform", "default"]

_CREDENTIALS = (
    "DEKCTL_KEK",
    "DEKCTL_OLD_KEKS",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
)
_ELSEWHERE = {
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "endpoint_url": ("AWS_ENDPOINT_URL_KMS", "AWS_ENDPOINT_URL"),
}
"""Variables that boto3 reads where the file does not have the setting."""


@dataclass(frozen=True, slots=True)
class Value:
    """One setting as it is in force."""

    section: str
    """``[table]`` with the table's name, or ``[env.NAME]``."""
    setting: str
    value: Any
    """As JSON has it; None where it is not set."""
    source: Source
    variables: tuple[str, ...] = ()
    """The environment variables that were read for it."""
    missing: bool = False
    """Whether a variable that it needs is not set."""

    def as_json(self) -> dict[str, Any]:
        """The value as plain values."""
        return {
            "section": self.section,
            "setting": self.setting,
            "value": self.value,
            "source": self.source,
            "variables": list(self.variables),
        }


def explain(
    config: Config, document: Document, outputs: Outputs | None, environ: Mapping[str, str]
) -> list[Value]:
    """Every setting of every table and of the environment, in the order of the model."""
    values: list[Value] = []
    for table, raw in zip(config.tables, document.tables, strict=True):
        values += _explained(f"[table] {table.name}", table, raw, None, environ)
    env = config.env
    raw = document.envs[env.name]
    return [*values, *_explained(f"[env.{env.name}]", env, raw, outputs, environ)]


def _explained(
    section: str,
    model: TableConfig | EnvConfig,
    raw: Mapping[str, Any],
    outputs: Outputs | None,
    environ: Mapping[str, str],
) -> Iterator[Value]:
    kind: type = type(model)
    for name, setting in settings_of(kind).items():
        value: Any = getattr(model, name)
        source: Source = "file"
        variables = tuple(_variables(raw[name], is_kek=setting.is_kek)) if name in raw else ()
        missing = setting.late and any(not environ.get(variable) for variable in variables)
        if variables:
            source = "environment"
        elif name not in raw:
            value, source, variables = _from_elsewhere(name, value, outputs, environ)
        if missing:
            value = None
        elif setting.secret and value:
            value = _shown_database(model)
        else:
            value = _shown(value, environ)
        yield Value(section, name, value, source, variables, missing)


def _from_elsewhere(
    name: str, default: Any, outputs: Outputs | None, environ: Mapping[str, str]
) -> tuple[Any, Source, tuple[str, ...]]:
    """What is in force for a setting that the file does not have."""
    if outputs is not None and name in ("region", "kek"):
        return outputs.region if name == "region" else outputs.kek_arn, "terraform", ()
    for variable in _ELSEWHERE.get(name, ()):
        if environ.get(variable):
            return environ[variable], "environment", (variable,)
    return default, "default", ()


def _variables(raw: Any, *, is_kek: bool) -> Iterator[str]:
    """The environment variables that a value of the file is read from."""
    if isinstance(raw, dict):
        for key, each in raw.items():
            yield from _variables(each, is_kek=is_kek or key == "keks")
    elif isinstance(raw, list):
        for each in raw:
            yield from _variables(each, is_kek=is_kek)
    elif isinstance(raw, str) and raw.startswith("env:") and not (is_kek and is_env_kek(raw)):
        yield raw.removeprefix("env:")


def _shown_database(model: TableConfig | EnvConfig) -> str:
    assert isinstance(model, EnvConfig)
    try:
        return shown_url(model.url())
    except UsageError:
        return "(not shown: it is not an SQLAlchemy URL)"


def _shown(value: Any, environ: Mapping[str, str]) -> Any:
    """A value as JSON has it, without secrets."""
    if isinstance(value, KekBy):
        keks = {text: _shown(kek, environ) for text, kek in value.keks}
        return {"column": value.column, "keks": keks}
    if isinstance(value, tuple):
        return [_shown(each, environ) for each in value]
    if isinstance(value, Path):
        value = str(value)
    if not isinstance(value, str):
        return value
    if any(held in value for name in _CREDENTIALS if (held := environ.get(name))):
        return "(not shown: it is a secret)"
    return re.sub(r"(//[^/@:]*):[^/@]*@", r"\1:***@", value)
