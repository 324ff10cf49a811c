"""Migrate: schema expand, wrap, verify. It never removes a plaintext."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

from dekctl.config import TableConfig
from dekctl.config.roles import Role
from dekctl.db.shape import Stage
from dekctl.errors import ExitCode, of_table
from dekctl.kms.aws.spec import AWS
from dekctl.kms.context import V2, V3
from dekctl.kms.providers import provider_of
from dekctl.lifecycle.probe import probe
from dekctl.operations.cost import Cost
from dekctl.operations.verify import Verify
from dekctl.operations.wrap import Wrap
from dekctl.project import Project
from dekctl.schema import steps
from dekctl.schema.preconditions import check
from dekctl.walk.estimate import estimate, trail_cost
from dekctl.walk.options import RowOptions
from dekctl.walk.result import RunResult
from dekctl.walk.run import run_rows
from dekctl.workflows.callbacks import RunVerb


@dataclass(frozen=True, slots=True)
class MigrateResult:
    """What a migration did; :meth:`as_json` is the public form.

    ``expanded`` says for each table whether its schema was changed. ``verified`` is None in a dry
    run and after an interrupt.
    """

    expanded: dict[str, bool]
    wrapped: RunResult
    verified: RunResult | None

    @property
    def runs(self) -> list[RunResult]:
        """The results of the verbs that were run."""
        return [self.wrapped, *([self.verified] if self.verified else [])]

    @property
    def exit_code(self) -> ExitCode:
        """How the command ends: as its last verb that did not end well."""
        codes = [run.exit_code for run in reversed(self.runs)]
        return next((code for code in codes if code is not ExitCode.OK), ExitCode.OK)

    def as_json(self) -> dict[str, Any]:
        """The fields of a row command for both verbs, and each step's own."""
        last = self.runs[-1]
        calls = sum((Counter(run.kms_calls) for run in self.runs), Counter())
        steps_done: dict[str, Any] = {
            "schema": [{"table": table, "expanded": done} for table, done in self.expanded.items()],
            **{run.operation: run.as_json() for run in self.runs},
        }
        return {
            **self.wrapped.as_json(),
            **last.own_fields,
            "operation": "migrate",
            "kms_calls": dict(calls),
            "seconds": round(sum(run.seconds for run in self.runs), 3),
            "interrupted": last.counts.interrupted,
            "steps": steps_done,
        }


def migrate(
    project: Project,
    options: RowOptions,
    run: RunVerb = run_rows,
    *,
    hierarchical: bool = False,
) -> MigrateResult:
    """Expand the schema, wrap every plaintext key, and verify every wrapped key.

    In a dry run nothing is changed, and nothing is verified; its estimate holds both passes. Before
    the first schema is changed, KMS is asked whether it lets the wrapper wrap. With
    ``hierarchical`` keys are wrapped under branch keys (V3), whatever the tables are configured
    for.

    Raises:
        UsageError: the configuration lacks something that wrapping needs.
        RefusedError: a guard refused; nothing was changed.
        KMSError: KMS refused or cannot be reached; finished batches are kept.
        DatabaseError: the database refused or cannot be reached; finished batches are kept.
    """
    project.refuse_incomplete()
    dry_run = options.dry_run
    plans = steps.plans_left(project, "expand", options.table)
    legacy = [plan for plan in plans if plan.table.stage is Stage.LEGACY]
    several = project.has_several_tables
    if not dry_run:
        for plan in legacy:
            with of_table(plan.config.name, several=several):
                check(plan, "expand")
                _ask_kms(project, plan.config)
    expanded = {}
    for plan in plans:
        with of_table(plan.config.name, several=several):
            expanded[plan.config.name] = plan in legacy if dry_run else steps.expand(plan)
    wrapped = run(project, Wrap(hierarchical=hierarchical), options)
    if dry_run and wrapped.costs:
        wrapped.extra["estimate"] = _bill(project, wrapped, options, hierarchical=hierarchical)
    if dry_run or wrapped.counts.interrupted:
        return MigrateResult(expanded, wrapped, None)
    return MigrateResult(expanded, wrapped, run(project, Verify(), options))


def _ask_kms(project: Project, config: TableConfig) -> None:
    """Ask KMS whether it would wrap a key of this table, for each of its KEKs."""
    if not project.uses_aws:
        return
    for kek in config.keks or (project.kek(),):
        if provider_of(kek) in (AWS, None):
            probe(project, Role.WRAPPER, "Encrypt", kek=kek, context_name=config.context_name)


def _bill(
    project: Project, wrapped: RunResult, options: RowOptions, *, hierarchical: bool
) -> dict[str, Any]:
    """The estimate of both passes: what wrap costs, and one Decrypt of each key by verify."""
    verified = []
    for config in project.table_configs(options.table):
        rows, _ = project.table(config).rows_at_a_glance()
        rows = min(rows, options.limit) if options.limit else rows
        branches = math.ceil(rows / config.rows_per_branch_key)
        version = V3 if hierarchical else config.wrapping
        verified.append(Cost(rows, version, {V2: rows, V3: branches}))
    passes = {"wrap": wrapped.costs, "verify": verified}
    rate = options.rate
    total = estimate([cost for costs in passes.values() for cost in costs], rate)
    total["passes"] = {name: estimate(costs, rate)["kms_calls"] for name, costs in passes.items()}
    if project.outputs is not None and project.outputs.audit.get("trail_arn"):
        total |= trail_cost(total["kms_calls"])
    return total
