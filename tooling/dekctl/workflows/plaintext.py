"""Scrub and restore: remove the plaintext keys, and bring them back."""

from __future__ import annotations

from dekctl.config import TableConfig
from dekctl.project import Project
from dekctl.residue import places_left
from dekctl.schema import steps
from dekctl.walk.run import RowOptions, RunResult, configs_of, ready, run_rows
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
    _ask(project, "scrub", options, confirm)
    result = run(project, "scrub", options)
    result.extra["traces"] = [
        {"table": config.name, "place": left.place, "help": left.help}
        for config in configs_of(project, "scrub", options)
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
    _ask(project, "restore", options, confirm)
    if not options.walk.dry_run:
        allow_plaintexts(project, configs_of(project, "restore", options))
    return run(project, "restore", options)


def allow_plaintexts(project: Project, configs: list[TableConfig]) -> None:
    """Drop the constraint with which an interrupted contract keeps plaintexts out."""
    for config in configs:
        steps.drop_guards(project.table(config))


def _ask(project: Project, verb: str, options: RowOptions, confirm: Confirm | None) -> None:
    """Guards first, then the question; where nobody is asked, the run itself has the guards."""
    if confirm is None or options.walk.dry_run:
        return
    for config in configs_of(project, verb, options):
        ready(project, verb, config, options)
    confirm()
