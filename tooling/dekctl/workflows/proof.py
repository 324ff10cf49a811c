"""What a rollback proves before it drops the wrapped keys."""

from __future__ import annotations

from dataclasses import replace

import click

from dekctl.cli.execute import execute, finish
from dekctl.cli.state import State
from dekctl.config import TableConfig
from dekctl.errors import RefusedError
from dekctl.project import Project
from dekctl.walk.run import RowOptions


def prove_wrapped(
    state: State,
    project: Project,
    config: TableConfig,
    options: RowOptions | None = None,
    *,
    both_only: bool = False,
) -> None:
    """Open every wrapped key of an expanded table and compare it with its plaintext.

    With ``both_only`` those that have a plaintext alone: before the others are restored.

    An application may have issued a new key and left the old plaintext: then the wrapped key is
    the one in use, and must not be dropped.

    Raises:
        RefusedError: a wrapped key does not open, or is another key than its plaintext.
        KMSError: KMS refused.
    """
    options = options or RowOptions()
    whole = replace(options.walk, limit=None, shard=None)
    chosen = replace(options, table=config.name, walk=whole, both_only=both_only)
    result = execute(state, project, "verify", chosen)
    if result.tally.interrupted:
        finish(click.get_current_context(), state.terminal, result)
    if result.tally.quarantined:
        raise RefusedError(
            f"{result.tally.quarantined:,} rows of {config.name} have a wrapped key that is not "
            "proved to be their plaintext, and a rollback would drop it",
            hint="see them with: dekctl verify; where the plaintext is right: dekctl wrap --stale; "
            "where the wrapped key is right, set the plaintext to NULL, then: dekctl restore",
        )
