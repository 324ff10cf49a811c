"""``dekctl status``."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import Any

import click

from dekctl.cli import metrics
from dekctl.cli.execute import end
from dekctl.cli.registry import Documented, Section
from dekctl.cli.state import State
from dekctl.cli.walk_options import metrics_option, table_option
from dekctl.errors import ExitCode
from dekctl.ledger import RunState
from dekctl.schema.trigger_state import TriggerState, advice
from dekctl.wording import counted, printable
from dekctl.workflows import status as workflow

PLACE = Section.CHECK, 2


@click.command(cls=Documented)
@click.option("--watch", is_flag=True, help="Repeat until Ctrl-C.")
@click.option(
    "--every",
    type=click.FloatRange(0.1),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="With --watch: pause between updates; each update counts every row.",
)
@metrics_option
@table_option
@click.pass_obj
def status(state: State, watch: bool, every: float, table: str | None) -> None:
    """Show the stage, the rows by state, how many rows each KEK wraps, and the runs at work.

    Exit code 5 if KMS does not report the state of a KEK; everything else is still shown.
    """
    with state.project() as project:
        try:
            while True:
                value = workflow.status(project, table)
                if state.metrics is not None:
                    metrics.write(
                        state.metrics, metrics.of_status(value, metrics.verify_ages(project))
                    )
                if not watch:
                    break
                if sys.stdout.isatty():
                    click.clear()
                state.terminal.result(value, f"{datetime.now(UTC):%H:%M:%S} UTC\n{_whole(value)}")
                time.sleep(every)
        except KeyboardInterrupt:  # how a watch ends
            raise click.exceptions.Exit(int(_code(value))) from None
    end(state, value, _whole(value), _code(value))


def _code(value: dict[str, Any]) -> ExitCode:
    entries = value.get("tables", [value])
    keks = [kek for entry in entries for kek in (*entry["keks"], *entry["branch_keys"])]
    return ExitCode.KMS if any(kek["state_problem"] for kek in keks) else ExitCode.OK


def _whole(value: dict[str, Any]) -> str:
    parts = [_text(each) for each in value.get("tables", [value])]
    if "min_generation" in value:
        parts.append(_min_generation(value["min_generation"]))
        parts += _without_context(value["without_context"])
    return "\n\n".join(parts)


def _min_generation(found: dict[str, Any]) -> str:
    text = f"min_generation is {found['configured'] or 'not set'}"
    if not found["applies"]:
        return text + "; it does not apply: every table names its own KEKs"
    if below := _counted(found["rows_below"], found["branch_keys_below"]):
        text += f"; older: {below}, which readers refuse; move them with: dekctl rewrap"
    foreign = _counted(found["rows_of_no_generation"], found["branch_keys_of_no_generation"])
    if foreign:
        return text + (
            f"; it cannot be raised: {foreign} under a KEK that is no generation in Terraform; "
            "move them with: dekctl rewrap"
        )
    if found["can_be"] == found["configured"]:
        return text + ", the oldest generation that rows need"
    return text + f"; the oldest generation that rows need is {found['can_be']}"


def _counted(rows: int, branch_keys: int) -> str:
    counts = ((rows, "row"), (branch_keys, "branch key"))
    return " and ".join(counted(count, what) for count, what in counts if count)


def _without_context(found: dict[str, Any]) -> list[str]:
    """Whether Terraform's ``allow_rows_without_context`` fits the rows."""
    without = f"no encryption context (V1): {counted(found['rows'], 'row')}"
    if found["rows"] and found["allowed"] is False:
        return [
            f"{without}, which no role may decrypt; set allow_rows_without_context = true, run: "
            "make apply; then: dekctl rewrap"
        ]
    if found["rows"]:
        return [
            f"{without}, for which Terraform needs allow_rows_without_context; add the context "
            "with: dekctl rewrap"
        ]
    if found["allowed"]:
        return [
            "no row needs allow_rows_without_context any more; set it to false in Terraform, then "
            "run: make apply"
        ]
    return []


def _text(table: dict[str, Any]) -> str:
    lines = [
        f"{table['table']}: stage {table['stage']}, {counted(table['rows'], 'row')}",
        f"  plaintext only  {table['plaintext_only']:>12,}",
        f"  both            {table['both']:>12,}",
        f"  wrapped only    {table['wrapped_only']:>12,}",
        f"  no key          {table['no_key']:>12,}",
        f"  quarantined     {table['quarantined']:>12,}",
    ]
    for kek in table["keks"]:
        name = _generation(kek)
        lines.append(f"  {kek['rows']:>12,} rows {kek['version']} under {kek['kek_id']}{name}")
        if kek["oldest_wrap"]:
            lines.append(f"{'':>15}wrapped {kek['oldest_wrap']} to {kek['newest_wrap']}")
        lines += _key_state(kek) + _left_behind(kek)
    for kek in table["branch_keys"]:
        name = _generation(kek)
        lines.append(f"  {kek['keys']:>12,} branch keys under {kek['kek_id']}{name}")
        lines += _key_state(kek) + _left_behind(kek)
    if lost := table["rows_without_branch_key"]:
        lines.append(
            f"  {lost:>12,} rows V3 without their branch key: they cannot be decrypted; restore "
            "dekctl_branch_keys from a backup of this database"
        )
    for name in table["constraints"]:
        lines.append(
            f"  {name} refuses some writes of the application: a schema step is running or was "
            "killed; see: dekctl doctor"
        )
    if table["plaintext_problem"]:
        lines.append(f"  {table['plaintext_problem']}")
    if table["trigger"] and (problem := advice(TriggerState(table["trigger"]))):
        lines.append(f"  {problem}")
    lines += [f"  {run_line(run)}" for run in table["unfinished"]]
    if not table["ledger"] and table["stage"] != "legacy":
        lines.append("  there is no ledger: what ran, and what is in quarantine, is not known")
    if table["quarantine"]:
        lines.append("  quarantined rows (once corrected, repeat with --retry-quarantined):")
    for row in table["quarantine"]:
        lines.append(
            f"  quarantined by {row['operation']}: {printable(row['pk'])}: {row['reason']}"
        )
    return "\n".join(lines)


def _generation(kek: dict[str, Any]) -> str:
    state = kek["generation_state"]
    what = f", {state} in Terraform" if state in ("retired", "disabled") else ""
    return f" ({kek['generation']}{what})" if kek["generation"] else ""


def _left_behind(kek: dict[str, Any]) -> list[str]:
    """What to do about rows under a generation that is no longer active."""
    if kek["generation_state"] not in ("retired", "disabled"):
        return []
    return [f"{'':>15}move them to the active KEK with: dekctl rewrap --from {kek['generation']}"]


def run_line(run: dict[str, Any]) -> str:
    """A run that is at work or did not finish, on one line."""
    dry = " (dry run)" if run["rehearsed"] else ""
    part = f" {run['shard']}" if run["shard"] else ""
    text = (
        f"{run['state']}: {run['operation']}{dry}{part} of {run['who']}@{run['host']}, started "
        f"{run['started_at'][:19]} UTC, {counted(run['rows'], 'row')}"
    )
    if run["state"] == RunState.RUNNING.value:
        return f"{text} so far, last heartbeat {run['heartbeat_at'][11:19]}"
    if run["state"] == RunState.ABANDONED.value:
        text += f" until its last heartbeat at {run['heartbeat_at'][11:19]}; its process is gone"
    if run["error"]:
        text += f", {run['error']}"
    return f"{text}; to resume: dekctl {run['operation']}"


def _key_state(kek: dict[str, Any]) -> list[str]:
    """What is wrong with a KEK in KMS, if anything is."""
    if kek["state_problem"]:
        return [f"{'':>15}KMS does not report its state: {kek['state_problem']}"]
    if kek["state"] in (None, "Enabled"):
        return []
    text = f"{'':>15}{kek['state']} in KMS: these rows cannot be decrypted"
    if kek["deletion_date"]:
        text += f", and are lost for good on {kek['deletion_date']}"
    return [f"{text}; run: {kek['hint'] or 'dekctl doctor'}"]
