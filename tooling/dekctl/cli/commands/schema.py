"""``dekctl schema``: expand, contract, rollback, upgrade, current."""

from __future__ import annotations

from typing import Any

import click

from dekctl.cli.consent import CONTRACT, SCHEMA_ROLLBACK, Stakes, consent
from dekctl.cli.execute import with_progress
from dekctl.cli.registry import InOrder, Section
from dekctl.cli.state import State
from dekctl.cli.walk_options import table_option, yes_option
from dekctl.errors import UsageError
from dekctl.schema import steps
from dekctl.schema.plaintext_use import before_contract
from dekctl.schema.plan import Adoption
from dekctl.workflows import schema as workflow

PLACE = Section.MIGRATE, 2

sql_option = click.option("--sql", is_flag=True, help="Print the SQL instead of running it.")


@click.group(cls=InOrder)
def schema() -> None:
    """Run one schema step: expand, contract, or undo the last one; upgrade the ledger.

    The steps are Alembic migrations with version tables of their own, separate from the
    application's.
    """


def _run(
    state: State,
    step: workflow.Step,
    table: str | None,
    *,
    sql: bool,
    stakes: Stakes | None = None,
    trigger: bool | None = None,
    adoption: Adoption | None = None,
) -> None:
    """Run one step on every chosen table, or print its SQL."""
    value: dict[str, Any] = {"operation": f"schema {step}"}
    with state.project() as project:
        value["env"] = project.env.name
        if sql:
            scripts = workflow.sql_of_step(project, step, table, trigger=trigger)
            value |= _tables([{"table": name, "sql": text} for name, text in scripts.items()])
            state.terminal.result(value, "\n".join(scripts.values()))
            return
        if step == "expand":
            for note in workflow.default_names(project, table):
                state.terminal.note(note)
        confirm = None
        if step == "contract":
            for config in project.table_configs(table):
                if advice := before_contract(config):
                    state.terminal.note(advice)
        if stakes is not None:
            confirm = consent(state, project, stakes, table, yes=False)
        done = workflow.run_step(
            project,
            step,
            table,
            with_progress(state),
            confirm,
            trigger=trigger,
            notify=state.terminal.note,
            adoption=adoption,
        )
    lines = [
        f"{t.table}: stage {t.stage}"
        if t.changed
        else f"{t.table}: already {t.stage}, nothing to do"
        for t in done
    ]
    state.terminal.result(value | _tables([t.as_json() for t in done]), "\n".join(lines))


def _tables(tables: list[dict[str, Any]]) -> dict[str, Any]:
    """What each table's entry says, and beside it the only table's fields."""
    return {"tables": tables, **(tables[0] if len(tables) == 1 else {})}


@schema.command()
@click.option(
    "--without-trigger",
    is_flag=True,
    help="Leave out the row trigger, or drop it; without it, old application versions can leave "
    "stale wrapped keys.",
)
@click.option(
    "--adopt",
    metavar="DEFINITION",
    help="Take over a table whose ledger entry is lost. DEFINITION is that of the plaintext column "
    "before dekctl, for example 'VARCHAR(64) NOT NULL'.",
)
@click.option(
    "--keep-columns",
    is_flag=True,
    help="With --adopt: the other columns are the application's; a rollback keeps them.",
)
@sql_option
@table_option
@click.pass_obj
def expand(
    state: State,
    without_trigger: bool,
    adopt: str | None,
    keep_columns: bool,
    sql: bool,
    table: str | None,
) -> None:
    """Add the wrapped-key columns, the row trigger and the ledger.

    The plaintext column may be NULL from then on. The trigger empties the wrapped columns of a row
    in which a writer changes only the plaintext, so that no reader gets a stale key.
    """
    if adopt is None and keep_columns:
        raise UsageError("--keep-columns needs --adopt", hint="see: dekctl schema expand --help")
    if adopt is not None and sql:
        raise UsageError("--adopt and --sql exclude each other", hint="leave out --sql")
    adoption = Adoption(adopt, keep_columns) if adopt is not None else None
    _run(state, "expand", table, sql=sql, trigger=not without_trigger, adoption=adoption)


@schema.command()
@sql_option
@table_option
@yes_option
@click.pass_obj
def contract(state: State, sql: bool, table: str | None, yes: bool) -> None:
    """Drop the plaintext column. Refused while any row has a plaintext."""
    _run(state, "contract", table, sql=sql, stakes=None if yes else CONTRACT)


@schema.command()
@sql_option
@table_option
@yes_option
@click.pass_obj
def rollback(state: State, sql: bool, table: str | None, yes: bool) -> None:
    """Undo one schema step only: the last contract or expand.

    Before it drops wrapped keys, it decrypts every one of them, and refuses if any key would be
    lost. To undo the whole migration, use: dekctl rollback.
    """
    _run(state, "rollback", table, sql=sql, stakes=None if yes else SCHEMA_ROLLBACK)


@schema.command()
@sql_option
@click.pass_obj
def upgrade(state: State, sql: bool) -> None:
    """Upgrade dekctl's own tables to this version of dekctl.

    Other commands do this themselves if their database role may. The application's tables stay as
    they are.
    """
    value: dict[str, Any] = {"operation": "schema upgrade"}
    with state.project() as project:
        value["env"] = project.env.name
        if sql:
            value["sql"] = text = steps.ledger_sql(project)
        else:
            done = steps.upgrade_ledger(project)
            value |= {"changed": done.changed, "revision": done.revision}
            text = f"ledger: revision {done.revision}"
            text += "" if done.changed else ", nothing to do"
    state.terminal.result(value, text)


@schema.command()
@table_option
@click.pass_obj
def current(state: State, table: str | None) -> None:
    """Show each table's stage and Alembic revision."""
    with state.project() as project:
        found = workflow.current(project, table)
    lines = [f"{t.table}: stage {t.stage}, revision {t.revision or 'none'}" for t in found]
    value = {"operation": "schema current", **_tables([t.as_json() for t in found])}
    state.terminal.result(value, "\n".join(lines))
