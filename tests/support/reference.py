"""docs/commands.md, made of the commands themselves: help, options, exit codes, examples."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from functools import cache

import click

from dekctl.cli import registry
from dekctl.cli.main import cli
from dekctl.cli.manual import EXIT_CODES, MANUAL, VARIABLES


@cache
def every_command() -> dict[str, click.Command]:
    """Each command and each member of a group, by the path that people type."""
    found: dict[str, click.Command] = {"": cli}
    for name in (name for names in registry.by_section().values() for name in names):
        command = registry.load(name)
        found[name] = command
        if isinstance(command, click.Group):
            found |= {f"{name} {member}": each for member, each in command.commands.items()}
    return found


def exit_codes() -> str:
    """The table of exit codes."""
    return table("exit code | meaning", {str(code.value): w for code, w in EXIT_CODES.items()})


def variables() -> str:
    """The table of environment variables."""
    names = {", ".join(f"`{n}`" for n in name.split(", ")): w for name, w in VARIABLES.items()}
    return table("variable | meaning", names)


def global_options() -> str:
    """The table of dekctl's own options."""
    return _options(cli, click.Context(cli, info_name="dekctl"))


def commands() -> str:
    """A section for each command, in the order of ``dekctl --help``."""
    loaded = every_command()
    parts = []
    for section, names in registry.by_section().items():
        parts.append(f"## {section}")
        for path in (p for p in loaded if p.partition(" ")[0] in names):
            parts += _command(path, loaded[path])
    return "\n\n".join(parts)


def _command(path: str, command: click.Command) -> Iterator[str]:
    entry = MANUAL[path]
    context = click.Context(command, info_name=f"dekctl {path}")
    yield f"### `dekctl {path}`"
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        lines = paragraph.removeprefix("\b\n")
        yield lines if lines == paragraph else f"```text\n{inspect.cleandoc(lines)}\n```"
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```text\nUsage: dekctl {path} {usage}\n```"
    if any(isinstance(param, click.Option) for param in command.params):
        yield _options(command, context)
    width = max(len(line) for line, _ in entry.examples)
    examples = [f"$ {line:<{width}}   # {what}" for line, what in entry.examples]
    yield "\n".join(["```console", *examples, "```"])
    codes = ", ".join(str(code.value) for code in entry.codes)
    yield f"Exit codes: {codes}."


def _options(command: click.Command, context: click.Context) -> str:
    rows = {}
    for param in command.params:
        if isinstance(param, click.Option) and not param.hidden:
            names, text = param.get_help_record(context) or ("", "")
            rows[f"`{names}`"] = text.replace("  [", " [")
    return table("option | meaning", rows)


def table(head: str, rows: Mapping[str, str]) -> str:
    """A table of two columns, in Markdown."""
    lines = [f"| {cell(key)} | {cell(value)} |" for key, value in rows.items()]
    return "\n".join([f"| {head} |", "|---|---|", *lines])


def cell(text: str) -> str:
    """A text in a table of Markdown."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
