"""Rollback: from any stage back to the legacy schema, with every key in the plaintext column."""

from __future__ import annotations

from dataclasses import replace

from dekctl.db.shape import Stage
from dekctl.ledger.managed_columns import named_columns
from dekctl.operations.restore import Restore, refuse_logged
from dekctl.operations.verify import Verify
from dekctl.project import Project
from dekctl.schema import steps
from dekctl.schema.plan import SchemaPlan
from dekctl.walk.counts import add_counts
from dekctl.walk.options import RowOptions
from dekctl.walk.result import RunResult
from dekctl.walk.run import run_rows
from dekctl.workflows.callbacks import Confirm, RunVerb
from dekctl.workflows.plaintext import allow_plaintexts
from dekctl.workflows.proof import prove_wrapped


def rollback(
    project: Project,
    options: RowOptions,
    run: RunVerb = run_rows,
    confirm: Confirm | None = None,
    *,
    accept_logging: bool = False,
) -> RunResult:
    """Add the plaintext column, restore and verify every key, then drop dekctl's columns.

    In a dry run every wrapped key is decrypted, and nothing is written. Where all is done,
    ``extra["stage"]`` of the result is ``legacy``, or ``expanded`` where columns stay that were
    there before dekctl: ``extra["kept_columns"]`` has them, by table. ``accept_logging``:
    see :class:`~dekctl.operations.restore.Restore`.

    Raises:
        RefusedError: a key would be lost, a guard refused, or ``confirm`` did.
        InterruptError: ``project.cancel`` was set during a proof.
        KMSError: KMS refused or cannot be reached.
        DatabaseError: the database refused or cannot be reached.
    """
    plans = steps.plans_left(project, "rollback", options.table)
    nothing = RunResult("rollback", project.env.name, options.dry_run)
    if all(plan.is_rolled_back for plan in plans):
        return _ended(nothing, plans)
    # Their keys are restored; then a step of MariaDB or MySQL died.
    half_way = [plan for plan in plans if plan.is_half_rolled_back]
    whole = [plan for plan in plans if plan not in half_way]
    for plan in whole:
        project.table_at(plan.config, Stage.EXPANDED, Stage.CONTRACTED)
    restore = Restore(accept_logging)
    refuse_logged(project.database, accepted=accept_logging)
    if options.dry_run:
        return _rehearse(project, plans, options, run, restore)
    if confirm is not None:
        confirm()
    for plan in half_way:
        steps.rollback(plan)
    if not whole:
        return _ended(nothing, plans)
    result = _restore(project, whole, options, run, restore)
    if result.exit_code:
        return result
    now = [steps.plan_for(project.database, project.config, plan.config) for plan in whole]
    for plan in now:
        steps.rollback(plan)
    return _ended(result, now)


def _restore(
    project: Project,
    plans: list[SchemaPlan],
    options: RowOptions,
    run: RunVerb,
    restore: Restore,
) -> RunResult:
    """Bring all plaintexts back, and prove all wrapped keys before the first table changes."""
    # Before anything is changed: where a row's two keys differ, it would be refused later.
    proved = [plan for plan in plans if plan.table.stage is Stage.EXPANDED]
    proofs = [prove_wrapped(project, p.config, run, options, both_only=True) for p in proved]
    for plan in plans:
        if plan.table.stage is Stage.CONTRACTED:
            steps.rollback(plan)
    allow_plaintexts(project, [plan.config for plan in plans])
    result = run(project, restore, options)
    result.operation = "rollback"
    if not result.exit_code:
        # A table that was proved above and had nothing to restore is not decrypted again.
        for plan in plans if result.counts.changed else [p for p in plans if p not in proved]:
            proofs.append(prove_wrapped(project, plan.config, run, options))
    for proof in proofs:
        _add(result, proof)
    return result


def _add(result: RunResult, passed: RunResult) -> None:
    """Add a further pass over the same rows: its runs, its KMS calls, its time; not its rows."""
    result.run_ids += passed.run_ids
    result.kms_calls += passed.kms_calls
    result.seconds = round(result.seconds + passed.seconds, 3)


def _rehearse(
    project: Project,
    plans: list[SchemaPlan],
    options: RowOptions,
    run: RunVerb,
    restore: Restore,
) -> RunResult:
    """Decrypt every wrapped key: what restore would write, and what a plaintext is beside."""
    result = run(project, restore, options)
    for plan in plans:
        if plan.table.stage is not Stage.EXPANDED or result.counts.interrupted:
            continue
        chosen = replace(options, table=plan.config.name)
        compared = run(project, Verify(both_only=True), chosen)
        _add(result, compared)
        # The rows themselves were counted by restore.
        found = replace(compared.counts, scanned=0, due=0, skipped=0)
        add_counts(result.counts, found)
        result.counts.skipped -= compared.counts.proved + compared.counts.quarantined
    result.operation = "rollback"
    return result


def _ended(result: RunResult, plans: list[SchemaPlan]) -> RunResult:
    """Say where the tables are; the columns that the application made itself stay."""
    kept = {
        plan.config.name: [
            name
            for part, name in named_columns(plan.config).items()
            if part != "plaintext_column" and name in plan.columns
        ]
        for plan in plans
        if plan.table.stage is not Stage.LEGACY
    }
    result.extra["stage"] = (Stage.EXPANDED if kept else Stage.LEGACY).value
    if kept:
        result.extra["kept_columns"] = kept
    return result
