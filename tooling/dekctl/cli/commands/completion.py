"""``dekctl completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from dekctl.cli.registry import Documented, Section
from dekctl.cli.state import State

PLACE = Section.CHECK, 4
_VARIABLE = "_DEKCTL_COMPLETE"
"""By this variable Click tells a completion from a command."""


@click.command(cls=Documented)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a shell completion script.

    It completes commands, options, the values of --env and --table, and names of KEK generations.

    \b
    bash: dekctl completion bash > ~/.local/share/bash-completion/completions/dekctl
    zsh:  dekctl completion zsh > "${fpath[1]}/_dekctl"
    fish: dekctl completion fish > ~/.config/fish/completions/dekctl.fish
    """
    found = get_completion_class(shell)
    assert found is not None
    script = found(ctx.find_root().command, {}, "dekctl", _VARIABLE).source()
    state = ctx.find_object(State)
    assert state is not None
    state.terminal.result({"shell": shell, "script": script}, script)
