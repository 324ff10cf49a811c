"""Runs a verb with progress and interrupt, and prints what came of it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import click

from dekctl.cli.interrupt import interruptible
from dekctl.cli.state import State
from dekctl.cli.terminal import ProgressLine, Terminal
from dekctl.project import Project
from dekctl.walk import estimate
from dekctl.walk.run import RowOptions, RunResult, run_rows


def execute(state: State, project: Project, verb: str, options: RowOptions) -> RunResult:
    """Run a verb with progress and interrupt."""
    progress = ProgressLine(state.terminal, verb)
    progress.begin()
    with interruptible(state.cancel, state.give_up, state.terminal), _seldom_collected():
        try:
            return run_rows(project, verb, options, progress, state.terminal.note)
        finally:
            progress.close()


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """What is loaded by now stays: to look through it again costs a tenth of the speed."""
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


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
