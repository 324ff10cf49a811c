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
) -> RunResult:
    """Remove every plaintext key whose wrapped copy is verified in the same statement.

    ``extra["traces"]`` of the result lists where the database may still hold removed keys.

    Raises:
        RefusedError: a guard refused, or ``confirm`` did; nothing was changed.
        KMSError: KMS refused or cannot be reached; finished batches are kept.
        DatabaseError: the database refused or cannot be reached; finished batches are kept.
    """
    _ask(project, Scrub(), options, confirm)
    result = run(project, Scrub(), options)
    result.extra["traces"] = [
        {"table": config.name, "place": left.place, "help": left.help}
        for config in configs_for(project, Scrub(), options)
        for left in places_left(project.table(config))
    ]
    return result


def restore(
    project: Project,
    options: RowOptions,
    run: RunVerb = run_rows,
    confirm: Confirm | None = None,
) -> RunResult:
    """Decrypt every wrapped key into the plaintext column.

    Raises:
        RefusedError: a guard refused, or ``confirm`` did; nothing was changed.
        KMSError: KMS refused or cannot be reached; finished batches are kept.
        DatabaseError: the database refused or cannot be reached; finished batches are kept.
    """
    _ask(project, Restore(), options, confirm)
    if not options.dry_run:
        allow_plaintexts(project, configs_for(project, Restore(), options))
    return run(project, Restore(), options)


def allow_plaintexts(project: Project, configs: list[TableConfig]) -> None:
    """Open what an interrupted contract closed to keep plaintexts out."""
    for config in configs:
        steps.open_again(steps.plan_for(project.database, project.config, config))


def _ask(project: Project, verb: Verb, options: RowOptions, confirm: Confirm | None) -> None:
    """Guards first, then the question; where nobody is asked, the run itself has the guards."""
    if confirm is None or options.dry_run:
        return
    for config in configs_for(project, verb, options):
        checked_table(project, verb, config, options)
    confirm()
