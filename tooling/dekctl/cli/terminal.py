"""Everything that dekctl prints. The rules:

The result goes to stdout, once, in one of the formats of :mod:`dekctl.cli.formats`. Everything else
(progress, notes, questions, errors) goes to stderr. An error is ``error: …``, then ``hint: …`` with
the next command. With ``--log-format json`` each line on stderr is a JSON object.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from dekctl.cli.formats import DEFAULT, FORMATS
from dekctl.cli.registry import names
from dekctl.errors import DekctlError, RefusedError
from dekctl.wording import printable

if TYPE_CHECKING:  # `dekctl --help` needs no database
    from dekctl.walk.counts import RowCounts

_COMMAND = re.compile(rf"\bdekctl (?=(?:{'|'.join(names())})\b)")
LINE_EVERY_SECONDS = 10.0
"""How often progress is reported if stderr is not a terminal."""


def take_any_text() -> None:
    """Let stdout and stderr show what their encoding lacks as an escape, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not where a test or a library replaced it
            stream.reconfigure(errors="backslashreplace")


def echo(text: str, *, nl: bool = True, err: bool = False) -> None:
    """Print. Where nobody reads any more (``dekctl … | head``), the command goes on and ends well.

    Raises:
        DekctlError: it cannot be written, for example because a disk is full.
    """
    try:
        click.echo(text, nl=nl, err=err)
    except BrokenPipeError:
        stream = sys.stderr if err else sys.stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # for what it still holds, too
    except OSError as error:
        raise DekctlError(
            f"cannot write to {'stderr' if err else 'stdout'}: {error.strerror}",
            hint="what the command was to do is done; see: dekctl status",
        ) from None


@dataclass(slots=True)
class Terminal:
    """How this invocation prints."""

    format: str = DEFAULT
    log_json: bool = False
    quiet: bool = False
    chosen: str = ""
    """The given options that choose configuration and environment; hints repeat them."""

    def result(self, value: dict[str, Any], text: str) -> None:
        """Print a command's result, once.

        Args:
            value: the result as plain values; its field names are public.
            text: the same for people.
        """
        text = printable(self.exact(text), lines=True)
        echo(FORMATS[self.format](self._exact_hints(value), text))

    def note(self, message: str, **fields: Any) -> None:
        """Print something that is not the result."""
        if not self.quiet:
            self._line("note", self.exact(message), fields)

    def error(self, error: DekctlError) -> None:
        """Print the error that ended the command, and the next command."""
        code = int(error.exit_code)
        hint = self.exact(error.hint) if error.hint else None
        self._line("error", error.message, {"hint": hint, "exit_code": code})

    def exact(self, text: str) -> str:
        """Make the commands in a text runnable as printed: with the options given to this one."""
        if not self.chosen:
            return text
        return _COMMAND.sub(lambda _: f"dekctl {self.chosen} ", text)

    def _exact_hints(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._exact_hints(each) for each in value]
        if not isinstance(value, dict):
            return value
        return {
            key: self.exact(each)
            if key == "hint" and isinstance(each, str)
            else self._exact_hints(each)
            for key, each in value.items()
        }

    def _line(self, level: str, message: str, fields: dict[str, Any]) -> None:
        if self.log_json:
            echo(json.dumps({"level": level, "message": message, **fields}), err=True)
            return
        message = printable(message, lines=True)
        echo(f"{level}: {message}" if level == "error" else message, err=True)
        if fields.get("hint"):
            echo(f"hint: {printable(fields['hint'], lines=True)}", err=True)

    def asks(self, question: str, *, yes: bool) -> Callable[[], None] | None:
        """How a workflow asks before it destroys something; None with ``--yes``."""
        return None if yes else partial(self._ask, question)

    def _ask(self, question: str) -> None:
        if not self.confirm(question):
            raise RefusedError("not confirmed; nothing was changed", hint="add --yes to go ahead")

    def confirm(self, question: str) -> bool:
        """Ask a person. Without a terminal the answer is no."""
        return sys.stdin.isatty() and click.confirm(printable(question), err=True)


@dataclass(slots=True)
class ProgressLine:
    """Shows progress: on a terminal one line that is rewritten, else a line every 10 seconds.

    Called from the engine's threads, one call at a time.
    """

    terminal: Terminal
    operation: str
    started: float = field(default_factory=time.monotonic)
    shown: float = 0.0
    length: int = 0

    def begin(self) -> None:
        """Print that the run has started, before its first batch is done."""
        self.terminal.note(f"{self.operation}: started")

    def __call__(self, counts: RowCounts) -> None:
        if self.terminal.quiet:
            return
        now = time.monotonic()
        live = sys.stderr.isatty() and not self.terminal.log_json
        if self.shown and now - self.shown < (0.1 if live else LINE_EVERY_SECONDS):
            return
        self.shown = now
        seconds = max(now - self.started, 0.001)
        handled = counts.changed + counts.proved + counts.quarantined
        text = (
            f"{self.operation}: {counts.scanned:,} rows read, {handled:,} handled, "
            f"{handled / seconds:,.0f} per second"
        )
        if counts.quarantined:
            text += f", {counts.quarantined:,} quarantined"
        if live:
            echo("\r" + text.ljust(self.length), nl=False, err=True)
            self.length = len(text)
        else:
            self.terminal.note(text, scanned=counts.scanned, handled=handled)

    def close(self) -> None:
        """End the live line."""
        if self.length:
            echo("", err=True)
            self.length = 0
