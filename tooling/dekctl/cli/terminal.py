"""Everything dekctl says. The rules:

stdout is the result: text for people, or exactly one JSON object with ``--json``. Everything else
(progress, notes, questions, errors) is on stderr. An error is ``error: …``, then ``hint: …`` with
the next command. With ``--log-format json`` each line on stderr is a JSON object.
"""

from __future__ import annotations

import json
import re
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import click

from dekctl.cli.commands import MODULES
from dekctl.errors import DekctlError
from dekctl.walk.tally import Tally

_COMMAND = re.compile(rf"\bdekctl (?=(?:{'|'.join(MODULES)})\b)")
LINE_EVERY_SECONDS = 10.0
"""How often progress is reported where stderr is no terminal."""


@dataclass(slots=True)
class Terminal:
    """Where and how to talk."""

    as_json: bool = False
    log_json: bool = False
    quiet: bool = False
    chosen: str = ""
    """The given options that decide what a command works with, to be repeated in the next one."""

    def result(self, value: dict[str, Any], text: str) -> None:
        """Print a command's result, once."""
        click.echo(json.dumps(value, default=str) if self.as_json else text)

    def note(self, message: str, **fields: Any) -> None:
        """Say something that is not the result."""
        if not self.quiet:
            self._line("note", self.exact(message), fields)

    def error(self, error: DekctlError) -> None:
        """Report what stopped the command, and the next one."""
        code = int(error.exit_code)
        hint = self.exact(error.hint) if error.hint else None
        self._line("error", error.message, {"hint": hint, "exit_code": code})

    def exact(self, text: str) -> str:
        """A text whose commands run as they stand: with the options that were given here."""
        if not self.chosen:
            return text
        return _COMMAND.sub(lambda _: f"dekctl {self.chosen} ", text)

    def _line(self, level: str, message: str, fields: dict[str, Any]) -> None:
        if self.log_json:
            click.echo(json.dumps({"level": level, "message": message, **fields}), err=True)
            return
        click.echo(f"{level}: {message}" if level == "error" else message, err=True)
        if fields.get("hint"):
            click.echo(f"hint: {fields['hint']}", err=True)

    def confirm(self, question: str, *, yes: bool) -> bool:
        """Ask before something is destroyed. No terminal and no ``--yes`` is a no."""
        if yes:
            return True
        if not sys.stdin.isatty():
            return False
        return click.confirm(question, err=True)


@dataclass(slots=True)
class ProgressLine:
    """Shows how far a walk is: one line that is rewritten on a terminal, else a line now and then.

    Called from the engine's threads, one call at a time.
    """

    terminal: Terminal
    operation: str
    started: float = field(default_factory=time.monotonic)
    shown: float = 0.0
    length: int = 0

    def begin(self) -> None:
        """Say that the walk is on, before the first page can be done."""
        if not self.terminal.quiet:
            self.terminal.note(f"{self.operation}: begun")

    def __call__(self, tally: Tally) -> None:
        if self.terminal.quiet:
            return
        now = time.monotonic()
        live = sys.stderr.isatty() and not self.terminal.log_json
        if self.shown and now - self.shown < (0.1 if live else LINE_EVERY_SECONDS):
            return
        self.shown = now
        seconds = max(now - self.started, 0.001)
        handled = tally.changed + tally.proved + tally.quarantined
        text = (
            f"{self.operation}: {tally.scanned:,} rows read, {handled:,} handled, "
            f"{handled / seconds:,.0f} a second"
        )
        if tally.quarantined:
            text += f", {tally.quarantined:,} set aside"
        if live:
            click.echo("\r" + text.ljust(self.length), nl=False, err=True)
            self.length = len(text)
        else:
            self.terminal.note(text, scanned=tally.scanned, handled=handled)

    def close(self) -> None:
        """End the live line."""
        if self.length:
            click.echo("", err=True)
            self.length = 0
