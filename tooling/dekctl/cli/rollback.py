"""``dekctl rollback``: the whole way back to the legacy schema, rehearsed with ``--dry-run``."""

from __future__ import annotations

from typing import Any

import click

from dekctl.cli.execute import execute, finish, text_of
from dekctl.cli.proof import prove_wrapped
from dekctl.cli.rows import lower_fences
from dekctl.cli.state import State
from dekctl.cli.walk_options import row_options, walk_options, yes_option
from dekctl.db.table import Stage
from dekctl.errors import RefusedError
from dekctl.schema import steps as schema
from dekctl.walk.runs import RunResult


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
            result = execute(state, project, "restore", chosen)
            finish(ctx, state.terminal, result)
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
        if result.exit_code:
            finish(ctx, state.terminal, result)
        # All of them, before the first one changes. What was proved above and had nothing to
        # restore is not opened a second time.
        for plan in plans if result.tally.changed else [p for p in plans if p not in proved]:
            prove_wrapped(state, project, plan.config, chosen)
        for plan in plans:
            schema.rollback(schema.plan_for(project.database, project.config, plan.config))
    _say_done(state, result)


def _say_done(state: State, result: RunResult) -> None:
    value = {**result.as_json(), "operation": "rollback", "stage": "legacy"}
    state.terminal.result(value, text_of(result) + "\nback at the legacy schema")
