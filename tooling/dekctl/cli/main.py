"""``dekctl``: its global options, its help, and the one place where errors become exit codes."""

from __future__ import annotations

import atexit
import gc
import itertools
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import click
from click.shell_completion import CompletionItem

from dekctl import __version__
from dekctl.cli import completion
from dekctl.cli.formats import DEFAULT, FORMATS
from dekctl.cli.hints import Place
from dekctl.cli.registry import by_section, load, manual_epilog, names, refuse_unknown_command
from dekctl.cli.state import State
from dekctl.cli.terminal import Terminal, echo, take_any_text
from dekctl.errors import DekctlError, ExitCode, InterruptError, UsageError
from dekctl.garbage import rare_collections

MAKE_VARIABLE = "DEKCTL_MAKE_ENV"
"""Set by the Makefile to its ENV. Its own exit status says nothing, so that is printed."""
Command = TypeVar("Command", bound=Callable[..., Any])


class Group(click.Group):
    """Turns dekctl's errors, and click's own, into ``error:``, ``hint:`` and the exit code."""

    def main(  # type: ignore[override]  # click tells the modes apart by overloads
        self, args: Sequence[str] | None = None, *, standalone_mode: bool = True, **extra: Any
    ) -> Any:
        given = global_options_first(self, list(sys.argv[1:] if args is None else args))
        # For errors before the options are parsed, or after the command has ended.
        place = Place(_among(given), make_env=os.environ.get(MAKE_VARIABLE))
        fallback = Terminal(log_json=_asks_for_json(given), place=place)
        try:
            code = super().main(given, standalone_mode=False, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()  # the help itself
            code = int(ExitCode.USAGE)
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            path = context.command_path if context else "dekctl"
            hint = getattr(error, "dekctl_hint", None) or f"run: {path} --help"
            usage = UsageError(error.format_message(), hint=hint)
            code = _report(_terminal(context, fallback), usage)
        except click.Abort:  # Ctrl-C at a question, or while no row was being processed
            stopped = InterruptError("interrupted", hint="run the same command again")
            code = _report(fallback, stopped)
        if isinstance(code, int) and code and os.environ.get(MAKE_VARIABLE):
            fallback.note(f"exit code {code} of dekctl; see: dekctl --help", exit_code=code)
        if standalone_mode:
            sys.exit(code if isinstance(code, int) else 0)
        return code

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(names())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        return load(cmd_name) if cmd_name in names() else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        refuse_unknown_command(ctx, args[0], list(names()))
        return super().resolve_command(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.epilog = manual_epilog("")
        super().format_epilog(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands in the order of a migration, each with a whole sentence."""
        width = max(map(len, names()))
        for section, commands in by_section().items():
            with formatter.section(section):
                formatter.write_dl(
                    [
                        (name.ljust(width), click.Command(name, help=text).get_short_help_str(200))
                        for name, text in commands.items()
                    ]
                )

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands with their help, without importing any; options as Click has them."""
        found = [
            CompletionItem(name, help=click.Command(name, help=text).get_short_help_str(80))
            for commands in by_section().values()
            for name, text in commands.items()
            if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DekctlError as error:
            return _end(ctx, error, error)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except OSError as error:  # of a file, a disk or a terminal, and no bug
            where = f" ({error.filename})" if error.filename else ""
            hint = "correct that, then run the same command again; --debug shows where it happened"
            said = DekctlError(f"{error.strerror or type(error).__name__}{where}", hint=hint)
            return _end(ctx, error, said)
        except Exception as error:
            # The message of an unexpected error may quote anything, even a key: show its type only.
            said = DekctlError(
                f"unexpected {type(error).__name__}",
                hint="this is a bug; run the same command with --debug and report the output",
            )
            return _end(ctx, error, said)


def global_options_first(group: click.Group, arguments: list[str]) -> list[str]:
    """Put dekctl's own options first, so that they may stand anywhere on the line.

    Arguments after ``--`` stay where they are.
    """
    options = {
        name: param.is_flag or param.count
        for param in group.params
        if isinstance(param, click.Option)
        for name in param.opts
        if name != "--version"
    }
    first: list[str] = []
    rest: list[str] = []
    left = iter(arguments)
    for argument in left:
        if argument == "--":
            rest += [argument, *left]
        elif argument.partition("=")[0] not in options:
            rest.append(argument)
        elif options[argument.partition("=")[0]] or "=" in argument:
            first.append(argument)
        else:
            first += [argument, *itertools.islice(left, 1)]
    return first + rest


def _end(ctx: click.Context, error: Exception, said: DekctlError) -> NoReturn:
    """Show an error, with --debug where it happened, and end with its exit code."""
    _terminal(ctx).error(said)
    if ctx.params.get("debug"):
        echo("".join(traceback.format_tb(error.__traceback__)), err=True)
    ctx.exit(int(said.exit_code))


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


def _among(arguments: Sequence[str]) -> str:
    """The same as :func:`_chosen`, of arguments that were not parsed; global options are first."""
    values = {
        name: value
        for name, value in itertools.pairwise(arguments)
        if name in ("--env", "--config") and not value.startswith("-")
    }
    own = "--no-assume-role" in arguments
    return _chosen(values.get("--env"), values.get("--config"), no_assume_role=own)


def _chosen(env: str | None, config: str | None, *, no_assume_role: bool) -> str:
    """The given options that choose configuration and environment, as a shell needs them."""
    options = [*(["--env", env] if env else []), *(["--config", config] if config else [])]
    return shlex.join([*options, *(["--no-assume-role"] if no_assume_role else [])])


def format_options(command: Command) -> Command:
    """Add an option for each output format but the default: ``--json``."""
    for name, function in reversed(FORMATS.items()):
        if name != DEFAULT:
            what = (function.__doc__ or name).partition("\n")[0].strip(".")
            command = click.option(
                f"--{name}",
                "output",
                flag_value=name,
                default=DEFAULT,
                help=f"Print the result as {what[0].lower()}{what[1:]}.",
            )(command)
    return command


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dekctl")
@click.option(
    "--env",
    "env_name",
    metavar="NAME",
    shell_complete=completion.environments,
    help="Environment, [env.NAME] (default: $DEKCTL_ENV, then the only one in the file).",
)
@click.option(
    "--config",
    "config_file",
    metavar="FILE",
    shell_complete=completion.files,
    help="Configuration file (default: $DEKCTL_CONFIG, then dekctl.toml here or above).",
)
@format_options
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    help="Format of the messages on stderr.",
    show_default=True,
)
@click.option("--quiet", is_flag=True, help="Print no progress and no notes on stderr.")
@click.option(
    "--no-assume-role", is_flag=True, help="Use your own AWS identity instead of the roles."
)
@click.option("--debug", is_flag=True, help="Print a traceback with an error.")
@click.pass_context
def cli(
    ctx: click.Context,
    env_name: str | None,
    config_file: str | None,
    output: str,
    log_format: str,
    quiet: bool,
    no_assume_role: bool,
    debug: bool,  # noqa: ARG001 - read by Group.invoke
) -> None:
    """Turn an application's plaintext data keys (DEKs) into wrapped ones, and rotate the KMS key.

    The usual order: doctor, migrate, deploy the application that reads wrapped keys, migrate again,
    scrub, schema contract.
    """
    terminal = Terminal(
        format=output,
        log_json=log_format == "json",
        quiet=quiet,
        place=Place(
            _chosen(env_name, config_file, no_assume_role=no_assume_role),
            make_env=os.environ.get(MAKE_VARIABLE),
        ),
    )
    terminal.context["command"] = ctx.invoked_subcommand
    ctx.obj = State(terminal, config_file, env_name, assume_role=not no_assume_role)


def main() -> None:
    """Entry point of the console script."""
    take_any_text()
    atexit.register(gc.freeze)  # or the interpreter, as it ends, looks through every module again
    with rare_collections():
        sys.exit(cli.main(standalone_mode=True, prog_name="dekctl"))
