"""Guard: compares a Terraform plan with the rows, and refuses one that would lose a key.

A plan without risk passes at once; the database is not read. Otherwise the rows are counted, and
if that fails the plan is refused, because nobody knows which rows would be lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dekctl import __version__
from dekctl.errors import DekctlError, RefusedError, UsageError
from dekctl.guard.kms_keys import present_keys
from dekctl.guard.risk import Inputs, Risk
from dekctl.guard.rules import contexts_in, find_risks
from dekctl.guard.terraform_plan import HINT, TerraformPlan, read_plan
from dekctl.kek_id import is_same_kek
from dekctl.ledger import RunState
from dekctl.lifecycle.backup_window import backup_window
from dekctl.lifecycle.usage import (
    Use,
    branch_keys_under,
    count_uses,
    missing_tables,
    rows_naming,
    rows_through_branch_keys,
    rows_unclear,
)
from dekctl.project import Project
from dekctl.wording import counted

OPERATION = "guard"


@dataclass(frozen=True, slots=True)
class PlanFinding:
    """A risk that counts here: ``rows`` wrapped keys would be affected."""

    risk: Risk
    rows: int
    detail: str
    generation: str | None
    allowed: bool = False

    def as_json(self) -> dict[str, Any]:
        """The finding as plain values."""
        return {
            "id": self.risk.id,
            "kind": self.risk.kind,
            "address": self.risk.address,
            "kek_id": self.risk.kek,
            "generation": self.generation,
            "rows": self.rows,
            "detail": self.detail,
            "allowed": self.allowed,
        }

    def __str__(self) -> str:
        name = f"{self.generation} ({self.risk.kek})" if self.generation else self.risk.kek
        return (
            f"[{self.risk.id}] {self.risk.address}: {name + ' ' if name else ''}{self.detail}"
            f" - {counted(self.rows, 'row')}"
        )


@dataclass(slots=True)
class Inspection:
    """The verdict on a plan; :meth:`as_json` is the public form."""

    env: str
    plan: Path
    findings: list[PlanFinding] = field(default_factory=list)
    rows_counted: bool = False
    recorded: bool = False

    @property
    def refused(self) -> list[PlanFinding]:
        """The findings that nobody accepted."""
        return [finding for finding in self.findings if not finding.allowed]

    def refusal(self) -> RefusedError:
        """The error of a refused plan."""
        listed = "\n  ".join(str(finding) for finding in self.refused)
        return RefusedError(
            f"this plan is refused:\n  {listed}",
            hint="move the rows first (dekctl rewrap, dekctl retire), or accept a single finding: "
            f"--allow {self.refused[0].risk.id} (make apply ALLOW={self.refused[0].risk.id})",
        )

    def as_json(self) -> dict[str, Any]:
        """The inspection as plain values."""
        return {
            "operation": "guard",
            "env": self.env,
            "plan": str(self.plan),
            "refused": bool(self.refused),
            "rows_counted": self.rows_counted,
            "recorded": self.recorded,
            "findings": [finding.as_json() for finding in self.findings],
        }


def inspect_plan(
    file: Path, allow: Sequence[str], env: str, open_project: Callable[[], Project]
) -> Inspection:
    """Judge a plan.

    Args:
        file: JSON of ``terraform show -json``.
        allow: addresses or ids of findings that somebody accepts.
        env: name of the environment, for the answer.
        open_project: reads the configuration; called only if the plan holds a risk.

    Raises:
        UsageError: the plan cannot be read, or ``allow`` names no finding of it.
        RefusedError: the plan holds a risk, and the rows cannot be counted.
    """
    plan = read_plan(file)
    inspection = Inspection(env, file)
    try:
        contexts = contexts_in(plan)
        if not find_risks(Inputs(plan, contexts)) and not any(
            _is_pattern(name) for name in contexts
        ):
            _accepted_ids(allow, [])
            return inspection
    except ValueError as error:
        raise UsageError(
            f"a policy in the plan {file} cannot be read: {error}", hint=HINT
        ) from None
    try:
        with open_project() as project:
            inspection.env = project.env.name
            contexts = [table.context_name for table in project.config.tables]
            risks = find_risks(Inputs(plan, contexts))
            findings = _weigh_all(project, plan, risks) if risks else []
            inspection.rows_counted = bool(risks)
            accepted = _accepted_ids(allow, findings)
            inspection.findings = [
                PlanFinding(f.risk, f.rows, f.detail, f.generation, f.risk.id in accepted)
                for f in findings
            ]
            if any(finding.allowed for finding in inspection.findings) and not inspection.refused:
                inspection.recorded = _record(project, inspection)
    except UsageError:
        raise
    except DekctlError as error:
        raise RefusedError(
            f"this plan may make a KEK unusable, and the rows cannot be counted: {error.message}",
            hint=error.hint,
        ) from error
    return inspection


def _is_pattern(context_name: str) -> bool:
    """Whether a policy names contexts by a pattern; the configuration tells which ones match."""
    return "*" in context_name or "?" in context_name


def _weigh_all(project: Project, plan: TerraformPlan, risks: Sequence[Risk]) -> list[PlanFinding]:
    uses, missing = count_uses(project), missing_tables(project)
    weighed = (_weigh(project, plan, risk, uses, missing) for risk in risks)
    return [finding for finding in weighed if finding is not None]


def _weigh(
    project: Project, plan: TerraformPlan, risk: Risk, uses: Sequence[Use], missing: Sequence[str]
) -> PlanFinding | None:
    """Whether a risk counts here, and for how many rows."""
    kek = risk.kek
    generation = plan.outputs.generation_name(kek) if plan.outputs else None
    if kek is None:
        return PlanFinding(
            risk, sum(u.rows for u in uses if not u.of_branch_keys), risk.detail, generation
        )
    concerned = [use for use in uses if _in_scope(risk, use)]
    unclear = rows_unclear(concerned, kek) if _is_kek(plan, kek) else 0
    branch_keys = branch_keys_under(concerned, kek)
    rows = rows_naming(concerned, kek) + rows_through_branch_keys(concerned, kek) + unclear
    if rows or branch_keys or not risk.if_needed:
        detail = risk.detail
        if unclear:
            detail += f"; of these, {counted(unclear, 'row')} with an alias or no KEK as kek_id"
        if branch_keys:
            detail += f"; it wraps {counted(branch_keys, 'branch key')} (V3)"
        return PlanFinding(risk, rows, detail, generation)
    if missing and _is_kek(plan, kek):
        detail = (
            f"{risk.detail}, and the table {missing[0]} is not in this database, so it is "
            "unknown whether rows need it (is database_url right?)"
        )
        return PlanFinding(risk, 0, detail, generation)
    if risk.kind == "delete" and _is_kek(plan, kek) and project.env.backup_retention_days:
        window = backup_window(project, kek)
        if not window.over:
            until = f"until {window.ends:%Y-%m-%d %H:%M} UTC" if window.ends else "of its rows"
            detail = f"{risk.detail}, and backups {until} need it (see: dekctl retire)"
            return PlanFinding(risk, 0, detail, generation)
    return None


def _in_scope(risk: Risk, use: Use) -> bool:
    return risk.scope is None or (use.context_name, use.version) in risk.scope


def _is_kek(plan: TerraformPlan, arn: str) -> bool:
    """Whether a key may be a KEK of rows that do not name one; the trail's own key is none."""
    if plan.outputs is None:
        return True
    if any(is_same_kek(generation.arn, arn) for generation in plan.outputs.all_generations):
        return True
    return not any(
        change.was("kms_key_id") == arn
        for change in plan.of("aws_cloudtrail", "aws_cloudwatch_log_group", "aws_sns_topic")
    ) and any(c.was("arn") == arn for c in present_keys(plan))


def _accepted_ids(allow: Sequence[str], findings: Sequence[PlanFinding]) -> set[str]:
    """The ids of the findings that are accepted.

    Raises:
        UsageError: a name matches no finding, or several.
    """
    accepted: set[str] = set()
    for name in allow:
        ids = {f.risk.id for f in findings if name in (f.risk.id, f.risk.address)}
        if len(ids) != 1:
            known = ", ".join(f.risk.id for f in findings) or "none"
            count = "several findings" if ids else "no finding"
            raise UsageError(
                f"--allow {name} matches {count} of this plan", hint=f"its findings are: {known}"
            )
        accepted |= ids
    return accepted


def _record(project: Project, inspection: Inspection) -> bool:
    """Record in the ledger who accepted what. Returns False where there is none yet."""
    ledger = project.ledger
    if not ledger.exists():
        return False
    allowed = [finding for finding in inspection.findings if finding.allowed]
    run = ledger.start(
        OPERATION,
        project.config.table.context_name,
        shard=None,
        writes=False,
        kek_id=allowed[0].risk.kek,
        version=__version__,
    )
    run.result = {"allowed": [finding.as_json() for finding in allowed], "kms_calls": {}}
    ledger.end(run, RunState.FINISHED)
    return True
