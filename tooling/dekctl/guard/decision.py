"""Guard: holds a Terraform plan against the rows, and refuses one that would lose a key.

A plan without danger passes at once, without a look at the database. Otherwise the rows are
counted; where that fails, the plan is refused: nobody knows what it would take along.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dekctl import __version__
from dekctl.errors import DekctlError, RefusedError, UsageError
from dekctl.guard.danger import KEYS, Danger
from dekctl.guard.dangers import contexts_in, find_dangers
from dekctl.guard.plan import HINT, Plan, read_plan
from dekctl.kek_id import is_same_kek
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

NOTE = "guard"


@dataclass(frozen=True, slots=True)
class Finding:
    """A danger that counts here: ``rows`` wrapped keys would be affected."""

    danger: Danger
    rows: int
    detail: str
    generation: str | None
    allowed: bool = False

    def as_json(self) -> dict[str, Any]:
        """The finding as plain values."""
        return {
            "id": self.danger.id,
            "kind": self.danger.kind,
            "address": self.danger.address,
            "kek_id": self.danger.kek,
            "generation": self.generation,
            "rows": self.rows,
            "detail": self.detail,
            "allowed": self.allowed,
        }

    def __str__(self) -> str:
        name = f"{self.generation} ({self.danger.kek})" if self.generation else self.danger.kek
        return (
            f"[{self.danger.id}] {self.danger.address}: {name + ' ' if name else ''}{self.detail}"
            f" - {self.rows:,} rows"
        )


@dataclass(slots=True)
class Inspection:
    """What came of a plan; :meth:`as_json` is the public form."""

    env: str
    plan: Path
    findings: list[Finding] = field(default_factory=list)
    rows_counted: bool = False
    recorded: bool = False

    @property
    def refused(self) -> list[Finding]:
        """The findings that nobody accepted."""
        return [finding for finding in self.findings if not finding.allowed]

    def refusal(self) -> RefusedError:
        """The error of a refused plan."""
        listed = "\n  ".join(str(finding) for finding in self.refused)
        return RefusedError(
            f"this plan is refused:\n  {listed}",
            hint="move the rows first (dekctl rewrap, dekctl retire), or accept a single finding: "
            f"--allow {self.refused[0].danger.id} (make apply ALLOW={self.refused[0].danger.id})",
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
        open_project: reads the configuration; called only where the plan holds a danger.

    Raises:
        UsageError: no plan that can be read, or ``allow`` names no finding of it.
        RefusedError: the plan is dangerous, and the rows cannot be counted.
    """
    plan = read_plan(file)
    inspection = Inspection(env, file)
    try:
        contexts = contexts_in(plan)
        if not find_dangers(plan, contexts) and not any(_is_pattern(name) for name in contexts):
            _refuse_strangers(allow, [])
            return inspection
    except ValueError as error:
        raise UsageError(
            f"a policy in the plan {file} cannot be read: {error}", hint=HINT
        ) from None
    try:
        with open_project() as project:
            inspection.env = project.env.name
            contexts = [table.context_name for table in project.config.tables]
            dangers = find_dangers(plan, contexts)
            findings = _weigh_all(project, plan, dangers) if dangers else []
            inspection.rows_counted = bool(dangers)
            accepted = _refuse_strangers(allow, findings)
            inspection.findings = [
                Finding(f.danger, f.rows, f.detail, f.generation, f.danger.id in accepted)
                for f in findings
            ]
            if any(finding.allowed for finding in inspection.findings) and not inspection.refused:
                inspection.recorded = _record(project, inspection)
    except UsageError:
        raise
    except DekctlError as error:
        raise RefusedError(
            f"this plan may take a KEK away, and the rows cannot be counted: {error.message}",
            hint=error.hint,
        ) from error
    return inspection


def _is_pattern(context_name: str) -> bool:
    """Whether a policy names contexts by a pattern: only the configuration tells which it meets."""
    return "*" in context_name or "?" in context_name


def _weigh_all(project: Project, plan: Plan, dangers: Sequence[Danger]) -> list[Finding]:
    uses, missing = count_uses(project), missing_tables(project)
    weighed = (_weigh(project, plan, danger, uses, missing) for danger in dangers)
    return [finding for finding in weighed if finding is not None]


def _weigh(
    project: Project, plan: Plan, danger: Danger, uses: Sequence[Use], missing: Sequence[str]
) -> Finding | None:
    """Whether a danger counts here, and for how many rows."""
    kek = danger.kek
    generation = plan.outputs.generation_name(kek) if plan.outputs else None
    if kek is None:
        return Finding(
            danger, sum(u.rows for u in uses if not u.of_branch_keys), danger.detail, generation
        )
    concerned = [use for use in uses if _in_scope(danger, use)]
    unclear = rows_unclear(concerned, kek) if _is_kek(plan, kek) else 0
    branch_keys = branch_keys_under(concerned, kek)
    rows = rows_naming(concerned, kek) + rows_through_branch_keys(concerned, kek) + unclear
    if rows or branch_keys or not danger.if_needed:
        detail = danger.detail
        if unclear:
            detail += f"; {unclear:,} of the rows name an alias or no KEK"
        if branch_keys:
            detail += f"; {branch_keys:,} branch keys (V3) are under it"
        return Finding(danger, rows, detail, generation)
    if missing and _is_kek(plan, kek):
        detail = (
            f"{danger.detail}, and the table {missing[0]} is not in this database, so nobody can "
            "say whether its rows need it (is database_url right?)"
        )
        return Finding(danger, 0, detail, generation)
    if danger.kind == "delete" and _is_kek(plan, kek) and project.env.backup_retention_days:
        window = backup_window(project, kek)
        if not window.over:
            until = f"until {window.ends:%Y-%m-%d %H:%M} UTC" if window.ends else "of its rows"
            detail = f"{danger.detail}, and backups {until} need it (see: dekctl retire)"
            return Finding(danger, 0, detail, generation)
    return None


def _in_scope(danger: Danger, use: Use) -> bool:
    return danger.scope is None or (use.context_name, use.version) in danger.scope


def _is_kek(plan: Plan, arn: str) -> bool:
    """Whether a key may be a KEK of rows that do not name one; the trail's own key is none."""
    if plan.outputs is None:
        return True
    if any(is_same_kek(generation.arn, arn) for generation in plan.outputs.all_generations):
        return True
    return not any(
        change.was("kms_key_id") == arn
        for change in plan.of("aws_cloudtrail", "aws_cloudwatch_log_group", "aws_sns_topic")
    ) and any(c.was("arn") == arn for c in plan.of(*KEYS))


def _refuse_strangers(allow: Sequence[str], findings: Sequence[Finding]) -> set[str]:
    """The ids of the findings that are accepted.

    Raises:
        UsageError: a name fits no finding, or several.
    """
    accepted: set[str] = set()
    for name in allow:
        ids = {f.danger.id for f in findings if name in (f.danger.id, f.danger.address)}
        if len(ids) != 1:
            known = ", ".join(f.danger.id for f in findings) or "none"
            fault = "no finding" if not ids else "several findings"
            raise UsageError(
                f"--allow {name} fits {fault} of this plan", hint=f"its findings are: {known}"
            )
        accepted |= ids
    return accepted


def _record(project: Project, inspection: Inspection) -> bool:
    """Keep who accepted what in the ledger. Returns False where there is none yet."""
    ledger = project.ledger
    if not ledger.exists():
        return False
    allowed = [finding for finding in inspection.findings if finding.allowed]
    run = ledger.start(
        NOTE,
        project.config.table.context_name,
        shard=None,
        writes=False,
        kek_id=allowed[0].danger.kek,
        version=__version__,
    )
    run.result = {"allowed": [finding.as_json() for finding in allowed], "kms_calls": {}}
    ledger.end(run, "finished")
    return True
