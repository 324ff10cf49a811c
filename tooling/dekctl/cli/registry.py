"""Finds the commands: each file of ``cli/commands/`` is one, under the file's name.

A file may have a ``PLACE``, its section and position in ``dekctl --help``; a command without one is
listed last. Only a command that runs is imported, with SQLAlchemy, boto3 and whatever else it
needs; for ``dekctl --help`` the sources of the others are read instead.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import pkgutil
from enum import StrEnum
from functools import cache
from pathlib import Path

import click


class Section(StrEnum):
    """The headings of ``dekctl --help``, in the order in which a migration needs them."""

    CHECK = "Check first"
    MIGRATE = "Migrate to wrapped keys"
    ROTATE = "Rotate the KEK"
    UNDO = "Undo"
    EVIDENCE = "Evidence"
    OTHER = "Other commands"


Place = tuple[Section, int]
_PACKAGE = f"{__package__}.commands"
_FOLDER = Path(__file__).with_name("commands")


def manual_epilog(path: str) -> str:
    """Examples and exit codes of a command; imported when a help is shown."""
    from dekctl.cli.manual import epilog  # noqa: PLC0415

    return epilog(path)


def refuse_unknown_command(ctx: click.Context, name: str, known: list[str]) -> None:
    """Refuse a name that is no command, and say which one may be meant, in whatever group.

    Raises:
        click.UsageError: there is no such command.
    """
    if name in known or name.startswith("-"):
        return
    error = click.UsageError(f"there is no command {name!r}", ctx)
    everywhere = {each: each for each in names()}
    everywhere |= {name: f"schema {name}" for name in ("expand", "contract")}
    here = {each: each for each in known}
    for meant, prefix in ((here, ctx.command_path), (everywhere, "dekctl")):
        if near := difflib.get_close_matches(name, meant, n=1):
            error.dekctl_hint = f"did you mean: {prefix} {meant[near[0]]}"  # type: ignore[attr-defined]
            break
    raise error


class Documented(click.Command):
    """A command whose help ends with its examples and exit codes."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write them."""
        self.epilog = manual_epilog(ctx.command_path.partition(" ")[2])
        super().format_epilog(ctx, formatter)


class InOrder(click.Group):
    """A group that lists its commands in the order of its file."""

    command_class = Documented

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write examples and exit codes."""
        self.epilog = manual_epilog(ctx.command_path.partition(" ")[2])
        super().format_epilog(ctx, formatter)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command, or say which one may be meant."""
        refuse_unknown_command(ctx, args[0], list(self.commands))
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The names of the commands."""
        return list(self.commands)


@cache
def names() -> tuple[str, ...]:
    """The names of all commands. None of them is imported."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules([str(_FOLDER)])))


def load(name: str) -> click.Command:
    """Import a command: ``wrap`` need not wait for what ``report`` needs."""
    command: click.Command = getattr(importlib.import_module(f"{_PACKAGE}.{name}"), name)
    return command


def by_section() -> dict[Section, dict[str, str]]:
    """The commands as ``dekctl --help`` lists them: name and help text. None is imported."""
    sources = {name: ast.parse(_FOLDER.joinpath(f"{name}.py").read_bytes()) for name in names()}
    places = {name: _place(source) for name, source in sources.items()}
    return {
        section: {
            name: _help(sources[name], name)
            for name in sorted(found, key=lambda name: places[name][1])
        }
        for section in Section
        if (found := [name for name in names() if places[name][0] is section])
    }


def _place(source: ast.Module) -> Place:
    for node in source.body:
        match node:
            case ast.Assign(
                targets=[ast.Name("PLACE")],
                value=ast.Tuple([ast.Attribute(ast.Name("Section"), section), ast.Constant(place)]),
            ):
                return Section[section], int(str(place))
    return Section.OTHER, 0


def _help(source: ast.Module, command: str) -> str:
    """The docstring of the function that is the command."""
    for node in source.body:
        if isinstance(node, ast.FunctionDef) and node.name == command:
            return ast.get_docstring(node) or ""
    return ""
