"""Read ``dekctl.toml``: parse, check, and fill in ``"env:VAR"`` values. Connects to nothing."""

from __future__ import annotations

import difflib
import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from dekctl.config.model import (
    MOST_ROWS_PER_BRANCH_KEY,
    ROWS_PER_BRANCH_KEY,
    Config,
    Encoding,
    EnvConfig,
    KekBy,
    TableConfig,
    Wrapping,
)
from dekctl.errors import UsageError
from dekctl.kek_id import is_env_kek

FILE_NAME = "dekctl.toml"
FILE_VARIABLE = "DEKCTL_CONFIG"
ENV_VARIABLE = "DEKCTL_ENV"
EXTERNAL_ID = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)
"""What STS takes (API reference, AssumeRole)."""

_PREFIX = "env:"
_NUMBERS: dict[str, type[int] | type[float]] = {
    "backup_retention_days": int,
    "dek_bytes": int,
    "hold_back_above": float,
    "lock_timeout_seconds": float,
    "rows_per_branch_key": int,
    "statement_timeout_seconds": float,
}


def load_config(
    path: str | Path | None = None,
    env: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Read the configuration.

    Args:
        path: the file; else ``DEKCTL_CONFIG``, else ``dekctl.toml`` in the working directory.
        env: the environment; else ``DEKCTL_ENV``, else the only one in the file.
        environ: stands in for ``os.environ``.

    Raises:
        UsageError: the file, the environment or a value is missing or wrong.
    """
    environ = os.environ if environ is None else environ
    file = Path(path or environ.get(FILE_VARIABLE) or FILE_NAME)
    document = _read(file)
    _refuse_unknown(document, {"table", "env"}, file.name)
    raw_tables = document.get("table", {})
    tables = tuple(
        _table(raw, file, environ)
        for raw in (raw_tables if isinstance(raw_tables, list) else [raw_tables])
    )
    _refuse_twins(tables)
    name, raw_env = _pick_env(document.get("env", {}), env or environ.get(ENV_VARIABLE), file)
    return Config(file, tables, _env(name, raw_env, file, environ))


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"no configuration: {file} does not exist",
            hint=f"write one (see README, Configuration), or name it: dekctl --config FILE, "
            f"or set {FILE_VARIABLE}",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {file}: {error}", hint="check the file") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file} is not valid TOML: {error}", hint=f"correct {file}") from None


def _refuse_unknown(raw: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in raw:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            raise UsageError(
                f"unknown key {key!r} in {where}",
                hint=f"did you mean {near[0]!r}?"
                if near
                else f"known keys are: {', '.join(sorted(known))}",
            )


def _check(raw: Mapping[str, Any], key: str, kind: type | tuple[type, ...], where: str) -> Any:
    value = raw[key]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        expected = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
        raise UsageError(f"{key} in {where} must be {expected}", hint=f"correct {where}")
    return value


def _choice(raw: Mapping[str, Any], key: str, choices: tuple[str, ...], where: str) -> None:
    if key in raw and raw[key] not in choices:
        raise UsageError(
            f"{key} in {where} is {raw[key]!r}", hint=f"choose one of: {', '.join(choices)}"
        )


def _table(raw: Any, file: Path, environ: Mapping[str, str]) -> TableConfig:
    where = f"[table] of {file.name}"
    if not isinstance(raw, dict):
        raise UsageError(f"{where} must be a table", hint=f"correct {file.name}")
    _refuse_unknown(raw, {f.name for f in fields(TableConfig)}, where)
    raw = resolve_env(raw, where, environ)
    values: dict[str, Any] = {}
    for key in raw:
        if key == "primary_key":
            value = raw[key] if isinstance(raw[key], list) else [raw[key]]
            if not value or not all(isinstance(column, str) and column for column in value):
                raise UsageError(
                    f"primary_key in {where} must be a list of column names",
                    hint='for example primary_key = ["id"]',
                )
            values[key] = tuple(value)
            for column in values[key]:
                _refuse_odd_name(key, column, where)
        elif key == "dek_bytes":
            sizes = _check(raw, key, list, where)
            if not sizes or not all(isinstance(s, int) and 1 <= s <= 4096 for s in sizes):
                raise UsageError(
                    f"dek_bytes in {where} must be a list of sizes from 1 to 4096",
                    hint="for example dek_bytes = [16, 24, 32]",
                )
            values[key] = tuple(sizes)
        elif key == "rows_per_branch_key":
            rows = _check(raw, key, int, where)
            if not 1 <= rows <= MOST_ROWS_PER_BRANCH_KEY:
                raise UsageError(
                    f"rows_per_branch_key in {where} must be from 1 to "
                    f"{MOST_ROWS_PER_BRANCH_KEY:,}",
                    hint=f"leave it out for {ROWS_PER_BRANCH_KEY:,}",
                )
            values[key] = rows
        elif key == "kek_by":
            values[key] = _kek_by(raw[key], where)
        else:
            values[key] = _check(raw, key, str, where)
            if not values[key]:
                raise UsageError(f"{key} in {where} is empty", hint=f"correct {where}")
            if key == "name" or key.endswith("_column"):
                _refuse_odd_name(key, values[key], where)
    _choice(values, "plaintext_encoding", get_args(Encoding), where)
    _choice(values, "wrapping", get_args(Wrapping), where)
    if "kek" in values and "kek_by" in values:
        raise UsageError(f"{where} has both kek and kek_by", hint="keep one of them")
    if "kek_by" in values and values.get("wrapping") == "V3":
        raise UsageError(
            f"{where} has kek_by and wrapping V3, but a branch key has one KEK for all its rows",
            hint='keep wrapping = "V2" where each tenant has a KEK',
        )
    table = TableConfig(**values)
    columns = [*table.primary_key, table.plaintext_column, table.wrapped_column]
    columns += [table.version_column, table.kek_column]
    columns += [table.wrapped_at_column] if table.wrapped_at_column else []
    doubled = {column for column in columns if columns.count(column) > 1}
    if doubled:
        raise UsageError(
            f"{where} uses the column {min(doubled)!r} twice", hint="give each its own name"
        )
    return table


def _kek_by(raw: Any, where: str) -> KekBy:
    hint = 'for example kek_by = { column = "tenant", keks = { acme = "alias/acme" } }'
    if not isinstance(raw, dict):
        raise UsageError(f"kek_by in {where} must be a table", hint=hint)
    _refuse_unknown(raw, {"column", "keks"}, f"kek_by in {where}")
    column, keks = raw.get("column"), raw.get("keks")
    if not isinstance(column, str) or not column or not isinstance(keks, dict) or not keks:
        raise UsageError(f"kek_by in {where} needs a column and keks", hint=hint)
    for value, kek in keks.items():
        if not isinstance(kek, str) or not kek:
            raise UsageError(f"the KEK of {value!r} in kek_by in {where} must be text", hint=hint)
    return KekBy(column, tuple(keks.items()))


def _refuse_odd_name(key: str, name: str, where: str) -> None:
    """Refuse names that a driver or SQLAlchemy may read as something else, however quoted."""
    if re.search(r"[:%`\\\x00-\x1f]", name):
        raise UsageError(
            f"{key} in {where} is {name!r}; dekctl takes no name with a colon, a percent sign, a "
            "backquote, a backslash or a control character",
            hint="rename it in the database, then here",
        )


def _refuse_twins(tables: tuple[TableConfig, ...]) -> None:
    for key in ("name", "context_name"):
        names = [getattr(table, key) for table in tables]
        if not names or len(set(names)) < len(names):
            raise UsageError(
                f"two tables share one {key}" if names else "there is no [table]",
                hint="give every [[table]] its own name and context_name",
            )
    versions: dict[str, TableConfig] = {}
    for table in tables:
        other = versions.setdefault(table.version_table, table)
        if other is not table:
            raise UsageError(
                f"the context names {other.context_name!r} and {table.context_name!r} would share "
                f"one version table of Alembic's, {table.version_table}",
                hint="before either is migrated, give one of them a context_name that differs in "
                "more than case, punctuation, or what comes after 45 letters",
            )


def _pick_env(envs: Any, wanted: str | None, file: Path) -> tuple[str, dict[str, Any]]:
    if not isinstance(envs, dict) or not envs:
        raise UsageError(
            f"{file.name} has no [env.NAME]", hint="add one, for example [env.staging]"
        )
    if not wanted and len(envs) > 1:
        raise UsageError(
            f"no environment is picked; {file.name} has: {', '.join(envs)}",
            hint=f"use: dekctl --env {next(iter(envs))} …, or set {ENV_VARIABLE}",
        )
    name = wanted or next(iter(envs))
    if name not in envs:
        near = difflib.get_close_matches(name, envs, n=1)
        raise UsageError(
            f"{file.name} has no [env.{name}]",
            hint=f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(envs)}",
        )
    if not isinstance(envs[name], dict):
        raise UsageError(f"env.{name} of {file.name} must be a table", hint=f"correct {file.name}")
    return name, envs[name]


def _env(name: str, raw: dict[str, Any], file: Path, environ: Mapping[str, str]) -> EnvConfig:
    where = f"[env.{name}] of {file.name}"
    _refuse_unknown(raw, {f.name for f in fields(EnvConfig)} - {"name"}, where)
    raw = resolve_env(raw, where, environ)
    kinds: dict[str, type | tuple[type, ...]] = {
        "backup_retention_days": int,
        "lock_timeout_seconds": (int, float),
        "statement_timeout_seconds": (int, float),
        "hold_back_above": (int, float),
    }
    values: dict[str, Any] = {}
    for key in raw:
        value = _check(raw, key, kinds.get(key, str), where)
        if not isinstance(value, str) and (value < 0 or (key.endswith("_seconds") and value == 0)):
            raise UsageError(f"{key} in {where} is too small", hint=f"correct {where}")
        values[key] = value
    external_id = values.get("external_id")
    if external_id is not None and not EXTERNAL_ID.fullmatch(external_id):
        raise UsageError(
            f"external_id in {where} must be 2 to 1224 letters, digits and any of _+=,.@:/-",
            hint="it is the one of the roles' trust policy: trust.auditor.external_id in "
            "terraform.tfvars",
        )
    named = [key for key in ("kek", "terraform", "terraform_outputs") if key in values]
    if len(named) > 1:
        raise UsageError(
            f"{where} names its KEK twice: {' and '.join(named)}", hint="keep one of them"
        )
    for key in ("terraform", "terraform_outputs"):
        if key in values:  # relative to the file, so that any working directory will do
            values[key] = file.parent / values[key]
    return EnvConfig(name=name, **values)


def resolve_env(raw: Mapping[str, Any], where: str, environ: Mapping[str, str]) -> dict[str, Any]:
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
    if key in {"kek", "kek_by"} and is_env_kek(value):
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
