"""Which tables a verb takes, and what is checked of each before anything is changed."""

from __future__ import annotations

from dekctl.db.table import DekTable
from dekctl.errors import RefusedError, of_table
from dekctl.ledger.bindings import record_binding
from dekctl.operations.base import Verb
from dekctl.project import Project, refuse_other_stage
from dekctl.walk.options import RowOptions


def tables_for(project: Project, verb: Verb, options: RowOptions) -> list[DekTable]:
    """The tables that a verb has work in, of those that the options choose, inspected.

    Raises:
        UsageError: there is no such table, or it is not as configured.
        RefusedError: the ledger knows a table as another one than [table] says.
    """
    chosen = project.table_configs(options.table)
    tables = [project.table(config, known=not verb.rebinds) for config in chosen]
    return [table for table in tables if table.stage is not verb.done_at]


def check_table(project: Project, verb: Verb, table: DekTable, options: RowOptions) -> None:
    """Let the guards of the verb look at a table.

    Raises:
        RefusedError: it is at the wrong stage, was not expanded by dekctl, or would lose a key.
    """
    with of_table(table.config.name, several=project.has_several_tables):
        _check(project, verb, table, options)


def _check(project: Project, verb: Verb, table: DekTable, options: RowOptions) -> None:
    stages = verb.stages
    if options.dry_run:
        stages += verb.dry_run_stages
    refuse_other_stage(table, *stages)
    ledger = project.ledger if project.ledger.exists() else None
    if ledger is None and not options.dry_run:
        raise RefusedError(
            f"{table.config.name} has dekctl's columns, but there is no ledger",
            hint="take the table over with: dekctl schema expand",
        )
    if ledger is not None and not (verb.rebinds or options.dry_run):
        record_binding(table, ledger)
    if verb.writes:
        table.refuse_not_transactional()
    verb.check(table, ledger)
