"""``dekctl``: the group, its global options, and the one place where errors become exit codes."""

from __future__ import annotations

import importlib
import itertools
import shlex
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from dekctl import __version__
from dekctl.cli.commands import MODULES
from dekctl.cli.state import State
from dekctl.cli.terminal import Terminal
from dekctl.errors import DekctlError, ExitCode, UsageError


class Group(click.Group):
    """Turns dekctl's errors, and click's own, into ``error:``, ``hint:`` and the exit code.

    A command's module is imported when it is asked for: ``wrap`` need not wait for Alembic.
    """

    def main(  # type: ignore[override]  # click tells the modes apart by overloads
        self, args: Sequence[str] | None = None, *, standalone_mode: bool = True, **extra: Any
    ) -> Any:
        given = list(sys.argv[1:] if args is None else args)
        # For what goes wrong before the options are parsed, or where no command is on any more.
        fallback = Terminal(log_json=_asks_for_json(given))
        try:
            code = super().main(given, standalone_mode=False, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()  # the help itself
            code = int(ExitCode.USAGE)
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            path = context.command_path if context else "dekctl"
            hint = f"see: {path} --help"
            usage = UsageError(error.format_message(), hint=hint)
            code = _report(_terminal(context, fallback), usage)
        except click.Abort:  # Ctrl-C where no walk was on, or at a question
            stopped = InterruptError("interrupted", hint="run the same command again")
            code = _report(fallback, stopped)
        if standalone_mode:
            sys.exit(code if isinstance(code, int) else 0)
        return code

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return sorted(MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in MODULES:
            return None
        module = importlib.import_module(f"dekctl.cli.{MODULES[cmd_name]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DekctlError as error:
            _terminal(ctx).error(error)
            if ctx.params.get("debug"):
                click.echo("".join(traceback.format_tb(error.__traceback__)), err=True)
            ctx.exit(int(error.exit_code))
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            # The message of an unforeseen error may quote anything, a key too: only its type shows.
            _terminal(ctx).error(
                DekctlError(
                    f"unexpected {type(error).__name__}",
                    hint="this is a bug; run the same command with --debug and report the lines",
                )
            )
            if ctx.params.get("debug"):
                click.echo("".join(traceback.format_tb(error.__traceback__)), err=True)
            ctx.exit(int(ExitCode.ERROR))


class InterruptError(DekctlError):
    """Ctrl-C ended a command that was not walking rows; those end with what they have done."""

    exit_code = ExitCode.INTERRUPTED


def _terminal(ctx: click.Context | None, fallback: Terminal | None = None) -> Terminal:
    obj = ctx.find_root().obj if ctx else None
    return obj.terminal if isinstance(obj, State) else fallback or Terminal()


def _report(terminal: Terminal, error: DekctlError) -> int:
    terminal.error(error)
    return int(error.exit_code)


def _asks_for_json(arguments: Sequence[str]) -> bool:
    """Whether ``--log-format json`` is among the arguments."""
    pairs = itertools.pairwise(arguments)
    return "--log-format=json" in arguments or ("--log-format", "json") in pairs


def _chosen(env: str | None, config: str | None, *, no_assume_role: bool) -> str:
    """The given options that decide what a command works with."""
    options = [*(["--env", env] if env else []), *(["--config", config] if config else [])]
    return shlex.join([*options, *(["--no-assume-role"] if no_assume_role else [])])


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dekctl")
@click.option("--env", "env_name", metavar="NAME", help="Pick [env.NAME]; else DEKCTL_ENV.")
@click.option("--config", "config_file", metavar="FILE", help="Else DEKCTL_CONFIG or dekctl.toml.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text")
@click.option("--quiet", is_flag=True, help="No progress and no notes on stderr.")
@click.option("--no-assume-role", is_flag=True, help="Use the ambient AWS identity as it is.")
@click.option("--debug", is_flag=True, help="Show where an error came from.")
@click.pass_context
def cli(
    ctx: click.Context,
    env_name: str | None,
    config_file: str | None,
    as_json: bool,
    log_format: str,
    quiet: bool,
    no_assume_role: bool,
    debug: bool,  # noqa: ARG001 - read by Group.invoke
) -> None:
    """Move an application's data keys under AWS KMS, and rotate them, without losing one."""
    terminal = Terminal(
        as_json=as_json,
        log_json=log_format == "json",
        quiet=quiet,
        chosen=_chosen(env_name, config_file, no_assume_role=no_assume_role),
    )
    ctx.obj = State(terminal, config_file, env_name, assume_role=not no_assume_role)


def main() -> None:
    """Entry point of the console script."""
    sys.exit(cli.main(standalone_mode=True))
