"""Cryptographic erasure: a tenant's KEK may go together with the tenant's rows.

Destroying the KEK makes the rows unreadable for good, in every backup too. That erases the tenant
only if nothing of it is readable by other means, and harms nobody else only if no other row is
under that KEK. Both are counted here, row by row.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from dekctl.db.table import DekTable, Stage
from dekctl.errors import UsageError
from dekctl.keks.identity import names
from dekctl.ledger import tables
from dekctl.project import Project


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. ``hint`` is the next command where it is not ``ok``."""

    name: str
    ok: bool
    detail: str
    hint: str | None = None


@dataclass(slots=True)
class _Count:
    mine: int = 0
    elsewhere: int = 0
    plaintexts: int = 0


def check_erasure(project: Project, kek: str, owner: str, rows: int) -> list[Check]:
    """Account for every row of an owner and of a KEK.

    Args:
        project: the project.
        kek: the KEK's ARN.
        owner: the value of the ``kek_by`` column.
        rows: how many rows of all tables name the KEK.

    Raises:
        UsageError: no table has ``kek_by``.
        DatabaseError: the database refused or cannot be reached.
    """
    configs = [config for config in project.config.tables if config.kek_by is not None]
    if not configs:
        raise UsageError("no table has kek_by, so no row has an owner", hint="see [table]")
    total = _Count()
    for config in configs:
        _count(project.table(config), kek, owner, total)
    others = rows - total.mine
    return [
        Check(
            "rows",
            others == 0,
            f"{total.mine:,} rows of {owner} are under it, and {others:,} of others",
            None if others == 0 else "move those first: dekctl rewrap",
        ),
        Check(
            "rows elsewhere",
            total.elsewhere == 0,
            f"{total.elsewhere:,} rows of {owner} are under another KEK",
            None if total.elsewhere == 0 else "bring them together first: dekctl rewrap",
        ),
        Check(
            "plaintexts",
            total.plaintexts == 0,
            f"{total.plaintexts:,} rows of {owner} have a plaintext key",
            None if total.plaintexts == 0 else "remove them first: dekctl wrap, dekctl scrub",
        ),
        _scrubbed(project),
    ]


def _count(table: DekTable, kek: str, owner: str, total: _Count) -> None:
    owner_column = sa.cast(sa.column(_name(table)), sa.String(255))
    # A table that is still at its legacy schema has plaintexts alone.
    legacy = table.stage is Stage.LEGACY
    kek_column: sa.ColumnElement[Any] = sa.null()
    if not legacy:
        kek_column = sa.column(table.config.kek_column, sa.String)
    has_wrapped = sa.false() if legacy else sa.column(table.config.wrapped_column).is_not(None)
    source = sa.table(table.config.bare_name, schema=table.config.schema)
    plaintext = (
        sa.column(table.config.plaintext_column).is_not(None)
        if table.has("plaintext")
        else sa.false()
    )
    query = (
        sa.select(
            kek_column,
            sa.func.sum(sa.case((has_wrapped, 1), else_=0)),
            sa.func.sum(sa.case((plaintext, 1), else_=0)),
        )
        .select_from(source)
        .where(owner_column == owner)
    )
    query = query if legacy else query.group_by(kek_column)
    with table.database.transaction(patient=True) as connection:
        for kek_id, wrapped, plaintexts in connection.execute(query):
            if names(kek_id, kek):
                total.mine += int(wrapped or 0)
            else:
                total.elsewhere += int(wrapped or 0)
            total.plaintexts += int(plaintexts or 0)


def _name(table: DekTable) -> str:
    assert table.config.kek_by is not None
    return table.config.kek_by.column


def _scrubbed(project: Project) -> Check:
    """Backups from before the last scrub hold plaintexts, which no KEK protects."""
    days = project.env.backup_retention_days
    if days == 0 or not project.ledger.exists():
        return Check("backups", True, "no backup window is declared (backup_retention_days)")
    runs = tables(project.ledger.schema)["runs"].c
    names_ = [config.context_name for config in project.config.tables]
    query = sa.select(runs.ended_at, runs.result).where(
        runs.operation == "scrub", runs.table_name.in_(names_), runs.ended_at.is_not(None)
    )
    with project.database.transaction() as connection:
        now = project.database.now(connection)
        ended = [
            datetime.fromisoformat(row.ended_at)
            for row in connection.execute(query)
            if json.loads(row.result or "{}").get("changed")
        ]
    until = max(ended) + timedelta(days=days) if ended else now
    if until <= now:
        return Check("backups", True, "no backup in the window holds a plaintext key")
    return Check(
        "backups",
        False,
        f"backups with plaintext keys are kept until {until:%Y-%m-%d %H:%M} UTC",
        "run the same command again then",
    )
