"""Runs a verb with progress and interrupt, and shows what it did."""

from __future__ import annotations

from typing import Any, NoReturn

import click

from dekctl.cli.interrupt import interruptible
from dekctl.cli.metrics import RunMetrics
from dekctl.cli.progress import Progress
from dekctl.cli.state import State
from dekctl.errors import ExitCode
from dekctl.garbage import rare_collections
from dekctl.operations.base import Verb
from dekctl.project import Project
from dekctl.walk import estimate
from dekctl.walk.options import RowOptions
from dekctl.walk.result import RunResult
from dekctl.walk.run import run_rows
from dekctl.wording import counted, printable
from dekctl.workflows.callbacks import RunVerb


def with_progress(state: State) -> RunVerb:
    """``run_rows`` with a progress line, for the workflows; Ctrl-C ends a run early."""

    def run(project: Project, verb: Verb, options: RowOptions, /) -> RunResult:
        metrics = RunMetrics(state.metrics, project, verb.name) if state.metrics else None
        with (
            interruptible(state.cancel, state.give_up, state.terminal),
            rare_collections(),
            Progress(state.terminal, verb.name, metrics) as progress,
        ):
            return run_rows(project, verb, options, progress, state.terminal.note)

    return run


def run_verb(state: State, verb: Verb, options: RowOptions) -> NoReturn:
    """Run a verb on its own and end with its exit code."""
    with state.project() as project:
        result = with_progress(state)(project, verb, options)
    finish(state, result)


def end(state: State, value: dict[str, Any], text: str, code: ExitCode) -> NoReturn:
    """Show a command's result and end with this exit code."""
    state.terminal.result(value, text)
    raise click.exceptions.Exit(int(code))


def finish(state: State, result: RunResult, more: str = "") -> NoReturn:
    """Show what a run did, ``more`` after it, and end with its exit code."""
    if result.counts.interrupted:
        state.terminal.note(
            "interrupted; finished batches are kept: run the same command to resume"
        )
    elif result.counts.quarantined:
        state.terminal.note(
            f"{counted(result.counts.quarantined, 'row')} quarantined; list them with: "
            f"dekctl status; once they are corrected: dekctl {result.operation} --retry-quarantined"
        )
    end(state, result.as_json(), text_of(result) + more, result.exit_code)


def text_of(result: RunResult) -> str:
    """What a run did, for people."""
    counts = result.counts
    verified = f"{counts.proved:,} verified"
    parts = [f"{counted(counts.scanned, 'row')} read"]
    if not result.writes:
        parts.append(verified)
    else:
        parts.append(f"{counts.changed:,} {'would change' if result.dry_run else 'changed'}")
        parts += [verified] if counts.proved else []
    if counts.pending or not result.writes:
        parts.append(f"{counts.pending:,} not wrapped yet")
    parts.append(f"{counts.skipped:,} already done")
    if counts.moved:
        parts.append(f"{counts.moved:,} changed by other writers and read again")
    parts.append(f"{counts.quarantined:,} quarantined")
    calls = ", ".join(f"{count:,} {name}" for name, count in sorted(result.kms_calls.items()))
    lines = [f"{result.operation}: " + ", ".join(parts)]
    lines.append(f"KMS calls: {calls or 'none'}; {result.seconds:.1f} seconds")
    if "estimate" in result.extra:
        lines += estimate.text(result.extra["estimate"])
    lines += [f"  {printable(row['pk'])}: {row['reason']}" for row in result.as_json()["set_aside"]]
    return "\n".join(lines)
