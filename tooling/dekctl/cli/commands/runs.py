"""``dekctl runs``."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from dekctl.cli.execute import end
from dekctl.cli.registry import Documented, Section
from dekctl.cli.state import State
from dekctl.cli.walk_options import table_option
from dekctl.errors import ExitCode
from dekctl.ledger import RunState
from dekctl.ledger.history import runs as runs_of

PLACE = Section.CHECK, 3


@click.command(cls=Documented)
@table_option
@click.option("--operation", metavar="NAME", help="Only runs of this command, for example wrap.")
@click.option(
    "--state",
    "run_state",
    type=click.Choice([state.value for state in RunState]),
    help="Only runs in this state; abandoned: the process was killed or lost.",
)
@click.option(
    "--since", type=click.DateTime(), metavar="DATE", help="Only runs started since then (UTC)."
)
@click.option("--no-dry-runs", is_flag=True, help="Leave out dry runs.")
@click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="Maximum number of runs."
)
@click.pass_obj
def runs(
    state: State,
    table: str | None,
    operation: str | None,
    run_state: str | None,
    since: datetime | None,
    no_dry_runs: bool,
    limit: int,
) -> None:
    """List the runs in the ledger, newest first, with what they did and how they ended.

    A run whose process is gone is listed as abandoned, with the rows of its last heartbeat.
    """
    with state.project() as project:
        name = project.table_configs(table)[0].context_name if table else None
        exists = project.ledger.exists()
        found = (
            runs_of(
                project.ledger,
                limit,
                table_name=name,
                operation=operation,
                state=RunState(run_state) if run_state else None,
                since=since,
                dry_runs=not no_dry_runs,
            )
            if exists
            else []
        )
        value = {"operation": "runs", "env": project.env.name, "ledger": exists, "runs": found}
    none = "no such run" if exists else "there is no ledger yet: nothing has been run"
    end(state, value, "\n".join(map(_line, found)) or none, ExitCode.OK)


def _line(run: dict[str, Any]) -> str:
    calls = (run["result"] or {}).get("kms_calls") or {}
    what = f"{run['operation']} {run['table_name']}"
    what += f" {run['shard']}" if run["shard"] else ""
    what += " (dry run)" if run["rehearsed"] else ""
    error = f": {run['error']}" if run["error"] else ""
    return (
        f"{run['started_at'][:19]}  {run['state']:<11} {what:<32} {run['rows']:>12,} rows "
        f"{run['seconds']:>9,.1f} s  {sum(calls.values()):>10,} KMS calls  "
        f"{run['who']}@{run['host']}  {run['run_id']}{error}"
    )
