"""One schema step on every chosen table: run it, print its SQL, or say where the tables are."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Literal

from dekctl.db.shape import Stage
from dekctl.errors import DekctlError, UsageError, of_table
from dekctl.ledger.shared_context import default_name_note
from dekctl.operations.base import Notify
from dekctl.project import Project
from dekctl.schema import steps
from dekctl.schema.inspection import warnings
from dekctl.schema.plan import Adoption, SchemaPlan
from dekctl.schema.preconditions import check
from dekctl.walk.run import run_rows
from dekctl.workflows.callbacks import Confirm, RunVerb
from dekctl.workflows.proof import prove_wrapped

Step = Literal["expand", "contract", "rollback"]


@dataclass(frozen=True, slots=True)
class TableStage:
    """Where a table is; ``changed`` says whether a step has just brought it there."""

    table: str
    stage: str
    revision: str | None
    changed: bool
    warnings: list[str] = field(default_factory=list)
    """What may surprise, as it was before expand."""

    def as_json(self) -> dict[str, Any]:
        """The public form."""
        return asdict(self)


def run_step(
    project: Project,
    step: Step,
    table: str | None = None,
    run: RunVerb = run_rows,
    confirm: Confirm | None = None,
    *,
    trigger: bool | None = None,
    notify: Notify = lambda _: None,
    adoption: Adoption | None = None,
) -> list[TableStage]:
    """Run one step on every chosen table that is not past it; where none is left, change nothing.

    Before a rollback to the legacy schema, which drops the wrapped keys, each of them is decrypted
    and compared with its plaintext. ``trigger`` and ``adoption`` are for expand; see
    :func:`dekctl.schema.steps.expand`. ``notify`` is told what may surprise before expand begins.

    Raises:
        UsageError: a rollback has several tables to undo, and nobody is asked.
        RefusedError: a guard refused, or ``confirm`` did.
        InterruptError: ``project.cancel`` was set during the proof.
        KMSError: KMS refused or cannot be reached during the proof.
        DatabaseError: the database refused or cannot be reached.
    """
    plans = steps.plans_left(project, step, table, adopting=adoption is not None)
    if not plans:
        return current(project, table)
    if step == "rollback" and len(plans) > 1 and confirm is None:
        raise UsageError(
            "schema rollback would undo a step of several tables: "
            + ", ".join(f"{plan.config.name} ({plan.table.stage.value})" for plan in plans),
            hint=f"name one: dekctl schema rollback --table {shlex.quote(plans[0].config.name)}",
        )
    told = [_warnings(plan) if step == "expand" else [] for plan in plans]
    for warning in (text for texts in told for text in texts):
        notify(warning)
    for plan in plans:
        plan.adoption = adoption
    if confirm is not None or len(plans) > 1:
        for plan in plans:  # all of them, before the first one changes
            with of_table(plan.config.name, several=project.has_several_tables):
                check(plan, step)
    done_already = Stage.CONTRACTED if step == "contract" else None
    if confirm is not None and any(plan.table.stage is not done_already for plan in plans):
        confirm()
    if step == "rollback":
        for plan in plans:
            if plan.table.stage is Stage.EXPANDED:
                check(plan, step)
                prove_wrapped(project, plan.config, run)
    run_one: dict[Step, Callable[[SchemaPlan], bool]] = {
        "expand": partial(steps.expand, trigger=trigger, adoption=adoption),
        "contract": steps.contract,
        "rollback": steps.rollback,
    }
    done: list[TableStage] = []
    for plan in plans:
        try:
            with of_table(plan.config.name, several=project.has_several_tables):
                done.append(_stage(plan, changed=run_one[step](plan)))
        except DekctlError:
            if len(plans) > 1:
                notify(f"done: {', '.join(stage.table for stage in done) or 'no table'}")
            raise
    return [replace(stage, warnings=texts) for stage, texts in zip(done, told, strict=True)]


def sql_of_step(
    project: Project, step: Step, table: str | None = None, *, trigger: bool | None = None
) -> dict[str, str]:
    """The SQL of a step for each chosen table, for somebody else to run.

    Raises:
        RefusedError: a table is at the wrong stage.
    """
    plans = steps.plans_left(project, step, table, offline=True)
    for plan in plans:
        plan.without_trigger = plan.without_trigger if trigger is None else not trigger
    return {plan.config.name: steps.sql_of(plan, step) for plan in plans}


def default_names(project: Project, table: str | None = None) -> list[str]:
    """What people should know about each chosen table whose context name was left to its default.

    Raises:
        UsageError: there is no such table, or it is not as configured.
        DatabaseError: the database refused or cannot be reached.
    """
    tables = (project.table(config, known=False) for config in project.table_configs(table))
    return [note for each in tables if (note := default_name_note(each)) is not None]


def current(project: Project, table: str | None = None) -> list[TableStage]:
    """The stage and the Alembic revision of each chosen table.

    Raises:
        RefusedError: the ledger knows the table as another one than [table] says.
    """
    configs = project.table_configs(table)
    for config in configs:
        project.table(config)
    return [
        _stage(
            steps.plan_for(project.database, project.config, config, offline=True), changed=False
        )
        for config in configs
    ]


def _warnings(plan: SchemaPlan) -> list[str]:
    return warnings(plan.table, "expand", without_trigger=plan.without_trigger)


def _stage(plan: SchemaPlan, *, changed: bool) -> TableStage:
    return TableStage(plan.config.name, plan.table.stage.value, plan.revision, changed)
