"""What a shell completes where only the configuration knows the values: environments, tables, KEKs.

Whatever is wrong with the configuration, a completion says nothing: the command itself will.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import Any

import click
from click.shell_completion import CompletionItem

from dekctl.errors import DekctlError

Names = Callable[[str | None, str | None], list[str]]
Completion = Callable[[click.Context, click.Parameter, str], list[str]]


def _completes(names: Names) -> Completion:
    """Turn a list of names for the given --config and --env into what Click asks."""

    @wraps(names)
    def complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
        given = ctx.find_root().params
        try:
            found = names(given.get("config_file"), given.get("env_name"))
        except DekctlError:
            return []
        return [name for name in found if name.startswith(incomplete)]

    return complete


@_completes
def environments(config_file: str | None, _env: str | None) -> list[str]:
    """The environments in the file."""
    from dekctl.config.file import read_document  # noqa: PLC0415 - only where somebody presses Tab

    return list(read_document(config_file, os.environ).envs)


@_completes
def tables(config_file: str | None, env: str | None) -> list[str]:
    """The tables in the file."""
    from dekctl.config import load_config  # noqa: PLC0415

    return [table.name for table in load_config(config_file, env).tables]


@_completes
def generations(config_file: str | None, env: str | None) -> list[str]:
    """The generations of the KEKs in the Terraform outputs."""
    from dekctl.config import load_config  # noqa: PLC0415
    from dekctl.config.outputs import load_outputs  # noqa: PLC0415

    outputs = load_outputs(load_config(config_file, env).env)
    return [each.name for each in outputs.all_generations] if outputs else []


def files(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[Any]:
    """Files, completed by the shell itself."""
    return [CompletionItem(incomplete, type="file")]
