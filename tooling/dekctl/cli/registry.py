"""Finds the commands: each file of ``cli/commands/`` is one, under the file's name.

A file may have a ``PLACE``, its section and position in ``dekctl --help``; a command without one is
listed last.
"""

from __future__ import annotations

import importlib
import pkgutil
from enum import StrEnum
from functools import cache
from pathlib import Path
from types import ModuleType

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


class InOrder(click.Group):
    """A group that lists its commands in the order of its file."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The names of the commands."""
        return list(self.commands)


@cache
def names() -> tuple[str, ...]:
    """The names of all commands. None of them is imported."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules([str(_FOLDER)])))


def load(name: str) -> click.Command:
    """Import a command: ``wrap`` need not wait for what ``report`` needs."""
    command: click.Command = getattr(_module(name), name)
    return command


def by_section() -> dict[Section, list[click.Command]]:
    """All commands as ``dekctl --help`` lists them."""
    placed: dict[str, Place] = {
        name: getattr(_module(name), "PLACE", (Section.OTHER, 0)) for name in names()
    }
    return {
        section: [load(name) for name in sorted(found, key=lambda name: placed[name][1])]
        for section in Section
        if (found := [name for name in names() if placed[name][0] is section])
    }


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{_PACKAGE}.{name}")
