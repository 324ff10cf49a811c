"""Makes the commands in a text runnable as printed, from where the person stands.

The core names plain commands: ``dekctl rewrap``, ``make apply ENV=staging``. Here they get what the
person gave to this one: the environment, the file, the table. A person who started dekctl by make
gets make's targets; one with a Terraform root of their own gets terraform commands.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import click

from dekctl.cli.registry import load, names

COMMAND = re.compile(rf"\bdekctl (?=(?:{'|'.join(names())})\b)")
_TOKEN = re.compile(r" ((?:'[^']*'|[^\s'])+)")
_PUNCTUATION = ";,.:)`"
_MAKE = re.compile(r"make (plan|apply|destroy|outputs?)\b(?: ENV=[\w-]+)?(?! ALLOW=)")
_PAGE = re.compile(r"(?<![\w/])docs/([\w-]+\.md)")
_ALLOW = re.compile(r" \(make apply ALLOW=\S+\)")
_TARGETS = {
    **{name: name for name in ("migrate", "status", "doctor", "verify", "scrub", "restore")},
    **{name: name for name in ("rollback", "rewrap", "audit", "retire", "report")},
    "schema contract": "contract",
}
"""The targets of the Makefile that are a command; every other one is ``make dekctl ARGS='…'``."""


@dataclass(slots=True)
class Place:
    """From where a person runs dekctl.

    Args:
        chosen: the global options that were given, as a shell takes them.
        table: the table that was given with ``--table``.
        make_env: ENV of the make that started dekctl; None without make.
        terraform: the person's own Terraform root; None where make works in this repository's.
        outputs: the file with the Terraform outputs, for a root that is not known.
        env: the environment, once the configuration was read.
    """

    chosen: str = ""
    table: str | None = None
    make_env: str | None = None
    terraform: str | None = None
    outputs: str | None = None
    env: str | None = None

    def runnable(self, text: str, table: str | None = None) -> str:
        """The text with its commands as this person has to type them.

        ``table`` is the one that the text is about, if it is not :attr:`table`.
        """
        table = table or self.table
        if self.chosen or table or self.make_env:
            text = self._commands(text, table)
        return self._infrastructure(_PAGE.sub(lambda found: page(found[1]), text))

    def _commands(self, text: str, table: str | None) -> str:
        parts: list[str] = []
        at = 0
        for found in COMMAND.finditer(text):
            if found.start() < at:
                continue
            parts.append(text[at : found.start()])
            if not (table or self.make_env):
                parts.append(f"dekctl {self.chosen} ")
                at = found.end()
                continue
            words, at = parse(text, found.end() - 1)
            parts.append(self._written(words, table))
        return "".join([*parts, text[at:]])

    def _written(self, words: Words, table: str | None) -> str:
        arguments = [*words.arguments]
        if table and words.takes_table and "--table" not in " ".join(arguments):
            arguments += ["--table", shlex.quote(table)]
        if self.make_env is None:
            return " ".join(filter(None, ["dekctl", self.chosen, words.path, *arguments]))
        target = _TARGETS.get(words.path, "dekctl")
        line = [f"make {target} ENV={self.make_env}"]
        if target == "dekctl":
            arguments.insert(0, words.path)
        elif target == "retire" and arguments:
            line.append(f"KEK={arguments.pop(0)}")
        elif target == "report" and arguments[:1] == ["--output"]:
            line.append(f"REPORT={arguments[1]}")
            del arguments[:2]
        arguments += _without_env(self.chosen)
        if arguments:
            line.append(f"ARGS={shlex.quote(' '.join(arguments).replace('$', '$$'))}")
        return " ".join(line)

    def _infrastructure(self, text: str) -> str:
        """What concerns Terraform: make's targets, or the person's own root."""
        if self.terraform is None and self.outputs is None:
            env = self.make_env or self.env
            return _MAKE.sub(rf"make \1 ENV={env}", text) if env else text
        root = self.terraform
        text = text.replace(f"terraform/environments/{self.env}", root or "your Terraform root")
        chdir = f" -chdir={shlex.quote(root)}" if root is not None else ""

        def command(found: re.Match[str]) -> str:
            verb = {"outputs": "output", "output": "output"}.get(found[1], found[1])
            saved = f"terraform{chdir} output -json > {shlex.quote(self.outputs or '')}"
            if verb == "output":
                return saved if self.outputs else f"terraform{chdir} output -json"
            then = f" && {saved}" if verb == "apply" and self.outputs else ""
            return f"terraform{chdir} {verb}{then}"

        return _MAKE.sub(command, _ALLOW.sub("", text))


def page(name: str) -> str:
    """Where a page of the documentation is: packed into the wheel, or ``docs/`` in a checkout."""
    here = Path(__file__).resolve()
    packed = here.parents[1] / "_docs"
    file = (packed if packed.is_dir() else here.parents[3] / "docs") / name
    return str(file.relative_to(Path.cwd())) if file.is_relative_to(Path.cwd()) else str(file)


def works_with_make(file: Path, env: str) -> bool:
    """Whether the configuration is this repository's own, whose Makefile applies Terraform."""
    folder = file.absolute().parent
    return (folder / "Makefile").is_file() and (folder / "terraform/environments" / env).is_dir()


@dataclass(frozen=True, slots=True)
class Words:
    """A command as it was found in a text."""

    path: str
    arguments: list[str]
    takes_table: bool


def parse(text: str, at: int) -> tuple[Words, int]:
    """Read a command from a text, from the blank before its name; also returns where it ends."""
    command: click.Command | None = None
    path: list[str] = []
    arguments: list[str] = []
    operands = wanted = 0
    while found := _TOKEN.match(text, at):
        token = found[1]
        bare = token if token.endswith("'") else token.rstrip(_PUNCTUATION)
        if wanted:
            wanted = 0
        elif command is None or (isinstance(command, click.Group) and bare in command.commands):
            command = load(bare) if command is None else command.commands[bare]
            path.append(bare)
            operands = sum(isinstance(param, click.Argument) for param in command.params)
            at = found.start(1) + len(bare)
            if bare != token:
                break
            continue
        elif bare.startswith("--"):
            option = _option(command, bare.partition("=")[0])
            if option is None:
                break
            wanted = not (option.is_flag or "=" in bare)
        elif operands and (bare.isupper() or not bare.isalpha()):
            operands -= 1
        else:
            break
        arguments.append(bare)
        at = found.start(1) + len(bare)
        if bare != token:
            break
    takes_table = command is not None and _option(command, "--table") is not None
    return Words(" ".join(path), arguments, takes_table), at


def _option(command: click.Command, name: str) -> click.Option | None:
    for param in command.params:
        if isinstance(param, click.Option) and name in param.opts:
            return param
    return None


def _without_env(chosen: str) -> list[str]:
    """The chosen options but ``--env``, which make gives by itself."""
    words = shlex.split(chosen)
    if "--env" in words:
        place = words.index("--env")
        del words[place : place + 2]
    return [shlex.quote(word) for word in words]
