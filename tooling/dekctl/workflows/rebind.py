"""Rebind: bind the rows of a table anew, and record in the ledger what they are bound to now."""

from __future__ import annotations

from dataclasses import replace

from dekctl.config import TableConfig
from dekctl.db.lineage import Lineage
from dekctl.db.table import DekTable
from dekctl.errors import UsageError
from dekctl.ledger.bindings import begin_rename, record_binding
from dekctl.operations.rebind import Rebind
from dekctl.project import Project
from dekctl.schema.revisions import take_over
from dekctl.schema.row_trigger import rename_trigger
from dekctl.schema.steps import plan_for
from dekctl.walk.options import RowOptions
from dekctl.walk.result import RunResult
from dekctl.walk.run import run_rows
from dekctl.workflows.callbacks import RunVerb


def rebind(
    project: Project,
    options: RowOptions,
    run: RunVerb = run_rows,
    *,
    old_context_name: str | None = None,
    old_key: str | None = None,
) -> RunResult:
    """Bind rows to the context name and the primary key that they have now.

    Until every row was seen, the ledger keeps the old binding, and other commands refuse the table.

    Args:
        project: what to work with.
        options: as for every command over rows.
        run: runs the verb.
        old_context_name: the context name that the rows were bound to.
        old_key: SQL for the primary key that a row had; see :class:`.Rebind`.

    Raises:
        UsageError: several tables are configured and none is chosen, or the SQL is wrong.
        RefusedError: a guard refused; nothing was changed.
        KMSError: KMS refused or cannot be reached; finished batches are kept.
        DatabaseError: the database refused or cannot be reached; finished batches are kept.
    """
    configs = project.table_configs(options.table)
    if len(configs) > 1:
        raise UsageError(
            "rebind works on one table at a time", hint=f"choose it: --table {configs[0].name}"
        )
    [config] = configs
    if old_context_name is not None and not options.dry_run:
        _rename(project, config, old_context_name)
    result = run(project, Rebind(old_context_name, old_key), options)
    if _saw_every_row(options, result) and project.ledger.exists():
        record_binding(project.table(config, known=False), project.ledger)
    return result


def _rename(project: Project, config: TableConfig, old_name: str) -> None:
    """Let the ledger and Alembic's version table follow the table to its new context name."""
    if not project.ledger.exists():
        return
    names = [t.context_name for t in project.config.tables]
    if begin_rename(project.table(config, known=False), project.ledger, old_name, names):
        schema = project.config.table.schema
        old, new = (
            Lineage("table", replace(config, context_name=name).version_table, schema)
            for name in (old_name, config.context_name)
        )
        take_over(project.database, old, new)
        project.ledger.rename(old_name, config.context_name)
        plan = plan_for(project.database, project.config, config)
        rename_trigger(plan, DekTable(project.database, replace(config, context_name=old_name)))


def _saw_every_row(options: RowOptions, result: RunResult) -> bool:
    """Whether what the options say holds for the table as a whole.

    Rows that are bound to neither are in quarantine then, and not many enough to doubt the options.
    """
    counts = result.counts
    if options.dry_run or options.limit or options.shard or counts.interrupted:
        return False
    return not counts.quarantined or counts.changed + counts.proved > 0
