"""Cryptographic erasure: destroying a tenant's KEK together with the tenant's rows.

Destroying the KEK makes the rows permanently unreadable, in every backup too. That erases the
tenant only if nothing of it can be read in another way, and harms nobody else only if no other row
is under that KEK. Both are counted here, row by row, and for the backups of the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from dekctl.checks import Check
from dekctl.db.table import DekTable
from dekctl.errors import UsageError
from dekctl.kek_id import could_be, is_same_kek
from dekctl.kms.context import V3
from dekctl.lifecycle.backup_window import PastRun, no_window, past_runs
from dekctl.operations.rewrap import Rewrap
from dekctl.operations.scrub import Scrub
from dekctl.project import Project
from dekctl.wording import counted


@dataclass(slots=True)
class _Count:
    mine: int = 0
    elsewhere: int = 0
    plaintexts: int = 0


def check_erasure(project: Project, kek: str, owner: str, rows: int) -> list[Check]:
    """Check every row of an owner and of a KEK.

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
            f"it wraps {counted(total.mine, 'row')} of {owner} and {others:,} of others",
            None if others == 0 else "move those first: dekctl rewrap",
        ),
        Check(
            "rows elsewhere",
            total.elsewhere == 0,
            f"another KEK or a shared branch key wraps {total.elsewhere:,} of {owner}'s rows",
            None if total.elsewhere == 0 else "move them to it first: dekctl rewrap",
        ),
        Check(
            "plaintexts",
            total.plaintexts == 0,
            f"{owner} has {counted(total.plaintexts, 'plaintext key')}",
            None if total.plaintexts == 0 else "remove them first: dekctl wrap, dekctl scrub",
        ),
        _backups(project, kek, owner),
    ]


def _count(table: DekTable, kek: str, owner: str, total: _Count) -> None:
    owner_column = sa.cast(sa.column(_name(table)), sa.String(255))
    columns = table.config
    kek_column: sa.ColumnElement[Any] = sa.cast(sa.null(), sa.String)
    version_column: sa.ColumnElement[Any] = sa.cast(sa.null(), sa.String)
    if table.has("kek"):
        kek_column = sa.column(columns.kek_column, sa.String)
    if table.has("version"):
        version_column = sa.column(columns.version_column, sa.String)
    has_wrapped = (
        sa.column(columns.wrapped_column).is_not(None) if table.has("wrapped") else sa.false()
    )
    source = sa.table(table.config.bare_name, schema=table.config.schema)
    plaintext = (
        sa.column(table.config.plaintext_column).is_not(None)
        if table.has("plaintext")
        else sa.false()
    )
    rows = (
        sa.select(
            kek_column.label("kek"),
            version_column.label("version"),
            sa.case((has_wrapped, 1), else_=0).label("wrapped"),
            sa.case((plaintext, 1), else_=0).label("plaintext"),
        )
        .select_from(source)
        .where(owner_column == owner)
        .subquery()
    )
    query = sa.select(
        rows.c.kek, rows.c.version, sa.func.sum(rows.c.wrapped), sa.func.sum(rows.c.plaintext)
    ).group_by(rows.c.kek, rows.c.version)
    with table.database.transaction(patient=True) as connection:
        for kek_id, version, wrapped, plaintexts in connection.execute(query):
            # A V3 row is decrypted through its branch key, which other owners' rows share.
            if is_same_kek(kek_id, kek) and version != V3:
                total.mine += int(wrapped or 0)
            else:
                total.elsewhere += int(wrapped or 0)
            total.plaintexts += int(plaintexts or 0)


def _name(table: DekTable) -> str:
    assert table.config.kek_by is not None
    return table.config.kek_by.column


def _backups(project: Project, kek: str, owner: str) -> Check:
    """What backups may contain: rows that this KEK does not protect, or others that need it."""
    unanswered = no_window(project)
    if unanswered is not None:
        return unanswered
    days = project.env.backup_retention_days
    with project.database.transaction() as connection:
        now = project.database.now(connection)
    scrubs, rewraps = (
        [
            run
            for config in project.config.tables
            for run in past_runs(project.ledger, config.context_name, operation)
        ]
        for operation in (Scrub.name, Rewrap.name)
    )
    held = {
        "plaintext keys": [run for run in scrubs if run.result.get("changed") or not run.whole],
        "rows of others that have been moved since": [run for run in rewraps if _left(run, kek)],
        f"rows of {owner} under another KEK": [run for run in rewraps if _came(run, kek)],
    }
    until = {what: _until(runs, now, days) for what, runs in held.items()}
    kept = [f"{what} until {end:%Y-%m-%d %H:%M} UTC" for what, end in until.items() if end > now]
    if not kept:
        return Check("backups", True, "no backup in the window contains anything else")
    return Check(
        "backups",
        False,
        f"backups may contain {'; '.join(kept)}",
        "run the same command again after that",
    )


def _left(run: PastRun, kek: str) -> bool:
    """Whether a rewrap may have moved rows from a KEK to another one."""
    return _tells_no_moves(run) or any(
        not is_same_kek(new, kek) and (is_same_kek(old or None, kek) or could_be(old or None, kek))
        for old, new, _ in run.result["moves"]
    )


def _came(run: PastRun, kek: str) -> bool:
    """Whether a rewrap may have moved rows to a KEK from another one."""
    return _tells_no_moves(run) or any(
        is_same_kek(new, kek) and not is_same_kek(old or None, kek)
        for old, new, _ in run.result["moves"]
    )


def _tells_no_moves(run: PastRun) -> bool:
    """A run that was killed, or lost a worker, may not have recorded all its moves."""
    moves = run.result.get("moves")
    if moves is None or not run.whole or run.result.get("incomplete"):
        return True
    return bool(sum(rows for _, _, rows in moves) < run.result["changed"])


def _until(runs: Sequence[PastRun], now: datetime, days: int) -> datetime:
    """When the last backup from before the end of these runs has expired."""
    ends = [(run.ended or now) + timedelta(days=days) for run in runs]
    return max(ends, default=now)
