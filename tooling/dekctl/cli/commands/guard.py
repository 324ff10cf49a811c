"""``dekctl guard``."""

from __future__ import annotations

from pathlib import Path

import click

from dekctl.cli.registry import Documented, Section
from dekctl.cli.state import State
from dekctl.guard.decision import Inspection, inspect_plan

PLACE = Section.ROTATE, 3


@click.command(cls=Documented)
@click.option(
    "--plan",
    "plan",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The plan as JSON, from: terraform show -json PLAN > FILE.",
)
@click.option(
    "--allow",
    multiple=True,
    metavar="FINDING",
    help="Accept this finding (its id); the ledger records who accepted it.",
)
@click.pass_obj
def guard(state: State, plan: Path, allow: tuple[str, ...]) -> None:
    """Refuse a Terraform plan that takes away a KEK that rows still need.

    Also refused: a plan that stops the audit trail or belongs to another environment. `make apply`
    runs this before it applies a plan.
    """
    inspection = inspect_plan(plan, allow, state.env_name or "", state.project)
    for change in inspection.imports:
        what = ", ".join(change.overwritten) or "nothing"
        state.terminal.note(f"imports {change.imported} as {change.address}; overwrites: {what}")
    state.terminal.result(inspection.as_json(), _text(inspection))
    if inspection.not_counted is not None:
        state.terminal.note(f"the rows were not counted: {inspection.not_counted}")
    if inspection.refused:
        raise inspection.refusal()
    if any(finding.allowed for finding in inspection.findings) and not inspection.recorded:
        state.terminal.note(
            "there is no ledger yet, so who accepted these findings is not recorded"
        )


def _text(inspection: Inspection) -> str:
    if not inspection.findings:
        return "guard: this plan takes no KEK away from any row"
    count = len(inspection.refused)
    lines = [f"guard: findings: {count} refused, {len(inspection.findings) - count} accepted"]
    lines += [f"  accepted {finding}" for finding in inspection.findings if finding.allowed]
    return "\n".join(lines)
