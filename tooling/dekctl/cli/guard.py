"""``dekctl guard``."""

from __future__ import annotations

from pathlib import Path

import click

from dekctl.cli.state import State
from dekctl.guard.decision import Inspection, inspect_plan


@click.command()
@click.option(
    "--plan",
    "plan",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The plan as JSON: terraform show -json PLAN > FILE.",
)
@click.option(
    "--allow",
    multiple=True,
    metavar="FINDING",
    help="Accept this finding (its id or address); the ledger keeps who did.",
)
@click.pass_context
def guard(ctx: click.Context, plan: Path, allow: tuple[str, ...]) -> None:
    """Refuse a Terraform plan that takes away a KEK that rows still need."""
    state: State = ctx.obj
    inspection = inspect_plan(plan, allow, state.env_name or "", state.project)
    state.terminal.result(inspection.as_json(), _text(inspection))
    if inspection.refused:
        raise inspection.refusal()
    if any(finding.allowed for finding in inspection.findings) and not inspection.recorded:
        state.terminal.note("there is no ledger yet: nobody keeps who accepted these findings")


def _text(inspection: Inspection) -> str:
    if not inspection.findings:
        return "guard: no row loses its KEK by this plan"
    count = len(inspection.refused)
    lines = [f"guard: {count} findings refused, {len(inspection.findings) - count} accepted"]
    lines += [f"  accepted {finding}" for finding in inspection.findings if finding.allowed]
    return "\n".join(lines)
