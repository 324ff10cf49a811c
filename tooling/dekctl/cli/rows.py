"""The commands that walk rows: wrap, verify, scrub, restore, rewrap, and migrate over them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from dekctl.cli.execute import execute, finish, text_of
from dekctl.cli.state import State
from dekctl.cli.walk_options import hierarchical_option, row_options, walk_options, yes_option
from dekctl.config import TableConfig
from dekctl.db.shape import Stage
from dekctl.errors import ExitCode, RefusedError
from dekctl.kms.context import VERSIONS
from dekctl.operations.rewrap import Choice
from dekctl.project import Project
from dekctl.traces import traces
from dekctl.walk.run import RowOptions, configs_of, ready


def _guards_first(project: Project, verb: str, options: RowOptions, *, yes: bool) -> None:
    """Refuse before anything is asked; where nothing is asked, the run itself does it."""
    if not yes:
        for config in configs_of(project, verb, options):
            ready(project, verb, config, options)


def _ask(state: State, question: str, *, yes: bool, dry_run: bool) -> None:
    if dry_run or state.terminal.confirm(question, yes=yes):
        return
    raise RefusedError("not confirmed; nothing was changed", hint="add --yes to go ahead")


@click.command()
@hierarchical_option
@click.option(
    "--stale",
    is_flag=True,
    help="Also rows whose wrapped key does not open to their plaintext: wrap that plaintext.",
)
@walk_options
@click.pass_context
def wrap(ctx: click.Context, /, **options: Any) -> None:
    """Wrap the DEK of every row that has a plaintext and no wrapped key.

    --stale is for a table to which old versions of the application still write plaintexts: one
    that re-keys a row leaves a wrapped key that is no longer the row's.
    """
    state: State = ctx.obj
    with state.project() as project:
        result = execute(state, project, "wrap", row_options(**options))
    finish(ctx, state.terminal, result)


@click.command()
@click.option("--sample", type=click.IntRange(1), metavar="N", help="Only about N rows.")
@walk_options
@click.pass_context
def verify(ctx: click.Context, /, **options: Any) -> None:
    """Open every wrapped key; compare it with the plaintext where that is still there."""
    state: State = ctx.obj
    with state.project() as project:
        result = execute(state, project, "verify", row_options(**options))
    finish(ctx, state.terminal, result)


@click.command()
@walk_options
@yes_option
@click.pass_context
def scrub(ctx: click.Context, /, yes: bool, **options: Any) -> None:
    """Remove plaintexts, each in the statement that has just proved its wrapped copy."""
    state: State = ctx.obj
    with state.project() as project:
        chosen = row_options(**options)
        _guards_first(project, "scrub", chosen, yes=yes)
        tables = [
            project.table_at(config, Stage.EXPANDED)
            for config in configs_of(project, "scrub", chosen)
        ]
        _ask(
            state,
            f"Remove the plaintext DEKs of {project.env.name}?",
            yes=yes,
            dry_run=chosen.walk.dry_run,
        )
        result = execute(state, project, "scrub", chosen)
    left = [
        {"table": t.config.name, "place": trace.place, "help": trace.help}
        for t in tables
        for trace in traces(t)
    ]
    result.extra["traces"] = left
    if result.tally.changed and not result.dry_run:
        lines = [f"  {trace['place']}: {trace['help']}" for trace in left]
        state.terminal.note(
            "\n".join(
                [
                    "a scrubbed key may still be in:",
                    *dict.fromkeys(lines),
                    "look for known keys in files with: dekctl residue search",
                ]
            )
        )
    finish(ctx, state.terminal, result)


@click.command()
@walk_options
@yes_option
@click.pass_context
def restore(ctx: click.Context, /, yes: bool, **options: Any) -> None:
    """The way back: unwrap into the plaintext column."""
    state: State = ctx.obj
    with state.project() as project:
        chosen = row_options(**options)
        _guards_first(project, "restore", chosen, yes=yes)
        _ask(
            state,
            f"Write plaintext DEKs back into {project.env.name}?",
            yes=yes,
            dry_run=chosen.walk.dry_run,
        )
        if not chosen.walk.dry_run:
            lower_fences(project, configs_of(project, "restore", chosen))
        result = execute(state, project, "restore", chosen)
    finish(ctx, state.terminal, result)


def lower_fences(project: Project, configs: list[TableConfig]) -> None:
    """Let plaintexts in again where an interrupted contract had shut them out."""
    from dekctl.schema import steps as schema  # noqa: PLC0415 - brings Alembic, which the other commands do without

    for config in configs:
        schema.lower_fence(schema.plan_for(project.database, project.config, config))


@click.command()
@hierarchical_option
@click.option("--from", "source", metavar="KEK", help="Only rows of this KEK (ARN or generation).")
@click.option("--to", "target", metavar="KEK", help="To this KEK instead of the active one.")
@click.option(
    "--version", "row_version", type=click.Choice(VERSIONS), help="Only rows of this version."
)
@click.option(
    "--wrapped-before",
    "before",
    type=click.DateTime(),
    metavar="DATE",
    help="Only rows wrapped before (UTC); also under the active KEK, after a key rotation.",
)
@click.option("--same-key", is_flag=True, help="Also rows that are under the active KEK already.")
@walk_options
@click.pass_context
def rewrap(
    ctx: click.Context,
    /,
    source: str | None,
    row_version: str | None,
    before: datetime | None,
    same_key: bool,
    **options: Any,
) -> None:
    """Move rows to another KEK: ReEncrypt within KMS, unwrap and wrap across providers."""
    state: State = ctx.obj
    moment = before.replace(tzinfo=UTC) if before else None
    choice = Choice(source, version=row_version, before=moment, same_key=same_key)
    with state.project() as project:
        result = execute(state, project, "rewrap", row_options(choice=choice, **options))
    finish(ctx, state.terminal, result)


@click.command()
@hierarchical_option
@walk_options
@click.pass_context
def migrate(ctx: click.Context, /, **options: Any) -> None:
    """Schema expand, wrap, verify. Never scrubs."""
    from dekctl.schema import steps as schema  # noqa: PLC0415 - see lower_fences

    state: State = ctx.obj
    chosen = row_options(**options)
    with state.project() as project:
        project.refuse_incomplete()
        expanded = []
        for plan in schema.plans_left(project, "expand", chosen.table):
            legacy = plan.table.stage is Stage.LEGACY
            done = legacy if chosen.walk.dry_run else schema.expand(plan)
            expanded.append({"table": plan.config.name, "expanded": done})
        wrapped = execute(state, project, "wrap", chosen)
        steps: dict[str, Any] = {"schema": expanded, "wrap": wrapped.as_json()}
        lines = [text_of(wrapped)]
        result = wrapped
        if not wrapped.tally.interrupted and not chosen.walk.dry_run:
            result = execute(state, project, "verify", chosen)
            steps["verify"] = result.as_json()
            lines.append(text_of(result))
    code = wrapped.exit_code if result.exit_code is ExitCode.OK else result.exit_code
    calls = {
        name: wrapped.kms_calls.get(name, 0)
        + (result.kms_calls.get(name, 0) if result is not wrapped else 0)
        for name in {*wrapped.kms_calls, *result.kms_calls}
    }
    value = {
        **wrapped.as_json(),
        **result.extra,
        "operation": "migrate",
        "kms_calls": calls,
        "seconds": round(wrapped.seconds + (result.seconds if result is not wrapped else 0), 3),
        "interrupted": result.tally.interrupted,
        "steps": steps,
    }
    state.terminal.result(value, "\n".join(lines))
    ctx.exit(int(code))
