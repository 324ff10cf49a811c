"""Which tables a verb takes, and what is checked of each before anything is changed."""

from __future__ import annotations

from dekctl.config import TableConfig
from dekctl.db.table import DekTable
from dekctl.errors import RefusedError, of_table
from dekctl.ledger.bindings import record_binding
from dekctl.operations.base import Verb
from dekctl.project import Project
from dekctl.walk.options import RowOptions


def configs_for(project: Project, verb: Verb, options: RowOptions) -> list[TableConfig]:
    """The tables that a verb is for, of those that the options choose.

    Raises:
        UsageError: there is no such table.
    """
    if verb.done_at is None:
        return project.table_configs(options.table)
    return project.tables_left(options.table, verb.done_at)


def checked_table(
    project: Project, verb: Verb, config: TableConfig, options: RowOptions
) -> DekTable:
    """Inspect a table and let the guards of the verb look at it.

    Raises:
        RefusedError: it is at the wrong stage, was not expanded by dekctl, or would lose a key.
    """
    with of_table(config.name, several=project.has_several_tables):
        return _checked(project, verb, config, options)


def _checked(project: Project, verb: Verb, config: TableConfig, options: RowOptions) -> DekTable:
    stages = verb.stages
    if options.dry_run:
        stages += verb.dry_run_stages
    table = project.table_at(config, *stages, known=not verb.rebinds)
    ledger = project.ledger if project.ledger.exists() else None
    if ledger is None and not options.dry_run:
        raise RefusedError(
            f"{config.name} has dekctl's columns, but there is no ledger",
            hint="take the table over with: dekctl schema expand",
        )
    if ledger is not None and not (verb.rebinds or options.dry_run):
        record_binding(table, ledger)
    if verb.writes:
        table.refuse_not_transactional()
    verb.check(table, ledger)
    return table
