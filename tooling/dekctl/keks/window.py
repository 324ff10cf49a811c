"""Since when a KEK has been empty: read from the ledger, for the backup window of `retire`.

A backup that was taken while rows still named a KEK needs that KEK to be of any use. So the window
begins when the last row left: at the end of a whole `rewrap` that left none behind, or else when a
`retire` first found the KEK empty. Either counts only as long as no row came back.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from dekctl import __version__
from dekctl.ledger import Ledger, tables
from dekctl.project import Project

NOTE = "retire"


@dataclass(frozen=True, slots=True)
class Window:
    """The backup window of a KEK. Times are UTC, by the database's clock.

    ``empty_since`` is None where nothing is known; ``ends`` is None with it.
    """

    days: int
    now: datetime
    empty_since: datetime | None

    @property
    def ends(self) -> datetime | None:
        """When the last backup with a row of this KEK has expired."""
        return self.empty_since + timedelta(days=self.days) if self.empty_since else None

    @property
    def over(self) -> bool:
        """Whether no backup needs the KEK any more."""
        return self.days == 0 or (self.ends is not None and self.ends <= self.now)


def backup_window(project: Project, kek: str) -> Window:
    """Work out a KEK's window. The caller has counted that no row names it now.

    Raises:
        DatabaseError: the database refused or cannot be reached.
    """
    ledger = project.ledger
    with project.database.transaction() as connection:
        now = project.database.now(connection)
    if not ledger.exists():
        return Window(project.env.backup_retention_days, now, None)
    names = [table.context_name for table in project.config.tables]
    since = [_empty_since(ledger, name, kek) for name in names]
    known = [moment for moment in since if moment is not None]
    whole = max(known) if len(known) == len(names) else None
    return Window(project.env.backup_retention_days, now, whole)


def note_count(project: Project, kek: str, rows: int) -> None:
    """Keep in the ledger how many rows named a KEK when `retire` looked."""
    ledger = project.ledger
    for table in project.config.tables:
        run = ledger.start(
            NOTE,
            table.context_name,
            shard=None,
            writes=False,
            kek_id=kek,
            version=__version__,
        )
        run.result = {"rows": rows}
        ledger.end(run, "finished")


def _empty_since(ledger: Ledger, context_name: str, kek: str) -> datetime | None:
    """When a table's last row left a KEK, as far as the ledger tells."""
    since: datetime | None = None
    for event in _events(ledger, context_name):
        ended = datetime.fromisoformat(event["ended_at"])
        result = json.loads(event["result"] or "{}")
        if event["operation"] == NOTE:
            if event["kek_id"] != kek:
                continue
            since = (since or ended) if result.get("rows") == 0 else None
        elif kek in result.get("targets", ()):
            since = None  # rows may have come (back) to it
        elif _may_come_from(result, kek):
            since = ended if result.get("left_none_of") in ("any", kek) else None
        elif result.get("left_none_of") in ("any", kek):
            since = since or ended
    return since


def _may_come_from(result: dict[str, Any], kek: str) -> bool:
    """Whether a run moved rows off a KEK. One that was killed, or had workers, cannot tell."""
    sources = result.get("sources", {})
    told = "changed" in result and sum(sources.values()) >= result["changed"]
    return kek in sources or not told


def _events(ledger: Ledger, context_name: str) -> list[dict[str, Any]]:
    runs = tables(ledger.schema)["runs"].c
    query = (
        sa.select(runs.operation, runs.kek_id, runs.ended_at, runs.result)
        .where(
            runs.table_name == context_name,
            runs.ended_at.is_not(None),
            sa.or_(
                runs.operation == NOTE,
                sa.and_(runs.operation == "rewrap", runs.dry_run == sa.false()),
            ),
        )
        .order_by(runs.ended_at)
    )
    with ledger.database.transaction() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]
