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
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TextIO

import click

from dekctl.cli.formats import DEFAULT, FORMATS
from dekctl.cli.hints import Place
from dekctl.errors import DekctlError, RefusedError
from dekctl.wording import printable

_VERDICTS = {"ok": "green", "warn": "yellow", "FAIL": "red", "NO": "red"}
_VERDICT = re.compile(r"^(?:(?:ok|warn|FAIL)(?=  )|(?<=  )(?:ok|NO)(?=  ))", re.MULTILINE)
"""How `doctor` and `retire` begin the line of a check."""


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
    place: Place = field(default_factory=Place)
    """From where the person runs dekctl; hints are written for it."""
    context: dict[str, Any] = field(default_factory=dict)
    """What each line of ``--log-format json`` bears: command, env and run_id, as far as known."""
    _live: str = ""
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def result(self, value: dict[str, Any], text: str) -> None:
        """Print a command's result, once.

        Args:
            value: the result as plain values; its field names are public.
            text: the same for people.
        """
        text = printable(self.exact(text), lines=True)
        if self.format == DEFAULT:
            text = _VERDICT.sub(lambda m: _coloured(m[0], _VERDICTS[m[0]], sys.stdout), text)
        echo(FORMATS[self.format](self._exact_hints(value), text))

    def note(self, message: str, **fields: Any) -> None:
        """Print something that is not the result."""
        if not self.quiet:
            self._line("note", self.exact(message), fields)

    def error(self, error: DekctlError) -> None:
        """Print the error that ended the command, and the next command."""
        code = int(error.exit_code)
        hint = self.place.runnable(error.hint, error.table) if error.hint else None
        message = error.message
        if error.table is not None and error.table not in message:
            message = f"[[table]] {error.table}: {message}"
        self._line("error", message, {"hint": hint, "exit_code": code})

    def exact(self, text: str) -> str:
        """Make the commands in a text runnable as printed, from where the person stands."""
        return self.place.runnable(text)

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
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            line = {"time": now, "level": level, "message": message, **self.context, **fields}
            echo(json.dumps(line, default=str), err=True)
            return
        message = printable(message, lines=True)
        with self._lock:
            self._wipe()
            if level == "error":
                message = f"{_coloured('error:', 'red', sys.stderr)} {message}"
            echo(message, err=True)
            if fields.get("hint"):
                hint = printable(fields["hint"], lines=True)
                echo(f"{_coloured('hint:', 'cyan', sys.stderr)} {hint}", err=True)
            if self._live:
                echo(self._live, nl=False, err=True)

    # -- the line that moves ---------------------------------------------------------------------

    @property
    def is_live(self) -> bool:
        """Whether stderr is a terminal on which a line can be rewritten."""
        return sys.stderr.isatty() and not (self.log_json or self.quiet)

    def live(self, text: str) -> None:
        """Rewrite the moving line; notes are printed above it. Only where :attr:`is_live`."""
        with self._lock:
            self._wipe()
            self._live = printable(text)[: shutil.get_terminal_size().columns - 1]
            echo(self._live, nl=False, err=True)

    def end_live(self) -> None:
        """Remove the moving line."""
        with self._lock:
            self._wipe()
            self._live = ""

    def _wipe(self) -> None:
        if self._live:
            echo(f"\r{' ' * len(self._live)}\r", nl=False, err=True)

    def asks(self, facts: Callable[[], str], *, word: str | None) -> Callable[[], None]:
        """How a workflow asks before it destroys something.

        Args:
            facts: what the person should know; called when the guards have passed.
            word: what has to be typed to go ahead; None where y is enough.
        """

        def ask() -> None:
            if not self.confirm(facts, word):
                raise RefusedError(
                    "not confirmed; nothing was changed",
                    hint="run the same command on a terminal, or with --yes to go ahead",
                )

        return ask

    def confirm(self, facts: Callable[[], str], word: str | None) -> bool:
        """Ask a person. Without a terminal the answer is no."""
        if not sys.stdin.isatty():
            return False
        echo(printable(self.exact(facts()), lines=True), err=True)
        if word is None:
            return click.confirm("Go ahead?", err=True)
        question = f"Type the environment's name to go ahead ({printable(word)})"
        typed = click.prompt(question, default="", show_default=False, err=True)
        return str(typed).strip() == word


def _coloured(text: str, colour: str, stream: TextIO) -> str:
    """A text in colour, where a terminal shows it and NO_COLOR is not set (no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty()
    return text if plain else click.style(text, fg=colour, bold=True)
