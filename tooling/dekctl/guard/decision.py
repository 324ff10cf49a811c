"""Guard: compares a Terraform plan with the rows, and refuses one that would lose a key.

A plan without risk passes at once; the database is not read. Otherwise the rows are counted, and
if that fails the plan is refused, because nobody knows which rows would be lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dekctl import __version__
from dekctl.errors import DekctlError, RefusedError, UsageError
from dekctl.guard.environment import environment_outputs, refuse_other_environment
from dekctl.guard.kms_keys import is_kek
from dekctl.guard.risk import Inputs, Risk
from dekctl.guard.rules import find_risks
from dekctl.guard.terraform_plan import HINT, ResourceChange, TerraformPlan, read_plan
from dekctl.ledger import RunState
from dekctl.lifecycle.backup_window import backup_window
from dekctl.lifecycle.counting import Census
from dekctl.lifecycle.usage import (
    Use,
    branch_keys_under,
    count_uses,
    missing_tables,
    rows_naming,
    rows_through_branch_keys,
    rows_unclear,
    rows_without_branch_keys,
)
from dekctl.project import Project
from dekctl.wording import counted

OPERATION = "guard"


@dataclass(frozen=True, slots=True)
class PlanFinding:
    """A risk that counts here: ``rows`` wrapped keys would be affected.

    ``why`` is the reason that it counts, ``seen`` a digest of the resource's values.
    """

    risk: Risk
    rows: int
    detail: str
    generation: str | None
    why: str
    seen: str
    allowed: bool = False

    @property
    def id(self) -> str:
        """A short name that stays the same as long as the plan does the same to the same values.

        A plan that does anything else has another id, and so has a finding that counts for another
        reason. An ``ALLOW=`` that stayed in a pipeline accepts neither.
        """
        risk = self.risk
        scope = [",".join(pair) for pair in risk.scope or ()]
        parts = (risk.kind, risk.address, risk.kek or "", risk.detail, *scope, self.why, self.seen)
        return f"{risk.kind}-{hashlib.sha256(chr(10).join(parts).encode()).hexdigest()[:8]}"

    def as_json(self) -> dict[str, Any]:
        """The finding as plain values."""
        return {
            "id": self.id,
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
            f"[{self.id}] {self.risk.address}: {name + ' ' if name else ''}{self.detail}"
            f" - {counted(self.rows, 'row')}"
        )


@dataclass(slots=True)
class Inspection:
    """The verdict on a plan; :meth:`as_json` is the public form."""

    env: str
    plan: Path
    findings: list[PlanFinding] = field(default_factory=list)
    rows_counted: bool = False
    not_counted: str | None = None
    recorded: bool = False
    imports: list[ResourceChange] = field(default_factory=list)

    @property
    def refused(self) -> list[PlanFinding]:
        """The findings that nobody accepted."""
        return [finding for finding in self.findings if not finding.allowed]

    def refusal(self) -> RefusedError:
        """The error of a refused plan."""
        listed = "\n  ".join(str(finding) for finding in self.refused)
        first = self.refused[0]
        cure = "correct the Terraform change"
        if first.risk.if_needed:
            cure = "move the rows first (dekctl rewrap), until nothing holds it (dekctl retire KEK)"
        accept = f"or accept a single finding: --allow {first.id} (make apply ALLOW={first.id})"
        return RefusedError(
            f"this plan is refused:\n  {listed}",
            hint=first.risk.hint or f"{cure}, {accept}",
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
            "imports": [
                {"address": c.address, "id": c.imported, "overwrites": c.overwritten}
                for c in self.imports
            ],
            "findings": [finding.as_json() for finding in self.findings],
        }


def inspect_plan(
    file: Path, allow: Sequence[str], env: str, open_project: Callable[[], Project]
) -> Inspection:
    """Judge a plan.

    Args:
        file: JSON of ``terraform show -json``.
        allow: ids of findings that somebody accepts.
        env: name of the environment, for the answer.
        open_project: reads the configuration.

    Raises:
        UsageError: the plan cannot be read or is of another environment, or ``allow`` names no
            finding of it.
        RefusedError: the plan holds a risk, and the rows cannot be counted.
    """
    plan = read_plan(file)
    inspection = Inspection(env, file, imports=[c for c in plan.changes if c.imported])
    with open_project() as project:
        inspection.env = project.env.name
        refuse_other_environment(plan, project)
        try:
            _judge(inspection, plan, allow, project)
        except ValueError as error:
            raise UsageError(
                f"a policy in the plan {file} cannot be read: {error}", hint=HINT
            ) from None
    return inspection


def _judge(
    inspection: Inspection, plan: TerraformPlan, allow: Sequence[str], project: Project
) -> None:
    contexts = [table.context_name for table in project.config.tables]
    named = [project.env.kek, *(kek for table in project.config.tables for kek in table.keks)]
    inputs = Inputs(
        plan,
        contexts,
        configured_keks=[kek for kek in named if kek],
        outputs=environment_outputs(project),
    )
    census = Census(project)
    try:
        uses, missing = count_uses(census), missing_tables(project)
    except DekctlError as error:
        # Without rows, what the plan alone shows decides.
        inspection.not_counted = error.message
        if find_risks(inputs):
            if isinstance(error, UsageError):
                raise
            raise RefusedError(
                f"this plan may make a KEK unusable, and the rows cannot be counted: "
                f"{error.message}",
                hint=error.hint,
            ) from error
        _accepted_ids(allow, [])
        return
    inspection.rows_counted = True
    stored = sorted({use.kek_id for use in uses if use.kek_id is not None})
    risks = find_risks(replace(inputs, stored_keks=stored))
    counts = _Counts(
        project, plan, uses, missing, rows_without_branch_keys(census, project.config.tables)
    )
    findings = _without_echo([found for risk in risks if (found := counts.weigh(risk))])
    accepted = _accepted_ids(allow, findings)
    inspection.findings = [replace(f, allowed=f.id in accepted) for f in findings]
    if any(finding.allowed for finding in inspection.findings) and not inspection.refused:
        inspection.recorded = _record(project, inspection)


@dataclass(frozen=True, slots=True)
class _Counts:
    """What depends on which KEK: rows and branch keys, tables that are missing, backups."""

    project: Project
    plan: TerraformPlan
    uses: Sequence[Use]
    missing: Sequence[str]
    lost: int
    """Rows (V3) whose branch key is not stored: restored, it may be under any KEK."""

    def weigh(self, risk: Risk) -> PlanFinding | None:
        """Whether a risk counts here, and for how many rows."""
        kek = risk.kek
        if kek is None:
            rows = sum(use.rows for use in self.uses if not use.of_branch_keys)
            return self._finding(risk, rows, "", "always")
        concerned = [use for use in self.uses if _in_scope(risk, use)]
        may_be_kek = is_kek(self.plan, kek)
        unclear = rows_unclear(concerned, kek) if may_be_kek else 0
        branch_keys = branch_keys_under(concerned, kek)
        lost = self.lost if may_be_kek else 0
        rows = rows_naming(concerned, kek) + rows_through_branch_keys(concerned, kek)
        rows = max(rows + unclear, lost)  # the same rows may name it
        if rows or branch_keys or not risk.if_needed:
            more = ""
            if unclear:
                more += f"; of these, {counted(unclear, 'row')} with an alias or no KEK as kek_id"
            if lost:
                more += f"; of these, {counted(lost, 'row')} (V3) without their branch key"
            if branch_keys:
                more += f"; it wraps {counted(branch_keys, 'branch key')} (V3)"
            return self._finding(risk, rows, more, "rows" if rows or branch_keys else "always")
        if self.missing and may_be_kek:
            more = (
                f", and the table {self.missing[0]} is not in this database, so it is "
                "unknown whether rows need it (is database_url right?)"
            )
            return self._finding(risk, 0, more, "missing table")
        if risk.kind == "delete" and may_be_kek and self.project.env.backup_retention_days:
            window = backup_window(self.project, kek)
            if not window.over:
                until = f"until {window.ends:%Y-%m-%d %H:%M} UTC" if window.ends else "of its rows"
                more = f", and backups {until} need it (see: dekctl retire KEK)"
                return self._finding(risk, 0, more, "backups")
        return None

    def _finding(self, risk: Risk, rows: int, more: str, why: str) -> PlanFinding:
        outputs, plan = self.plan.outputs, self.plan
        generation = outputs.generation_name(risk.kek) if outputs else None
        return PlanFinding(
            risk, rows, risk.detail + more, generation, why, plan.digest(risk.address)
        )


def _without_echo(findings: Sequence[PlanFinding]) -> list[PlanFinding]:
    """Leave out that a role can no longer write where it is said that it can no longer read."""
    reading = {(f.risk.address, f.risk.kek) for f in findings if f.risk.kind == "decrypt"}
    return [
        f for f in findings if f.risk.kind != "write" or (f.risk.address, f.risk.kek) not in reading
    ]


def _in_scope(risk: Risk, use: Use) -> bool:
    return risk.scope is None or (use.context_name, use.version) in risk.scope


def _accepted_ids(allow: Sequence[str], findings: Sequence[PlanFinding]) -> set[str]:
    """The ids of the findings that are accepted.

    Raises:
        UsageError: one of them is no id of a finding.
    """
    known = [finding.id for finding in findings]
    for name in allow:
        if name not in known:
            raise UsageError(
                f"--allow {name} matches no finding of this plan",
                hint=f"its findings are: {', '.join(known) or 'none'}",
            )
    return set(allow)


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
