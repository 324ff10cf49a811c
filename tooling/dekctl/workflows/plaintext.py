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
from dekctl.walk.tables import checked_table, configs_for
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
        {"table": config.name, "place": left.place, "help": left.help}
        for config in configs_for(project, verb, options)
        for left in places_left(project.table(config))
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
        configs = configs_for(project, verb, options)
        for config in configs:  # before the trigger is changed
            checked_table(project, verb, config, options)
        allow_plaintexts(project, configs)
    return run(project, verb, options)


def allow_plaintexts(project: Project, configs: list[TableConfig]) -> None:
    """Open what an interrupted contract closed to keep plaintexts out."""
    for config in configs:
        steps.open_again(steps.plan_for(project.database, project.config, config))


def _ask(project: Project, verb: Verb, options: RowOptions, confirm: Confirm | None) -> None:
    """Guards first, then the question; where nobody is asked, the run itself has the guards."""
    if confirm is None or options.dry_run:
        return
    configs = configs_for(project, verb, options)
    for config in configs:
        checked_table(project, verb, config, options)
    if configs:
        confirm()
