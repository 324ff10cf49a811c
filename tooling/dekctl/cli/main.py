"""``dekctl``: the group, its global options, and the one place where errors become exit codes."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from dekctl import __version__
from dekctl.cli.state import State
from dekctl.cli.terminal import Terminal
from dekctl.errors import DekctlError, ExitCode, UsageError

MODULES = {
    "audit": "audit",
    "doctor": "doctor",
    "guard": "guard",
    "migrate": "rows",
    "report": "report",
    "residue": "residue",
    "restore": "rows",
    "retire": "retire",
    "rewrap": "rows",
    "rollback": "rollback",
    "schema": "schema",
    "scrub": "rows",
    "status": "status",
    "verify": "rows",
    "wrap": "rows",
}
"""Each command and the module of :mod:`dekctl.cli` that has it under its own name."""


class Group(click.Group):
    """Turns dekctl's errors, and click's own, into ``error:``, ``hint:`` and the exit code.

    A command's module is imported when it is asked for: ``wrap`` need not wait for Alembic.
    """

    def main(  # type: ignore[override]  # click tells the modes apart by overloads
        self, args: Sequence[str] | None = None, *, standalone_mode: bool = True, **extra: Any
    ) -> Any:
        try:
            code = super().main(args, standalone_mode=False, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()  # the help itself
            code = int(ExitCode.USAGE)
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            path = context.command_path if context else "dekctl"
            hint = f"see: {path} --help"
            code = _report(context, UsageError(error.format_message(), hint=hint))
        except click.Abort:  # Ctrl-C where no walk was on, or at a question
            code = _report(None, InterruptError("interrupted", hint="run the same command again"))
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


def _terminal(ctx: click.Context | None) -> Terminal:
    obj = ctx.find_root().obj if ctx else None
    return obj.terminal if isinstance(obj, State) else Terminal()


def _report(ctx: click.Context | None, error: DekctlError) -> int:
    _terminal(ctx).error(error)
    return int(error.exit_code)


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
        chosen=f"--env {env_name}" if env_name else "",
    )
    ctx.obj = State(terminal, config_file, env_name, assume_role=not no_assume_role)


def main() -> None:
    """Entry point of the console script."""
    sys.exit(cli.main(standalone_mode=True))
