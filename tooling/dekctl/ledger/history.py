"""Reads the ledger for people: which runs there were, how they stand, and what is left undone."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dekctl.ledger.ledger import Ledger, is_dead
from dekctl.ledger.run import RunState
from dekctl.ledger.tables import parse_result, parse_time, tables, time_text

READS_ONLY = ("verify", "prove")
"""Operations that never write; an entry of theirs is no dry run."""


def runs(
    ledger: Ledger,
    limit: int,
    *,
    table_name: str | None = None,
    operation: str | None = None,
    state: RunState | None = None,
    since: datetime | None = None,
    dry_runs: bool = True,
) -> list[dict[str, Any]]:
    """The last runs, newest first, as plain values.

    A run is shown as it is: ``abandoned`` where its process is dead, even before the next run has
    noticed; then its counts are those of its last heartbeat. ``rehearsed`` says that it was a dry
    run, ``rows`` how many rows it changed or verified, ``seconds`` how long it took or has been
    running.

    Args:
        ledger: the ledger; it exists.
        limit: maximum number of runs.
        table_name: only those of the table with this context name.
        operation: only those of this command.
        state: only those that stand so.
        since: only those that started then or later (UTC).
        dry_runs: whether dry runs are listed, too.

    Raises:
        DatabaseError: the database refused or cannot be reached.
    """
    table = tables(ledger.schema)["runs"]
    r = table.c
    query = sa.select(table).order_by(r.started_at.desc(), r.run_id)
    for column, value in ((r.table_name, table_name), (r.operation, operation)):
        if value is not None:
            query = query.where(column == value)
    if since is not None:
        query = query.where(r.started_at >= time_text(since))
    if state is RunState.ABANDONED:
        query = query.where(r.state.in_([state.value, RunState.RUNNING.value]))
    elif state is not None:
        query = query.where(r.state == state.value)
    found: list[dict[str, Any]] = []
    with ledger.database.transaction() as connection:
        now = ledger.database.now(connection)
        for row in connection.execute(query).mappings():
            run = _shown(dict(row), now)
            if (state is None or run["state"] == state.value) and (
                dry_runs or not run["rehearsed"]
            ):
                found.append(run)
                if len(found) == limit:
                    break
    return found


def unfinished(ledger: Ledger, table_name: str) -> list[dict[str, Any]]:
    """The runs at work on a table, and the newest one that wrote, if it did not finish.

    Raises:
        DatabaseError: the database refused or cannot be reached.
    """
    found = runs(ledger, 50, table_name=table_name)
    left = [run for run in found if run["state"] == RunState.RUNNING.value]
    wrote = [run for run in found if not (run["rehearsed"] or run["operation"] in READS_ONLY)]
    if wrote and wrote[0]["state"] not in (RunState.RUNNING.value, RunState.FINISHED.value):
        left.append(wrote[0])
    dead = [
        run for run in found if run["state"] == RunState.ABANDONED.value and not run["ended_at"]
    ]
    return left + [run for run in dead if run not in left]


def last_verified(ledger: Ledger, table_name: str) -> dict[str, Any] | None:
    """The last `verify` that read every row of a table and ended; None if there was none.

    Raises:
        DatabaseError: the database refused or cannot be reached.
    """
    for run in runs(ledger, 1000, table_name=table_name, operation="verify"):
        result = run["result"] or {}
        if run["state"] == RunState.FINISHED.value and result.get("whole"):
            return run
    return None


def _shown(run: dict[str, Any], now: datetime) -> dict[str, Any]:
    run["result"] = result = parse_result(run["result"])
    if run["state"] == RunState.RUNNING.value and is_dead(run, now):
        run["state"] = RunState.ABANDONED.value
    counts = result or {}
    run["rehearsed"] = bool(
        counts.get("dry_run", run["dry_run"] and run["operation"] not in READS_ONLY)
    )
    run["rows"] = int(max(counts.get("changed", 0), counts.get("proved", 0)))
    # Nobody knows when a process died; its last heartbeat is the last that is known of it.
    died = run["state"] == RunState.ABANDONED.value
    ended = run["heartbeat_at"] if died else run["ended_at"]
    begins, ends = parse_time(run["started_at"]), parse_time(ended) if ended else now
    took = (ends - begins).total_seconds() if begins and ends else 0.0
    run["seconds"] = round(max(took, 0.0), 3)
    return run
