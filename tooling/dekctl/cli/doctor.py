"""``dekctl doctor``."""

from __future__ import annotations

from dataclasses import replace

import click

from dekctl.cli.state import State
from dekctl.cli.terminal import Terminal
from dekctl.doctor import Check, examine


@click.command()
@click.pass_context
def doctor(ctx: click.Context) -> None:
    """Check config, Terraform outputs, database, schema stage, KEK state and each role's rights."""
    state: State = ctx.obj
    with state.project() as project:
        checks = [_exact(check, state.terminal) for check in examine(project)]
    failed = [check for check in checks if not check.ok]
    lines = []
    for check in checks:
        lines.append(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.detail}")
        if check.hint:
            lines.append(f"      hint: {check.hint}")
    state.terminal.result(
        {"ok": not failed, "checks": [check.as_json() for check in checks]}, "\n".join(lines)
    )
    ctx.exit(int(failed[0].code) if failed else 0)


def _exact(check: Check, terminal: Terminal) -> Check:
    return replace(check, hint=terminal.exact(check.hint)) if check.hint else check
