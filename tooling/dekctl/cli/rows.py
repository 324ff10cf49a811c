"""The commands that walk rows: wrap, verify, scrub, restore, rewrap, and migrate over them."""

from __future__ import annotations

import gc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from dekctl.cli.interrupt import interruptible
from dekctl.cli.state import State
from dekctl.cli.terminal import ProgressLine, Terminal
from dekctl.db.table import Shard, Stage
from dekctl.errors import ExitCode, RefusedError
from dekctl.kms.aws import DEFAULT_CONCURRENCY
from dekctl.kms.context import VERSIONS
from dekctl.operations.rewrap import Choice
from dekctl.project import Project
from dekctl.traces import traces
from dekctl.walk import estimate
from dekctl.walk.engine import WalkOptions
from dekctl.walk.runs import RowOptions, RunResult, ready, run_rows

Command = TypeVar("Command", bound=Callable[..., Any])


class ShardType(click.ParamType[Shard]):
    """``I/N``, from 1/N to N/N."""

    name = "I/N"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Shard:
        """Parse ``2/8``."""
        if isinstance(value, Shard):
            return value
        index, _, count = str(value).partition("/")
        if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
            self.fail("write it as I/N with I from 1 to N, for example 1/4", param, ctx)
        return Shard(int(index), int(count))


_WALK_OPTIONS = (
    click.option("--dry-run", is_flag=True, help="Write nothing; say what would be done."),
    click.option(
        "--batch-size",
        type=click.IntRange(1, 20_000),
        default=2000,
        show_default=True,
        help="Rows a page, and rows a transaction.",
    ),
    click.option(
        "--concurrency",
        type=click.IntRange(1, 4096),
        default=DEFAULT_CONCURRENCY,
        show_default=True,
        help="KMS calls in flight.",
    ),
    click.option(
        "--rate",
        type=click.FloatRange(0, min_open=True),
        metavar="N",
        help="Most KMS calls a second.",
    ),
    click.option(
        "--quota-share",
        type=click.FloatRange(0, 1, min_open=True),
        metavar="PART",
        help="At most this part of the account's live KMS quota, for example 0.5.",
    ),
    click.option(
        "--workers",
        type=click.IntRange(1, 256),
        default=1,
        show_default=True,
        help="Processes on this machine.",
    ),
    click.option("--cluster", metavar="ADDRESS", help="Workers of a Dask cluster."),
    click.option("--limit", type=click.IntRange(1), metavar="N", help="Take up at most N rows."),
    click.option("--shard", type=ShardType(), help="Only this part of the table, I of N."),
    click.option("--retry-quarantined", is_flag=True, help="Try rows in quarantine again."),
    click.option(
        "--keep-going",
        is_flag=True,
        help="Set rows aside even if the first ones are all rejected.",
    ),
    click.option(
        "--control",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Rate, batch_size, concurrency and pause while it runs; else "
        ".dekctl/ENV/control.toml.",
    ),
    click.option(
        "--hold-back",
        metavar="SQL",
        help="Wait while this query gives true, or a number above hold_back_above.",
    ),
    click.option("--table", metavar="NAME", help="Only this [[table]]."),
)


def walk_options(command: Command) -> Command:
    """Add the options that every row command has."""
    for option in reversed(_WALK_OPTIONS):
        command = option(command)
    return command


def row_options(
    *,
    dry_run: bool,
    batch_size: int,
    concurrency: int,
    rate: float | None,
    limit: int | None,
    shard: Shard | None,
    retry_quarantined: bool,
    keep_going: bool,
    control: Path | None,
    hold_back: str | None,
    table: str | None,
    **extra: Any,
) -> RowOptions:
    """Gather parsed options for the engine."""
    walk = WalkOptions(
        dry_run=dry_run,
        batch_size=batch_size,
        limit=limit,
        shard=shard,
        retry_quarantined=retry_quarantined,
        keep_going=keep_going,
    )
    return RowOptions(
        walk=walk,
        concurrency=concurrency,
        rate=rate,
        table=table,
        control=control,
        hold_back=hold_back,
        **extra,
    )


hierarchical_option = click.option(
    "--hierarchical",
    is_flag=True,
    help="Wrap locally under branch keys that KMS wraps (V3); else as [table] says.",
)
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


def execute(state: State, project: Project, verb: str, options: RowOptions) -> RunResult:
    """Run a verb with progress and interrupt."""
    progress = ProgressLine(state.terminal, verb)
    progress.begin()
    # What is loaded by now stays: to look through it again and again costs a tenth of the speed.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    with interruptible(state.cancel, state.give_up, state.terminal):
        try:
            return run_rows(project, verb, options, progress, state.terminal.note)
        finally:
            progress.close()


def finish(ctx: click.Context, terminal: Terminal, result: RunResult) -> None:
    """Print a result and end with its exit code."""
    terminal.result(result.as_json(), text_of(result))
    if result.tally.interrupted:
        terminal.note("interrupted; finished batches are kept: run the same command to go on")
    elif result.tally.quarantined:
        again = f"dekctl {result.operation} --retry-quarantined"
        terminal.note(
            f"{result.tally.quarantined:,} rows were set aside; see: dekctl status; "
            f"once they are corrected: {again}"
        )
    ctx.exit(int(result.exit_code))


def text_of(result: RunResult) -> str:
    """A result for people."""
    tally = result.tally
    calls = ", ".join(f"{count:,} {name}" for name, count in sorted(result.kms_calls.items()))
    would = "would change" if result.dry_run else "changed"
    parts = [f"{tally.scanned:,} rows read", f"{tally.changed:,} {would}"]
    if result.operation == "verify":
        parts[1] = f"{tally.proved:,} verified"
    elif tally.proved:
        parts.append(f"{tally.proved:,} proved")
    if tally.pending or result.operation == "verify":
        parts.append(f"{tally.pending:,} not wrapped yet")
    parts.append(f"{tally.skipped:,} had nothing to do")
    if tally.moved:
        parts.append(f"{tally.moved:,} changed under us and were read again")
    failed = "failed" if result.operation == "verify" else "quarantined"
    parts.append(f"{tally.quarantined:,} {failed}")
    lines = [f"{result.operation}: " + ", ".join(parts)]
    lines.append(f"KMS calls: {calls or 'none'}; {result.seconds:.1f} seconds")
    if "estimate" in result.extra:
        lines += estimate.text(result.extra["estimate"])
    lines += [f"  {row['pk']}: {row['reason']}" for row in result.as_json()["set_aside"]]
    return "\n".join(lines)


def _guards_first(project: Project, verb: str, options: RowOptions, *, yes: bool) -> None:
    """Refuse before anything is asked; where nothing is asked, the run itself does it."""
    if not yes:
        for config in project.table_configs(options.table):
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
            for config in project.table_configs(chosen.table)
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
            lower_fences(project, chosen.table)
        result = execute(state, project, "restore", chosen)
    finish(ctx, state.terminal, result)


def lower_fences(project: Project, table: str | None) -> None:
    """Let plaintexts in again where an interrupted contract had shut them out."""
    from dekctl.schema import steps as schema  # noqa: PLC0415 - brings Alembic, which the other commands do without

    for config in project.table_configs(table):
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
    choice = Choice(source, row_version, moment, same_key)
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
        expanded = []
        for config in project.table_configs(chosen.table):
            plan = schema.plan_for(project.database, project.config, config)
            legacy = plan.table.stage is Stage.LEGACY
            done = legacy if chosen.walk.dry_run else schema.expand(plan)
            expanded.append({"table": config.name, "expanded": done})
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
