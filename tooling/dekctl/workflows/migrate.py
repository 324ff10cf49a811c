"""Migrate: schema expand, wrap, verify. It never removes a plaintext."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from dekctl.db.shape import Stage
from dekctl.errors import ExitCode
from dekctl.operations.verify import Verify
from dekctl.operations.wrap import Wrap
from dekctl.project import Project
from dekctl.schema import steps
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

    In a dry run nothing is changed, and nothing is verified. With ``hierarchical`` keys are wrapped
    under branch keys (V3), whatever the tables are configured for.

    Raises:
        UsageError: the configuration lacks something that wrapping needs.
        RefusedError: a guard refused; nothing was changed.
        KMSError: KMS refused or cannot be reached; finished batches are kept.
        DatabaseError: the database refused or cannot be reached; finished batches are kept.
    """
    project.refuse_incomplete()
    dry_run = options.dry_run
    expanded = {}
    for plan in steps.plans_left(project, "expand", options.table):
        legacy = plan.table.stage is Stage.LEGACY
        expanded[plan.config.name] = legacy if dry_run else steps.expand(plan)
    wrapped = run(project, Wrap(hierarchical=hierarchical), options)
    if dry_run or wrapped.counts.interrupted:
        return MigrateResult(expanded, wrapped, None)
    return MigrateResult(expanded, wrapped, run(project, Verify(), options))
