"""Which rows need which KEK: counted over every configured table, for `retire` and `guard`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from dekctl.config import TableConfig
from dekctl.db.table import DekTable, Stage
from dekctl.errors import RefusedError
from dekctl.keks.identity import may_mean, names
from dekctl.kms.context import V1, V3
from dekctl.project import Project


@dataclass(frozen=True, slots=True)
class Use:
    """Wrapped keys of one table that name one KEK in one version. Quarantined rows count too."""

    table: str
    context_name: str
    kek_id: str | None
    version: str
    rows: int


def count_uses(project: Project) -> list[Use]:
    """Count every wrapped key of every configured table.

    A table that is not there yet has none. One that the ledger knows and that is gone is no such
    table: it was renamed, and its rows are somewhere.

    Raises:
        RefusedError: a table that was managed is gone.
        UsageError: a table is not as configured.
        DatabaseError: the database refused or cannot be reached.
    """
    uses: list[Use] = []
    for config in project.config.tables:
        if _is_there(project, config):
            of_rows = _uses_of(project.table(config))
            uses += of_rows + _uses_of_branch_keys(project, config, of_rows)
    return uses


def _is_there(project: Project, config: TableConfig) -> bool:
    with project.database.transaction() as connection:
        if sa.inspect(connection).has_table(config.bare_name, schema=config.schema):
            return True
    if project.ledger.exists() and project.ledger.facts(config.context_name):
        raise RefusedError(
            f"the table {config.name}, which dekctl manages, is gone",
            hint="was it renamed? Correct `name` in [table] and keep its context_name",
        )
    return False


def _uses_of(table: DekTable) -> list[Use]:
    if table.stage is Stage.LEGACY:
        return []
    kek, version = table.quoted("kek"), table.quoted("version")
    query = (
        f"SELECT {kek}, {version}, count(*) FROM {table.quoted_name} "
        f"WHERE {table.quoted('wrapped')} IS NOT NULL GROUP BY {kek}, {version}"
    )
    with table.database.transaction(patient=True) as connection:
        found = connection.exec_driver_sql(query).all()
    config = table.config
    return [Use(config.name, config.context_name, k, v or V1, rows) for k, v, rows in found]


def _uses_of_branch_keys(
    project: Project, config: TableConfig, of_rows: Sequence[Use]
) -> list[Use]:
    """KEKs that wrap branch keys (V3) but are named by no row: a rewrap may have ended half-way."""
    named = {use.kek_id for use in of_rows}
    return [
        Use(config.name, config.context_name, kek_id, V3, keys)
        for kek_id, keys in project.branch_table.keks(config.context_name).items()
        if kek_id not in named
    ]


def rows_naming(uses: Sequence[Use], kek: str) -> int:
    """How many wrapped keys certainly need a KEK."""
    return sum(use.rows for use in uses if names(use.kek_id, kek))


def rows_unclear(uses: Sequence[Use], kek: str) -> int:
    """How many wrapped keys may need it: they name an alias, or no KEK at all."""
    return sum(use.rows for use in uses if may_mean(use.kek_id, kek))
