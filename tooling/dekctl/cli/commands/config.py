"""``dekctl config``: show, check, schema."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import click

from dekctl.cli.execute import end
from dekctl.cli.registry import InOrder, Section
from dekctl.cli.state import State
from dekctl.config.explain import Value, explain
from dekctl.config.file import Document, read_document
from dekctl.config.json_schema import json_schema
from dekctl.config.outputs import Outputs
from dekctl.errors import DekctlError, ExitCode
from dekctl.project import Project
from dekctl.workflows.configuration import check_environment

PLACE = Section.CHECK, 3


@click.group(cls=InOrder)
def config() -> None:
    """Show and check dekctl.toml; print its JSON schema."""


@config.command()
@click.pass_obj
def show(state: State) -> None:
    """Show every setting, its value, and where the value comes from.

    Sources are the file, an environment variable, the Terraform outputs, and the default. Secrets
    are not shown, nor are the password and the query of a database URL. It connects to nothing, but
    runs `terraform output` if [env.NAME] names a Terraform root.
    """
    document = read_document(state.config_file, os.environ)
    env, chosen = document.choose(state.env_name, os.environ)
    found = document.config(env, os.environ)
    outputs, problem = _outputs(Project(found))
    values = explain(found, document, outputs, os.environ)
    value = {
        "file": str(document.file),
        "file_from": document.found,
        "env": env,
        "env_from": chosen,
        "settings": [each.as_json() for each in values],
        "problem": problem.message if problem else None,
    }
    lines = [f"file         {document.file} (from {document.found})"]
    lines += [f"environment  {env} (from {chosen})", *_lines(values, document)]
    if problem:
        lines += ["", f"Terraform outputs could not be read: {problem.message}"]
        lines += [f"  {problem.hint}"] if problem.hint else []
    end(state, value, "\n".join(lines), problem.exit_code if problem else ExitCode.OK)


def _outputs(project: Project) -> tuple[Outputs | None, DekctlError | None]:
    try:
        return project.outputs, None
    except DekctlError as error:
        return None, error


def _lines(values: list[Value], document: Document) -> Iterator[str]:
    """One line for each value, in columns, under its section."""
    shown = [_text(value) for value in values]
    names, texts = max(len(v.setting) for v in values), min(60, max(map(len, shown)))
    section = ""
    for value, text in zip(values, shown, strict=True):
        if value.section != section:
            section = value.section
            yield from ("", section)
        yield f"  {value.setting.ljust(names)}  {text.ljust(texts)}  {_source(value, document)}"


def _text(value: Value) -> str:
    if value.value is None:
        return "-"
    text = value.value
    return text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)


def _source(value: Value, document: Document) -> str:
    variables = ", ".join(f"${name}" for name in value.variables)
    return {
        "file": document.file.name,
        "environment": f"{variables}, which is not set" if value.missing else variables,
        "terraform": "Terraform outputs",
        "default": "default" if value.value is not None else "not set",
    }[value.source]


@config.command()
@click.pass_obj
def check(state: State) -> None:
    """Check dekctl.toml, the variables it reads, and the files it names.

    Connects to nothing and does not run Terraform: dekctl doctor checks the database, the Terraform
    outputs and the KEKs. Without --env or DEKCTL_ENV, every environment in the file is checked.
    """
    document = read_document(state.config_file, os.environ)
    one = state.env_name or os.environ.get("DEKCTL_ENV")
    envs = [document.choose(one, os.environ)[0]] if one else list(document.envs)
    checks = [each for env in envs for each in check_environment(document, env, os.environ)]
    failed = [each for each in checks if not each.ok]
    lines = [f"file  {document.file} (from {document.found})"]
    for each in checks:
        lines.append(f"{'ok  ' if each.ok else 'FAIL'}  {each.name}: {each.detail}")
        lines += [f"      hint: {each.hint}"] if each.hint else []
    value: dict[str, Any] = {
        "ok": not failed,
        "file": str(document.file),
        "checks": [each.as_json() for each in checks],
    }
    end(state, value, "\n".join(lines), failed[0].code if failed else ExitCode.OK)


@config.command()
@click.pass_obj
def schema(state: State) -> None:
    """Print the JSON schema of dekctl.toml, for editors.

    Save it as dekctl.schema.json beside dekctl.toml. The first line of dekctl.toml names it:
    #:schema ./dekctl.schema.json
    """
    found = json_schema()
    state.terminal.result(found, json.dumps(found, indent=2, ensure_ascii=False))
