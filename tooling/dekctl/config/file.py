"""Reads ``dekctl.toml``: parses it, resolves ``"env:VAR"`` and checks it. Connects to nothing."""

from __future__ import annotations

import difflib
import os
import re
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dekctl.config.model import Config, EnvConfig, KekBy, TableConfig
from dekctl.config.settings import Setting, resolve_env, settings_of
from dekctl.errors import UsageError

FILE_NAME = "dekctl.toml"
FILE_VARIABLE = "DEKCTL_CONFIG"
ENV_VARIABLE = "DEKCTL_ENV"
LONGEST_CONTEXT_NAME = 255
LONGEST_ENVIRONMENT = 64
"""Characters that the columns of ``dekctl_runs`` hold; ledger/tables.py has them."""
EXTERNAL_ID = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)
"""What STS accepts (API reference, AssumeRole)."""


def load_config(
    path: str | Path | None = None,
    env: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Read the configuration.

    Args:
        path: the file (default: ``DEKCTL_CONFIG``, then ``dekctl.toml`` in the working directory
            or in the nearest folder above it).
        env: the environment (default: ``DEKCTL_ENV``, then the only one in the file).
        environ: the environment variables (default: ``os.environ``).

    Raises:
        UsageError: the file, the environment or a value is missing or wrong.
    """
    environ = os.environ if environ is None else environ
    document = read_document(path, environ)
    return document.config(document.choose(env, environ)[0], environ)


@dataclass(frozen=True, slots=True)
class Document:
    """A ``dekctl.toml`` as it was written: its sections, with no value looked at yet."""

    file: Path
    found: str
    """How the file was chosen, in words."""
    tables: tuple[Any, ...]
    envs: dict[str, Any]

    def choose(self, env: str | None, environ: Mapping[str, str]) -> tuple[str, str]:
        """The name of the environment that a command uses, and how it was chosen, in words.

        Raises:
            UsageError: the file does not have it, or has several and none is named.
        """
        named = env or environ.get(ENV_VARIABLE)
        name, _ = _pick_env(self.envs, named, self.file)
        how = "--env" if env else f"${ENV_VARIABLE}" if named else "the only one in the file"
        return name, how

    def config(self, env: str, environ: Mapping[str, str]) -> Config:
        """The tables and one environment, checked.

        Raises:
            UsageError: the environment or a value is missing or wrong.
        """
        tables = tuple(_table(raw, self.file, environ) for raw in self.tables)
        _refuse_duplicates(tables)
        name, raw_env = _pick_env(self.envs, env, self.file)
        return Config(self.file, tables, _env(name, raw_env, self.file, environ))


def read_document(path: str | Path | None, environ: Mapping[str, str]) -> Document:
    """Find the file as :func:`load_config` does, and parse it.

    Raises:
        UsageError: there is none, or it is no TOML or has unknown sections.
    """
    file, found = find_file(path, environ)
    raw = _read(file)
    _refuse_unknown(raw, {"table", "env"}, file.name)
    tables, envs = raw.get("table", {}), raw.get("env", {})
    if not isinstance(envs, dict) or not envs:
        raise UsageError(
            f"{file.name} has no [env.NAME]", hint="add one, for example [env.staging]"
        )
    return Document(file, found, tuple(tables if isinstance(tables, list) else [tables]), envs)


def find_file(path: str | Path | None, environ: Mapping[str, str]) -> tuple[Path, str]:
    """The file to read, and how it was chosen, in words.

    Raises:
        UsageError: none is named or found, or the one in a folder above belongs to another user.
    """
    if path:
        return Path(path), "--config"
    if named := environ.get(FILE_VARIABLE):
        return Path(named), f"${FILE_VARIABLE}"
    if Path(FILE_NAME).exists():
        return Path(FILE_NAME), "the working directory"
    for folder in Path.cwd().parents:
        if (file := folder / FILE_NAME).exists():
            _refuse_foreign(file)
            return file, "a folder above the working directory"
    raise UsageError(
        f"no configuration: there is no {FILE_NAME} in the working directory or above it",
        hint=f"create it with: dekctl init, or name a file with dekctl --config FILE or "
        f"{FILE_VARIABLE}",
    )


def _refuse_foreign(file: Path) -> None:
    """Refuse a file that somebody else put where we happen to be, for example in /tmp."""
    if hasattr(os, "getuid") and file.stat().st_uid not in (os.getuid(), 0):
        raise UsageError(
            f"{file} belongs to another user, and nothing named it",
            hint=f"if you trust it, name it: dekctl --config {shlex.quote(str(file))}",
        )


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UsageError(
            f"no configuration: {file} does not exist",
            hint=f"create one with: dekctl init, or name another file with dekctl --config FILE "
            f"or {FILE_VARIABLE}",
        ) from None
    except UnicodeDecodeError:
        raise UsageError(f"{file} is not UTF-8", hint=f"save {file} as UTF-8") from None
    except OSError as error:
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


def _settings(model: type, raw: Any, where: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """The values that the file gives a class of settings, checked one by one."""
    if not isinstance(raw, dict):
        raise UsageError(f"{where} must be a table", hint=f"correct {where}")
    settings = settings_of(model)
    _refuse_unknown(raw, set(settings), where)
    return {
        key: _kek_by(settings[key], value, where, environ)
        if settings[key].kind is KekBy
        else settings[key].read(value, where, environ)
        for key, value in raw.items()
    }


def _table(raw: Any, file: Path, environ: Mapping[str, str]) -> TableConfig:
    where = f"[table] of {file.name}"
    values = _settings(TableConfig, raw, where, environ)
    if "kek" in values and "kek_by" in values:
        raise UsageError(f"{where} has both kek and kek_by", hint="keep one of them")
    if "kek_by" in values and values.get("wrapping") == "V3":
        raise UsageError(
            f"{where} has kek_by and wrapping V3, but a branch key has one KEK for all its rows",
            hint='keep wrapping = "V2" where each tenant has a KEK',
        )
    table = TableConfig(
        **values,
        context_name_given="context_name" in values,
        plaintext_column_given="plaintext_column" in values,
    )
    columns = [*table.primary_key, table.plaintext_column, table.wrapped_column]
    columns += [table.version_column, table.kek_column]
    columns += [table.wrapped_at_column] if table.wrapped_at_column else []
    _refuse_long(f"the context name in {where}", table.context_name, LONGEST_CONTEXT_NAME)
    doubled = {column for column in columns if columns.count(column) > 1}
    if doubled:
        raise UsageError(
            f"{where} uses the column {min(doubled)!r} twice", hint="give each a name of its own"
        )
    return table


def _kek_by(setting: Setting, raw: Any, where: str, environ: Mapping[str, str]) -> KekBy:
    hint = 'for example kek_by = { column = "tenant", keks = { acme = "alias/acme" } }'
    if not isinstance(raw, dict):
        raise UsageError(f"kek_by in {where} must be a table", hint=hint)
    _refuse_unknown(raw, {"column", "keks"}, f"kek_by in {where}")
    column, keks = raw.get("column"), raw.get("keks")
    if not isinstance(column, str) or not column or not isinstance(keks, dict) or not keks:
        raise UsageError(f"kek_by in {where} needs a column and keks", hint=hint)
    kek = replace(setting, kind=str, is_kek=True)
    column = resolve_env("kek_by", column, where, environ)
    return KekBy(
        column, tuple((value, kek.read(name, where, environ)) for value, name in keks.items())
    )


def _refuse_long(what: str, name: str, longest: int) -> None:
    """Refuse a name that has no room in the ledger; both lengths are in characters."""
    if len(name) > longest:
        raise UsageError(
            f"{what} has {len(name)} characters, and dekctl's own tables have room for {longest}",
            hint=f"give it a shorter name: {name[:20]}…",
        )


def _refuse_duplicates(tables: tuple[TableConfig, ...]) -> None:
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
                f"the Alembic version table {table.version_table}",
                hint="before you migrate either, give one of them a context_name that differs by "
                "more than case and punctuation within its first 45 letters",
            )


def _pick_env(envs: dict[str, Any], wanted: str | None, file: Path) -> tuple[str, dict[str, Any]]:
    if not wanted and len(envs) > 1:
        raise UsageError(
            f"no environment is chosen; {file.name} has: {', '.join(envs)}",
            hint=f"choose one with dekctl --env {next(iter(envs))}, or set {ENV_VARIABLE}",
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
    values = _settings(EnvConfig, raw, where, environ)
    _refuse_long(f"the name of [env.…] in {file.name}", name, LONGEST_ENVIRONMENT)
    external_id = values.get("external_id")
    if external_id is not None and not EXTERNAL_ID.fullmatch(external_id):
        raise UsageError(
            f"external_id in {where} must be 2 to 1224 letters, digits and any of _+=,.@:/-",
            hint="use the value of the roles' trust policy: trust.auditor.external_id in "
            "terraform.tfvars",
        )
    named = [key for key in ("kek", "terraform", "terraform_outputs") if key in values]
    if len(named) > 1:
        raise UsageError(
            f"{where} names its KEK twice: {' and '.join(named)}", hint="keep one of them"
        )
    for key in ("terraform", "terraform_outputs", "accepted_findings"):
        if key in values:  # relative to the file, so that any working directory will do
            values[key] = file.parent / values[key]
    return EnvConfig(name=name, **values)
