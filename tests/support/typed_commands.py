"""Commands as pages print them: each word of a ``dekctl`` or ``make`` line must exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import click

from dekctl.cli.main import cli, global_options_first
from support.reference import every_command

MAKEFILE = Path(__file__).parents[2] / "Makefile"
_ASSIGNMENT = re.compile(r"(\w+)=(.*)", re.DOTALL)
_ENDS_COMMAND = re.compile(r"[;&|<>()]+")


def commands_of(line: str) -> Iterator[list[str]]:
    """The words of each simple command of a shell line, without redirections and variables.

    Raises:
        ValueError: a quote is not closed.
    """
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    skip = False
    for word in [*lexer, ";"]:
        if _ENDS_COMMAND.fullmatch(word):
            if words and words[-1].isdecimal() and word[0] in "<>":
                words.pop()  # the number of a stream
            if words:
                yield words
            words, skip = [], word[0] in "<>"
        elif not skip and (words or not _ASSIGNMENT.fullmatch(word)):
            words.append(word)


def refuse_unknown(words: list[str], *, whole: bool = True) -> None:
    """Fail unless a command of dekctl or make exists, with its options; others are not looked at.

    ``whole`` is False for a mention, which may leave out arguments.

    Raises:
        ValueError: what does not exist, in words.
    """
    match words:
        case ["dekctl", *rest]:
            _refuse_unknown_dekctl(rest, whole=whole)
        case ["make", *rest]:
            _refuse_unknown_make(rest, whole=whole)


def _refuse_unknown_dekctl(words: list[str], *, whole: bool) -> None:
    try:
        context = cli.make_context("dekctl", global_options_first(cli, words))
    except click.exceptions.Exit:  # --help, --version
        return
    except click.ClickException as error:
        raise ValueError(error.format_message()) from None
    rest, path = [*context._protected_args, *context.args], ""
    known = every_command()
    while rest and f"{path} {rest[0]}".strip() in known:
        path = f"{path} {rest.pop(0)}".strip()
    command = known[path]
    if isinstance(command, click.Group) and not rest:
        if whole:
            raise ValueError(f"{path} needs a command")
        return
    place = SimpleNamespace(terminal=SimpleNamespace(place=SimpleNamespace()))
    try:
        command.make_context(path, rest, obj=place)
    except click.exceptions.Exit:
        return
    except (click.MissingParameter, click.BadOptionUsage) as error:
        if whole:
            raise ValueError(error.format_message()) from None
    except click.ClickException as error:
        if "does not exist" not in error.message:  # of a file, which comes last
            raise ValueError(error.format_message()) from None
    if isinstance(command, click.Group):
        raise ValueError(f"there is no command {rest[0]} in {path}")


@cache
def _makefile() -> tuple[dict[str, str], set[str]]:
    """The targets, each with the dekctl command that it runs, if any; and the variables."""
    text = MAKEFILE.read_text(encoding="utf-8")
    targets = dict.fromkeys(re.findall(r"^([a-z][a-z-]*):(?!=)", text, re.MULTILINE), "")
    recipes = r"^([a-z-]+): outputs.*\n\t@\$\(DEKCTL\) (.*)$"
    return targets | dict(re.findall(recipes, text, re.MULTILINE)), {
        *re.findall(r"^([A-Z_]+) \?=", text, re.MULTILINE),
        *re.findall(r"\$\(([A-Z]+)\)", text),
    }


def _refuse_unknown_make(words: list[str], *, whole: bool) -> None:
    targets, variables = _makefile()
    given = {f[1]: f[2] for word in words if (f := _ASSIGNMENT.fullmatch(word))}
    named = [word for word in words if not _ASSIGNMENT.fullmatch(word)]
    unknown = [word for word in named if word not in targets] + sorted({*given} - variables)
    if unknown:
        raise ValueError(f"the Makefile does not know {unknown}")
    for target in named:
        if recipe := targets[target]:
            line = re.sub(r"\$\((\w+)\)", lambda found: given.get(found[1], ""), recipe)
            _refuse_unknown_dekctl(shlex.split(line), whole=whole)
