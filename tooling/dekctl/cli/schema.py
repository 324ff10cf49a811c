"""``dekctl schema``: expand, contract, rollback, current."""

from __future__ import annotations

from typing import Any

import click

from dekctl.cli.state import State
from dekctl.cli.walk_options import yes_option
from dekctl.db.shape import Stage
from dekctl.errors import RefusedError
from dekctl.schema import steps
from dekctl.schema.guards import check
from dekctl.workflows.proof import prove_wrapped

sql_option = click.option("--sql", is_flag=True, help="Print the SQL instead of running it.")
table_option = click.option("--table", "table_name", metavar="NAME", help="Only this [[table]].")


@click.group()
def schema() -> None:
    """The Alembic steps, with a version table of dekctl's own."""


def _run(
    state: State, step: str, table_name: str | None, *, sql: bool, question: str | None
) -> None:
    """Run one step on every chosen table and print what came of it."""
    results: list[dict[str, Any]] = []
    scripts: list[str] = []
    with state.project() as project:
        plans = steps.plans_left(project, step, table_name)
        if not sql and (question or len(plans) > 1):
            for plan in plans:  # all of them, before the first one changes
                check(plan, step)
        if question and not sql:
            asked = question.format(env=project.env.name)
            if not state.terminal.confirm(asked, yes=False):
                raise RefusedError(
                    "not confirmed; nothing was changed", hint="add --yes to go ahead"
                )
        if step == "rollback" and not sql:
            for plan in plans:
                if plan.table.stage is Stage.EXPANDED:
                    check(plan, step)
                    prove_wrapped(state, project, plan.config)
        for plan in plans:
            if sql:
                scripts.append(steps.sql_of(plan, step))
                results.append({"table": plan.config.name, "sql": scripts[-1]})
                continue
            changed = getattr(steps, step)(plan)
            results.append(
                {
                    "table": plan.config.name,
                    "changed": bool(changed),
                    "stage": plan.table.stage.value,
                    "revision": steps.current(plan),
                }
            )
    value = {"operation": f"schema {step}", "env": project.env.name, "tables": results}
    if len(results) == 1:
        value |= results[0]
    text = "\n".join(scripts) or "\n".join(
        f"{r['table']}: stage {r['stage']}" + ("" if r["changed"] else ", as it was")
        for r in results
    )
    state.terminal.result(value, text)


@schema.command()
@sql_option
@table_option
@click.pass_obj
def expand(state: State, sql: bool, table_name: str | None) -> None:
    """Add the wrapped columns and the ledger; let the plaintext be NULL."""
    _run(state, "expand", table_name, sql=sql, question=None)


@schema.command()
@sql_option
@table_option
@yes_option
@click.pass_obj
def contract(state: State, sql: bool, table_name: str | None, yes: bool) -> None:
    """Drop the plaintext column, once no row has a plaintext."""
    question = None if yes else "Drop the plaintext column in {env}?"
    _run(state, "contract", table_name, sql=sql, question=question)


@schema.command()
@sql_option
@table_option
@yes_option
@click.pass_obj
def rollback(state: State, sql: bool, table_name: str | None, yes: bool) -> None:
    """Take one step back; refused while a key would be lost, after opening every wrapped key."""
    question = None if yes else "Take one schema step back in {env}?"
    _run(state, "rollback", table_name, sql=sql, question=question)


@schema.command()
@table_option
@click.pass_obj
def current(state: State, table_name: str | None) -> None:
    """Show each table's stage and Alembic revision."""
    with state.project() as project:
        results = []
        for config in project.table_configs(table_name):
            plan = steps.plan_for(project.database, project.config, config)
            results.append(
                {
                    "table": config.name,
                    "stage": plan.table.stage.value,
                    "revision": steps.current(plan),
                }
            )
    value: dict[str, Any] = {"operation": "schema current", "tables": results}
    if len(results) == 1:
        value |= results[0]
    state.terminal.result(
        value,
        "\n".join(
            f"{r['table']}: stage {r['stage']}, revision {r['revision'] or 'none'}" for r in results
        ),
    )
