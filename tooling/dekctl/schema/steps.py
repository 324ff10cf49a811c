"""The Alembic steps of a table: expand, contract, rollback. Plain functions; nothing is printed.

Each managed table has a version table of dekctl's own, because the application has an Alembic
history already; the ledger has another one (:mod:`dekctl.ledger.upgrade`). What a step needs to
know about the database is gathered beforehand in a :class:`SchemaPlan`, so that the steps also work
offline, for ``--sql``.
"""

from __future__ import annotations

from sqlalchemy import Connection

from dekctl.config import Config, TableConfig
from dekctl.db.database import Database
from dekctl.db.lineage import Direction
from dekctl.db.shape import Stage
from dekctl.db.table import DekTable
from dekctl.ledger import Ledger
from dekctl.ledger.elsewhere import refuse_ledger_elsewhere
from dekctl.ledger.managed_columns import refuse_other_columns
from dekctl.ledger.upgrade import LedgerVersion, ledger_version, upgrade, upgrade_sql
from dekctl.project import Project
from dekctl.schema import preconditions, row_trigger
from dekctl.schema.adoption import adopt
from dekctl.schema.dialects import schema_dialect
from dekctl.schema.dialects.base import Guard
from dekctl.schema.ledger_entry import recorded
from dekctl.schema.plan import Adoption, SchemaPlan
from dekctl.schema.revisions import REVISIONS, current, drop_sql, rename, renaming_sql, revoked
from dekctl.schema.row_trigger import guarded, rollback_guard


def plan_for(
    database: Database, config: Config, table_config: TableConfig, *, offline: bool = False
) -> SchemaPlan:
    """Inspect the database and gather what the steps need. Upgrades the ledger, if not ``offline``.

    Raises:
        UsageError: the table is not as configured.
        RefusedError: it was expanded with other columns, or the ledger cannot be used.
        DatabaseError: the database refused or cannot be reached.
    """
    ledger_schema = config.table.schema
    ledger = Ledger(database, ledger_schema, env="")
    if offline:
        with database.transaction() as connection:
            ledger_exists = ledger_version(connection, ledger_schema).exists
    else:
        ledger_exists = ledger.exists()
    if not ledger_exists:
        refuse_ledger_elsewhere(database, config)
    metadata = ledger.table_metadata(table_config.context_name) if ledger_exists else {}
    refuse_other_columns(table_config, metadata)
    table = DekTable(database, table_config)
    plan = SchemaPlan(
        config=table_config,
        table=table,
        dialect=schema_dialect(database),
        ledger_schema=ledger_schema,
        ledger_exists=ledger_exists,
        metadata=metadata,
        configured=tuple(t.context_name for t in config.tables),
        env=config.env.name,
        without_trigger=bool(metadata.get("without_trigger")),
        columns=table.columns,
        offline=offline,
    )
    plan.revision = current(database, plan.lineage)
    return plan


def plans_left(
    project: Project,
    step: str,
    table_name: str | None,
    *,
    offline: bool = False,
    adopting: bool = False,
) -> list[SchemaPlan]:
    """The plans of the chosen tables on which a step has work left.

    A table that is to be adopted always has; offline, where no table has, all are returned, so that
    each says why.

    Raises:
        UsageError: there is no such table.
    """
    plans = [
        plan_for(project.database, project.config, config, offline=offline)
        for config in project.table_configs(table_name)
    ]
    left = [plan for plan in plans if adopting or not plan.is_past(step)]
    return left or (plans if offline else [])


def expand(
    plan: SchemaPlan, *, trigger: bool | None = None, adoption: Adoption | None = None
) -> bool:
    """Add dekctl's columns, the row trigger and the ledger. Returns False if all were there.

    ``adoption`` puts a table into the ledger again whose entry is lost, at any stage.
    ``trigger=False`` leaves the trigger out, or takes it away; None keeps what was chosen before.

    Raises:
        RefusedError: the table is contracted, a column of that name has a wrong type, or the
            database role may not make the trigger.
    """
    plan.adoption = adoption
    preconditions.check(plan, "expand")
    if adoption is not None:
        plan.without_trigger = trigger is False
        _adopt(plan, adoption)
        if plan.table.stage is Stage.EXPANDED and not row_trigger.is_right(plan):
            row_trigger.refuse_without_right(plan)
            row_trigger.set_trigger(plan)
        return True
    _reconcile(plan)
    done = plan.revision == REVISIONS[Stage.EXPANDED] and plan.table.stage is Stage.EXPANDED
    plan.without_trigger = plan.without_trigger if trigger is None else not trigger
    if done and plan.metadata:
        if row_trigger.is_right(plan):
            return False
        with recorded(plan, "expand"):
            row_trigger.set_trigger(plan)
        return True
    row_trigger.refuse_without_right(plan)
    upgrade(plan.table.database, plan.ledger_schema, create=True)
    with recorded(plan, "expand"):
        if plan.revision == REVISIONS[Stage.EXPANDED]:
            # The ledger was removed, or columns were, by hand or by an interrupted rollback.
            _migrate(plan, "stamp", REVISIONS[Stage.LEGACY])
        _migrate(plan, "upgrade", REVISIONS[Stage.EXPANDED])
    return True


def _adopt(plan: SchemaPlan, adoption: Adoption) -> None:
    upgrade(plan.table.database, plan.ledger_schema, create=True)
    plan.ledger_exists = True
    with recorded(plan, "expand"):
        adopt(plan, adoption)
        _migrate(plan, "stamp", REVISIONS[plan.table.stage])


def contract(plan: SchemaPlan) -> bool:
    """Drop the plaintext column once it is proved empty. Returns False if it is gone already.

    PostgreSQL: the row trigger refuses new plaintexts from the first moment, and the rows are read
    without blocking writers; only DROP COLUMN takes a lock, a short one. SQLite: check and drop
    are one transaction. MariaDB and MySQL: both happen under a write lock on the table, as on
    PostgreSQL where the trigger was left out.

    Raises:
        RefusedError: a row still has a plaintext, or the table was never expanded.
    """
    if plan.table.stage is Stage.CONTRACTED:
        return _reconcile(plan)
    preconditions.check(plan, "contract")
    _reconcile(plan)
    with recorded(plan, "contract"), guarded(plan, Guard.NO_PLAINTEXT):
        _migrate(plan, "upgrade", REVISIONS[Stage.CONTRACTED])
    return True


def rollback(plan: SchemaPlan) -> bool:
    """Undo one step: from contracted to expanded, or from expanded to legacy.

    Returns whether it changed anything: False for a table that was rolled back before. From
    expanded to legacy the wrapped keys are dropped under a lock on the table, after a check of
    every row (on PostgreSQL before the lock, behind the trigger as in contract). The caller
    must have proved that they equal the plaintexts.

    Raises:
        RefusedError: a key would be lost, or there is no step to undo.
    """
    if plan.is_rolled_back:
        return False
    preconditions.check(plan, "rollback")
    _reconcile(plan)
    with recorded(plan, "rollback"):
        if plan.table.stage is Stage.CONTRACTED:
            _migrate(plan, "downgrade", REVISIONS[Stage.EXPANDED])
        elif plan.is_half_rolled_back:  # its wrapped keys are gone
            _migrate(plan, "downgrade", REVISIONS[Stage.LEGACY])
        else:
            with guarded(plan, rollback_guard(plan)):
                _migrate(plan, "downgrade", REVISIONS[Stage.LEGACY])
    return True


def open_again(plan: SchemaPlan) -> None:
    """Drop what an interrupted step left behind, which refuses the application's writes.

    Raises:
        DatabaseError: the database refused.
    """
    row_trigger.open_again(plan)


def _reconcile(plan: SchemaPlan) -> bool:
    """Set the revision to what the columns show. Returns whether it was different.

    MariaDB and MySQL commit each DDL statement at once, so an interrupted step may have changed
    the columns but not the revision.

    Raises:
        RefusedError: the columns look contracted, but no contract is known to have been running.
    """
    preconditions.refuse_apparent_contract(plan)
    others = {Stage.CONTRACTED: Stage.EXPANDED, Stage.EXPANDED: Stage.CONTRACTED}
    stage = plan.table.stage
    other = others.get(stage)
    if other is None or plan.revision != REVISIONS[other] or not plan.metadata:
        return False
    _migrate(plan, "stamp", REVISIONS[stage])
    return True


def sql_of(plan: SchemaPlan, step: str) -> str:
    """The SQL of a step (``expand``, ``contract`` or ``rollback``), for someone else to run.

    The script fails while a key would be lost. On PostgreSQL it is one transaction; on the others
    the client must stop at the first error: SQLite's is told to, MySQL's does in batch mode.

    Raises:
        RefusedError: the table is at the wrong stage.
    """
    preconditions.check(plan, step, rows=False)
    plan.offline = True
    database = plan.table.database
    legacy, expanded, contracted = (REVISIONS[stage] for stage in Stage)
    text = renaming_sql(database, plan.lineage)
    if step == "expand":
        text += upgrade_sql(database, plan.ledger_schema)
        if plan.revision == legacy:
            text += drop_sql(database, plan.lineage)
        text += _offline(plan, "upgrade", f"{plan.revision or legacy}:{expanded}")
        text += "".join(f"{statement};\n\n" for statement in revoked(database, plan.lineage))
    elif step == "contract":
        text += _offline(plan, "upgrade", f"{expanded}:{contracted}")
    elif plan.table.stage is Stage.CONTRACTED:
        text += _offline(plan, "downgrade", f"{contracted}:{expanded}")
    else:
        text += (
            "-- Only after `dekctl verify` ended with 0: this drops the wrapped keys unchecked.\n\n"
        )
        text += _offline(plan, "downgrade", f"{expanded}:{legacy}")
    return plan.dialect.script(text, locks=step != "expand")


def upgrade_ledger(project: Project) -> LedgerVersion:
    """Make dekctl's own tables, or upgrade those that an older dekctl made.

    Raises:
        RefusedError: a newer dekctl made them, or the database role may not change them.
        DatabaseError: the database refused or cannot be reached.
    """
    return upgrade(project.database, project.config.table.schema, create=True)


def ledger_sql(project: Project) -> str:
    """The SQL that makes or upgrades dekctl's own tables; a comment where they are up to date.

    Raises:
        RefusedError: a newer dekctl made them.
    """
    text = upgrade_sql(project.database, project.config.table.schema)
    if not text:
        return "-- Nothing to do: the ledger is up to date.\n"
    return schema_dialect(project.database).script(text, locks=False)


# -- how a step is run ---------------------------------------------------------------------------

_DROPPING = (
    ("downgrade", REVISIONS[Stage.LEGACY]),
    ("upgrade", REVISIONS[Stage.CONTRACTED]),
)
"""The steps that drop keys, where check and drop happen under one lock on the table."""


def _migrate(plan: SchemaPlan, direction: Direction, revision: str) -> None:
    database = plan.table.database

    def work(connection: Connection) -> None:
        fresh = DekTable(database, plan.config)  # a retry must see what the last try left
        plan.table, plan.columns = fresh, fresh.columns
        if (direction, revision) in _DROPPING:
            for statement in preconditions.lock(plan):
                connection.exec_driver_sql(statement)
        try:
            rename(connection, plan.lineage)
            plan.lineage.run(connection, direction, revision, plan)
            if direction == "upgrade":
                for statement in revoked(database, plan.lineage):
                    connection.exec_driver_sql(statement)
        finally:
            if not connection.invalidated:  # else it is closed
                for statement in plan.dialect.unlock():
                    connection.exec_driver_sql(statement)

    database.run(work, write=True, patient=True)
    fresh = DekTable(database, plan.config)
    plan.table, plan.columns = fresh, fresh.columns
    plan.revision = current(database, plan.lineage)


def _offline(plan: SchemaPlan, direction: Direction, revisions: str) -> str:
    return plan.lineage.sql(plan.table.database.dialect.name, direction, revisions, plan)
