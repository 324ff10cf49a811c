"""The rows of a table, counted in one pass for all that status, doctor, retire and guard ask.

A large table is read for seconds or minutes, so no command reads it once for each of its questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from dekctl.branch_keys.table import branch_keys_table
from dekctl.config import TableConfig
from dekctl.db.sql import literal
from dekctl.db.stored import text_of
from dekctl.db.table import DekTable
from dekctl.kms.branch.keys import ID_BYTES
from dekctl.kms.branch.supply import V3_FORMAT
from dekctl.kms.context import V3
from dekctl.project import Project


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of a table with the same KEK and version, and with the same kinds of keys.

    ``first`` and ``last`` are when the first and the last of them was wrapped, as the driver reads
    it: None if that is not recorded, or was not asked for.
    """

    kek_id: str | None
    version: str | None
    has_plaintext: bool
    has_wrapped: bool
    rows: int
    first: Any
    last: Any


@dataclass(frozen=True, slots=True)
class TableCount:
    """Every row of a table is in one of the groups.

    ``without_branch_key`` of them (V3) have a branch key that is not stored: no KEK can decrypt
    them.
    """

    groups: Sequence[Group]
    without_branch_key: int

    def rows(self, *, plaintext: bool, wrapped: bool) -> int:
        """How many rows have a plaintext and a wrapped key, or have not."""
        return sum(
            group.rows
            for group in self.groups
            if group.has_plaintext is plaintext and group.has_wrapped is wrapped
        )


def count_rows(project: Project, table: DekTable, *, times: bool = False) -> TableCount:
    """Count all rows of a table: one pass over it, and one more if there are V3 rows.

    Args:
        project: the project.
        table: the table, at any stage.
        times: also ask when rows were wrapped, where the table records it.

    Raises:
        DatabaseError: the database refused or cannot be reached.
    """
    # The seed's own script may have left out the columns that say how a key was wrapped.
    by = {name: table.quoted(name) if table.has(name) else "NULL" for name in ("kek", "version")}
    # Conditions, not numbers: PostgreSQL knows that a condition makes few groups, and sorts none.
    by |= {
        f"no_{name}": table.is_null(name) if table.has(name) else "1 = 1"
        for name in ("plaintext", "wrapped")
    }
    moment = table.quoted("wrapped_at") if times and table.has("wrapped_at") else None
    branch_keys = branch_keys_table(project.config.table.schema)
    stored = branch_keys if project.branch_table.exists() else None
    with table.database.transaction(patient=True) as connection:
        groups = [
            Group(text_of(kek), text_of(version), not no_plaintext, not no_wrapped, *numbers)
            for kek, version, no_plaintext, no_wrapped, *numbers in (
                table.database.dialect.count_groups(connection, table, by, moment)
            )
        ]
        lost = 0
        if any(_may_be_v3(group) for group in groups):
            lost = _without_branch_key(connection, table, stored)
    return TableCount(groups, lost)


def _may_be_v3(group: Group) -> bool:
    """Whether the database may take the version for V3: collations ignore case, or spaces."""
    return group.has_wrapped and (group.version or "").strip().upper() == V3


def _without_branch_key(connection: Connection, table: DekTable, stored: sa.Table | None) -> int:
    rows = (
        f"SELECT count(*) FROM {table.quoted_name} AS t "
        f"WHERE t.{table.quoted('version')} = '{V3}' AND t.{table.quoted('wrapped')} IS NOT NULL"
    )
    if stored is not None:
        name = connection.dialect.identifier_preparer.format_table(stored)
        branch_id = table.database.dialect.hex_of(
            f"t.{table.quoted('wrapped')}", len(V3_FORMAT) + 1, ID_BYTES
        )
        rows += (
            f" AND NOT EXISTS (SELECT 1 FROM {name} AS b WHERE b.branch_id = {branch_id} "
            f"AND b.context_name = {literal(table.config.context_name)})"
        )
    return int(connection.execute(sa.text(rows)).scalar_one())


class Census:
    """The rows of every configured table, each counted when it is first asked about, and once."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._counted: dict[str, TableCount] = {}

    def of(self, config: TableConfig) -> TableCount:
        """The rows of a table, as they were when they were counted.

        Raises:
            UsageError: the table is not as configured.
            DatabaseError: the database refused or cannot be reached.
        """
        if config.name not in self._counted:
            table = self.project.table(config)
            self._counted[config.name] = count_rows(self.project, table)
        return self._counted[config.name]
