"""``dekctl retire``."""

from __future__ import annotations

import click

from dekctl.cli.completion import generations
from dekctl.cli.registry import Documented, Section
from dekctl.cli.state import State
from dekctl.lifecycle.retire import Verdict, examine_retirement

PLACE = Section.ROTATE, 2


@click.command(cls=Documented)
@click.argument("kek", metavar="KEK", shell_complete=generations)
@click.option(
    "--erase",
    metavar="VALUE",
    help="Check for a cryptographic erasure: deleting the KEK makes the rows with this value in "
    "the kek_by column unreadable.",
)
@click.pass_obj
def retire(state: State, kek: str, erase: str | None) -> None:
    """Check whether a KEK can be retired; print the Terraform change.

    KEK is an ARN or the name of a generation. Refused while a row is wrapped by it, while the alias
    points to it, or while a backup still needs it.
    """
    with state.project() as project:
        verdict = examine_retirement(project, kek, erase)
    state.terminal.result(verdict.as_json(), _text(verdict))
    if verdict.refused:
        raise verdict.refusal()


def _text(verdict: Verdict) -> str:
    name = f"{verdict.generation.name} " if verdict.generation else ""
    lines = [f"{name}{verdict.kek_id}"]
    lines += [
        f"  {'ok' if check.ok else 'NO':<4}{check.name}: {check.detail}" for check in verdict.checks
    ]
    if not verdict.refused:
        lines.append(f"next: {verdict.change}")
    return "\n".join(lines)
