"""Which rows need which KEK: counted over every configured table, for `retire` and `guard`.

Nothing may be missed here. So a table that dekctl manages but that is not configured, or that is
gone, stops the count; and a KEK that a row does not name counts as unknown, never as none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from dekctl.branch_keys.table import branch_keys_table
from dekctl.config import TableConfig
from dekctl.errors import RefusedError
from dekctl.kek_id import could_be, is_same_kek
from dekctl.kms.context import V1, V3
from dekctl.ledger import tables
from dekctl.lifecycle.counting import Census
from dekctl.project import Project

BRANCH_KEY_HINT = "restore dekctl_branch_keys from a backup of this database"
"""What to do about V3 rows whose branch key is not stored."""


@dataclass(frozen=True, slots=True)
class Use:
    """Wrapped keys of one table that name one KEK in one version. Quarantined rows count too.

    With ``of_branch_keys`` they are the branch keys (V3) that a KEK wraps: ``rows`` of them.
    """

    table: str
    context_name: str
    kek_id: str | None
    version: str
    rows: int
    of_branch_keys: bool = False


def count_uses(census: Census) -> list[Use]:
    """Every wrapped key of every configured table, and every branch key, counted.

    A missing table has none; :func:`missing_tables` lists those.

    Raises:
        RefusedError: a table that is managed is gone, or is not configured.
        UsageError: a table is not as configured.
        DatabaseError: the database refused or cannot be reached.
    """
    project = census.project
    missing_tables(project)  # it refuses where one that is managed is gone
    uses = [use for config in project.config.tables for use in _uses_of(census, config)]
    uses += _uses_of_branch_keys(project)
    _refuse_unlisted(project, uses)
    return uses


def missing_tables(project: Project) -> list[str]:
    """The configured tables that are not in the database.

    Raises:
        RefusedError: the ledger knows one of them: it was renamed, so its rows are elsewhere.
        DatabaseError: the database refused or cannot be reached.
    """
    missing = [config for config in project.config.tables if not _is_there(project, config)]
    if missing and project.ledger.exists():
        for config in missing:
            if project.ledger.table_metadata(config.context_name):
                raise RefusedError(
                    f"the table {config.name}, which dekctl manages, is gone",
                    hint="was it renamed? Correct `name` in [table] and keep its context_name",
                )
    return [config.name for config in missing]


def _is_there(project: Project, config: TableConfig) -> bool:
    with project.database.transaction() as connection:
        return sa.inspect(connection).has_table(config.bare_name, schema=config.schema)


def _refuse_unlisted(project: Project, uses: Sequence[Use]) -> None:
    """Rows of a table that is not configured any more would lose their KEK unnoticed."""
    known = {use.context_name for use in uses if use.of_branch_keys}
    if project.ledger.exists():
        managed = tables(project.ledger.schema)["tables"]
        with project.database.transaction() as connection:
            known |= set(connection.execute(sa.select(managed.c.table_name)).scalars())
    unlisted = sorted(known - {config.context_name for config in project.config.tables})
    if unlisted:
        name, file = unlisted[0], project.config.path.name
        raise RefusedError(
            f"the ledger knows the table with context_name {name!r}, which {file} does not list: "
            "its rows cannot be counted",
            hint=f'put the table back into {file}: [[table]] with context_name = "{name}"; if it '
            "was dropped for good, delete its lines from dekctl_tables and dekctl_branch_keys",
        )


def rows_without_branch_keys(census: Census, configs: Iterable[TableConfig]) -> int:
    """How many rows (V3) of some tables no KEK can decrypt: their branch key is not stored.

    Raises:
        UsageError: a table is not as configured.
        DatabaseError: the database refused or cannot be reached.
    """
    found = [census.of(config) for config in configs if _has_wrapped_keys(census, config)]
    return sum(count.without_branch_key for count in found)


def _has_wrapped_keys(census: Census, config: TableConfig) -> bool:
    return _is_there(census.project, config) and census.project.table(config).has("wrapped")


def _uses_of(census: Census, config: TableConfig) -> list[Use]:
    if not _has_wrapped_keys(census, config):
        return []
    return [
        Use(config.name, config.context_name, group.kek_id, group.version or V1, group.rows)
        for group in census.of(config).groups
        if group.has_wrapped
    ]


def _uses_of_branch_keys(project: Project) -> list[Use]:
    """Branch keys by KEK: a row of theirs may name another one, if a rewrap ended half-way."""
    if not project.branch_table.exists():
        return []
    t = branch_keys_table(project.config.table.schema).c
    query = sa.select(t.context_name, t.kek_id, sa.func.count()).group_by(t.context_name, t.kek_id)
    with project.database.transaction() as connection:
        found = connection.execute(query).all()
    table_of = {config.context_name: config.name for config in project.config.tables}
    return [
        Use(table_of.get(context, context), context, kek_id, V3, keys, of_branch_keys=True)
        for context, kek_id, keys in found
    ]


def rows_naming(uses: Iterable[Use], kek: str) -> int:
    """How many rows certainly name a KEK."""
    return sum(use.rows for use in uses if is_same_kek(use.kek_id, kek) and not use.of_branch_keys)


def rows_unclear(uses: Iterable[Use], kek: str) -> int:
    """How many rows may need it: they name an alias, or no KEK at all."""
    return sum(use.rows for use in uses if could_be(use.kek_id, kek) and not use.of_branch_keys)


def branch_keys_under(uses: Iterable[Use], kek: str) -> int:
    """How many branch keys (V3) a KEK wraps."""
    return sum(use.rows for use in uses if is_same_kek(use.kek_id, kek) and use.of_branch_keys)


def rows_through_branch_keys(uses: Sequence[Use], kek: str) -> int:
    """How many V3 rows name another KEK, although it may wrap their branch key."""
    shared = {u.context_name for u in uses if u.of_branch_keys and is_same_kek(u.kek_id, kek)}
    return sum(
        use.rows
        for use in uses
        if use.version == V3
        and use.context_name in shared
        and not use.of_branch_keys
        and not is_same_kek(use.kek_id, kek)
    )
