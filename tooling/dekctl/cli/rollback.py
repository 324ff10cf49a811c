"""``dekctl rollback``: the whole way back to the legacy schema, rehearsed with ``--dry-run``."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import click

from dekctl.cli.execute import execute, finish, text_of
from dekctl.cli.rows import lower_fences
from dekctl.cli.state import State
from dekctl.cli.walk_options import row_options, walk_options, yes_option
from dekctl.db.shape import Stage
from dekctl.errors import RefusedError
from dekctl.project import Project
from dekctl.schema import steps as schema
from dekctl.schema.plan import SchemaPlan
from dekctl.walk.run import RowOptions, RunResult
from dekctl.walk.tally import add_tally
from dekctl.workflows.proof import prove_wrapped


@click.command()
@walk_options
@yes_option
@click.pass_context
def rollback(ctx: click.Context, /, yes: bool, **options: Any) -> None:
    """Back to the legacy schema: plaintext column, restore, verify, then drop dekctl's columns.

    With --dry-run every wrapped key is really opened, and nothing is written.
    """
    state: State = ctx.obj
    chosen = row_options(**options)
    with state.project() as project:
        plans = schema.plans_left(project, "rollback", chosen.table)
        if all(plan.taken_back for plan in plans):
            _say_done(state, RunResult("rollback", project.env.name, chosen.walk.dry_run))
            return
        half_way = [plan for plan in plans if plan.half_way_back]
        for plan in plans:
            if plan not in half_way:
                project.table_at(plan.config, Stage.EXPANDED, Stage.CONTRACTED)
        if chosen.walk.dry_run:
            finish(ctx, state.terminal, _rehearsed(state, project, plans, chosen))
        question = f"Bring {project.env.name} back to plaintext DEKs?"
        if not state.terminal.confirm(question, yes=yes):
            raise RefusedError("not confirmed; nothing was changed", hint="add --yes to go ahead")
        for plan in half_way:  # their keys are back; a step of MariaDB or MySQL died after that
            schema.rollback(plan)
        plans = [plan for plan in plans if plan not in half_way]
        if not plans:
            _say_done(state, RunResult("rollback", project.env.name, dry_run=False))
            return
        # Before anything is changed: where a row's two keys differ, this would be refused later.
        proved = [plan for plan in plans if plan.table.stage is Stage.EXPANDED]
        for plan in proved:
            prove_wrapped(state, project, plan.config, chosen, both_only=True)
        for plan in plans:
            if plan.table.stage is Stage.CONTRACTED:
                schema.rollback(plan)
        lower_fences(project, [plan.config for plan in plans])
        result = execute(state, project, "restore", chosen)
        result.operation = "rollback"  # so that the next command is this one
        if result.exit_code:
            finish(ctx, state.terminal, result)
        # All of them, before the first one changes. What was proved above and had nothing to
        # restore is not opened a second time.
        for plan in plans if result.tally.changed else [p for p in plans if p not in proved]:
            prove_wrapped(state, project, plan.config, chosen)
        for plan in plans:
            schema.rollback(schema.plan_for(project.database, project.config, plan.config))
    _say_done(state, result)


def _rehearsed(
    state: State, project: Project, plans: list[SchemaPlan], options: RowOptions
) -> RunResult:
    """Open every wrapped key: what restore would write, and what is compared with a plaintext."""
    result = execute(state, project, "restore", options)
    for plan in plans:
        if plan.table.stage is not Stage.EXPANDED or result.tally.interrupted:
            continue
        chosen = replace(options, table=plan.config.name, both_only=True)
        compared = execute(state, project, "verify", chosen)
        compared.tally.scanned = compared.tally.skipped = 0  # restore has counted the same rows
        add_tally(result.tally, compared.tally)
        result.tally.skipped -= compared.tally.proved + compared.tally.quarantined
        result.run_ids += compared.run_ids
        result.kms_calls = dict(Counter(result.kms_calls) + Counter(compared.kms_calls))
        result.seconds = round(result.seconds + compared.seconds, 3)
    result.operation = "rollback"
    return result


def _say_done(state: State, result: RunResult) -> None:
    value = {**result.as_json(), "stage": "legacy"}
    state.terminal.result(value, text_of(result) + "\nback at the legacy schema")
