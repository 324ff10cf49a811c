"""Scrub and restore: remove the plaintext keys, and bring them back."""

from __future__ import annotations

from dekctl.config import TableConfig
from dekctl.operations.base import Verb
from dekctl.operations.restore import Restore
from dekctl.operations.scrub import Scrub
from dekctl.project import Project
from dekctl.residue import places_left
from dekctl.schema import steps
from dekctl.walk.options import RowOptions
from dekctl.walk.result import RunResult
from dekctl.walk.run import run_rows
from dekctl.walk.tables import check_table, tables_for
from dekctl.workflows.callbacks import Confirm, RunVerb


def scrub(
    project: Project,
    options: RowOptions,
    run: RunVerb = run_rows,
    confirm: Confirm | None = None,
    *,
    accept_history: bool = False,
) -> RunResult:
    """Remove every plaintext key whose wrapped copy is verified in the same statement.

    ``extra["traces"]`` of the result lists where the database may still hold removed keys.
    ``accept_history``: see :class:`~dekctl.operations.scrub.Scrub`.

    Raises:
        RefusedError: a guard refused, or ``confirm`` did; nothing was changed.
        KMSError: KMS refused or cannot be reached; finished batches are kept.
        DatabaseError: the database refused or cannot be reached; finished batches are kept.
    """
    verb = Scrub(accept_history)
    _ask(project, verb, options, confirm)
    result = run(project, verb, options)
    result.extra["traces"] = [
        {"table": table.config.name, "place": left.place, "help": left.help}
        for table in tables_for(project, verb, options)
        for left in places_left(table)
    ]
    return result


def restore(
    project: Project,
    options: RowOptions,
    run: RunVerb = run_rows,
    confirm: Confirm | None = None,
    *,
    accept_logging: bool = False,
) -> RunResult:
    """Decrypt every wrapped key into the plaintext column.

    ``accept_logging``: see :class:`~dekctl.operations.restore.Restore`.

    Raises:
        RefusedError: a guard refused, or ``confirm`` did; nothing was changed.
        KMSError: KMS refused or cannot be reached; finished batches are kept.
        DatabaseError: the database refused or cannot be reached; finished batches are kept.
    """
    verb = Restore(accept_logging)
    _ask(project, verb, options, confirm)
    if not options.dry_run:
        tables = tables_for(project, verb, options)
        for table in tables:  # before the trigger is changed
            check_table(project, verb, table, options)
        allow_plaintexts(project, [table.config for table in tables])
    return run(project, verb, options)


def allow_plaintexts(project: Project, configs: list[TableConfig]) -> None:
    """Open what an interrupted contract closed to keep plaintexts out."""
    for config in configs:
        steps.open_again(steps.plan_for(project.database, project.config, config))


def _ask(project: Project, verb: Verb, options: RowOptions, confirm: Confirm | None) -> None:
    """Guards first, then the question; where nobody is asked, the run itself has the guards."""
    if confirm is None or options.dry_run:
        return
    tables = tables_for(project, verb, options)
    for table in tables:
        check_table(project, verb, table, options)
    if tables:
        confirm()
