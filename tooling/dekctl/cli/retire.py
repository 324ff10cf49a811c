"""``dekctl retire``."""

from __future__ import annotations

from dataclasses import replace

import click

from dekctl.cli.state import State
from dekctl.lifecycle.retire import Verdict, examine_retirement


@click.command()
@click.argument("kek", metavar="KEK")
@click.option(
    "--erase",
    metavar="VALUE",
    help="Cryptographic erasure: the KEK may go with the rows of this value of the kek_by column.",
)
@click.pass_context
def retire(ctx: click.Context, kek: str, erase: str | None) -> None:
    """Say whether KEK (ARN or generation) may go, and the change in Terraform that follows.

    Refuses while a row names it, while the alias points to it, and while backups need it.
    """
    state: State = ctx.obj
    with state.project() as project:
        verdict = examine_retirement(project, kek, erase)
    refusal = verdict.refusal() if verdict.refused else None
    verdict.checks = [
        replace(check, hint=state.terminal.exact(check.hint)) if check.hint else check
        for check in verdict.checks
    ]
    state.terminal.result(verdict.as_json(), _text(verdict))
    if refusal is not None:
        raise refusal


def _text(verdict: Verdict) -> str:
    name = f"{verdict.generation.name} " if verdict.generation else ""
    lines = [f"{name}{verdict.kek_id}"]
    lines += [
        f"  {'ok' if check.ok else 'NO':<4}{check.name}: {check.detail}" for check in verdict.checks
    ]
    if not verdict.refused:
        lines.append(f"next: {verdict.change}")
    return "\n".join(lines)
