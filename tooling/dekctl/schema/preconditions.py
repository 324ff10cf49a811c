"""What must be true before a schema step. A refusal changes nothing."""

from __future__ import annotations

from sqlalchemy import Connection

from dekctl.config import TableConfig
from dekctl.db.shape import Stage
from dekctl.db.table import DekTable
from dekctl.errors import RefusedError
from dekctl.ledger import Ledger
from dekctl.ledger.bindings import refuse_other_binding
from dekctl.ledger.managed_columns import unnamed_columns
from dekctl.ledger.shared_context import refuse_shared_name
from dekctl.schema import adoption, inspection
from dekctl.schema.plaintext_use import refuse_to_contract
from dekctl.schema.plan import SchemaPlan
from dekctl.schema.revisions import REVISIONS


def check(plan: SchemaPlan, step: str, *, rows: bool = True) -> None:
    """Refuse a step (``expand``, ``contract`` or ``rollback``) that would lose a key.

    With ``rows=False`` only the stage is checked.

    Raises:
        RefusedError: the table is at the wrong stage, a run is writing to it, or a row would
            lose its only key.
    """
    stage = plan.table.stage
    plan.table.refuse_not_transactional()
    if step == "rollback" and plan.is_rolled_back:
        return
    if plan.ledger_exists:
        ledger = Ledger(plan.table.database, plan.ledger_schema, env="")
        refuse_other_binding(plan.table, ledger, plan.configured)
        if rows and step != "expand":
            ledger.refuse_while_writing(plan.config.context_name)
    if step == "expand":
        _check_expand(plan)
    elif step == "contract":
        _check_contract(plan)
        if rows:
            with plan.table.database.transaction(patient=True) as connection:
                refuse_lost_plaintexts(plan, connection)
    else:
        _check_rollback(plan)
        if rows and stage is not Stage.CONTRACTED:
            with plan.table.database.transaction(patient=True) as connection:
                refuse_lost_wrapped_keys(plan, connection)


def _check_expand(plan: SchemaPlan) -> None:
    if plan.adoption is None:
        adoption.refuse_lost(plan)
    else:
        adoption.check(plan, plan.adoption)
        if plan.table.stage is Stage.CONTRACTED:
            _refuse_other_plaintext(plan)
            return
    if plan.table.stage is Stage.CONTRACTED:
        raise RefusedError(
            f"{plan.config.name} is contracted: it has no {plan.config.plaintext_column}",
            hint="check its stage with: dekctl status",
        )
    inspection.refuse(plan.table, "script" if plan.offline else "expand")
    if plan.table.stage is Stage.LEGACY:  # nothing is bound to the name yet
        refuse_shared_name(plan.table)


def _check_contract(plan: SchemaPlan) -> None:
    if plan.table.stage is Stage.LEGACY:
        raise RefusedError(
            f"{plan.config.name} is at the legacy schema, so there is nothing to contract",
            hint="start with: dekctl migrate",
        )
    refuse_unmanaged(plan)
    refuse_apparent_contract(plan)
    refuse_to_contract(plan.config)
    inspection.refuse(plan.table, "contract")
    if plan.table.has("plaintext"):  # contracted before: nothing is dropped
        plan.dialect.refuse_unrestorable(plan.table)


def _check_rollback(plan: SchemaPlan) -> None:
    if plan.table.stage is Stage.LEGACY and not plan.is_half_rolled_back:
        raise RefusedError(
            f"{plan.config.name} is already at the legacy schema",
            hint="check its stage with: dekctl status",
        )
    refuse_unmanaged(plan)
    refuse_apparent_contract(plan)
    refuse_unnamed_columns(plan)


def refuse_unmanaged(plan: SchemaPlan) -> None:
    """Refuse a table about which the ledger holds nothing from expand.

    Raises:
        RefusedError: it holds nothing.
    """
    if plan.metadata:
        return
    raise RefusedError(
        f"{plan.config.name} has dekctl's columns, but the ledger has no entry for it",
        hint="take it over with: dekctl schema expand",
    )


def refuse_apparent_contract(plan: SchemaPlan) -> None:
    """Refuse a table that only looks contracted: [table] may name a wrong plaintext column.

    Raises:
        RefusedError: no contract has finished there, and none is known to have been interrupted.
    """
    contracted = REVISIONS[Stage.CONTRACTED]
    if plan.table.stage is not Stage.CONTRACTED or plan.revision == contracted:
        return
    refuse_unmanaged(plan)
    _refuse_other_plaintext(plan)


def _refuse_other_plaintext(plan: SchemaPlan) -> None:
    """Refuse a table without the plaintext column, where Alembic knows of no contract.

    Raises:
        RefusedError: it does not, and the ledger does not say that this very column was expanded.
    """
    contracted = REVISIONS[Stage.CONTRACTED]
    if plan.revision in (None, contracted) and not plan.metadata:
        return  # the revision may be lost, like the entry
    # With the name saved, and equal to the configured one, the column is really gone.
    if "columns" in plan.metadata and plan.revision == REVISIONS[Stage.EXPANDED]:
        return
    raise RefusedError(
        f"{plan.config.name} has no plaintext_column {plan.config.plaintext_column}, but was "
        f"never contracted: Alembic's revision is {plan.revision or 'none'}",
        hint="correct plaintext_column in [table]; if that column is really gone, a contract "
        f"was interrupted: UPDATE {plan.lineage.version_table} SET version_num = '{contracted}'",
    )


def refuse_lost_plaintexts(plan: SchemaPlan, connection: Connection) -> None:
    """Refuse while a row still has a plaintext.

    Raises:
        RefusedError: one has.
    """
    table = plan.table
    if table.has("plaintext") and _exists(connection, table, table.has_value("plaintext")):
        raise still_plaintext(plan.config)


def refuse_lost_wrapped_keys(plan: SchemaPlan, connection: Connection) -> None:
    """Refuse while a row's only key is the wrapped one, or the legacy schema cannot hold the row.

    Raises:
        RefusedError: there is such a row.
    """
    table, name = plan.table, plan.config.name
    if table.has("wrapped") and _exists(connection, table, table.wrapped_only):
        raise RefusedError(
            f"rows of {name} have only a wrapped key, which a rollback would drop",
            hint="restore the plaintexts first: dekctl restore (dekctl rollback does both)",
        )
    nothing = table.is_null("plaintext")
    if not plan.metadata["plaintext_nullable"] and _exists(connection, table, nothing):
        raise RefusedError(
            f"rows of {name} have no key at all, and the legacy schema has "
            f"{plan.config.plaintext_column} NOT NULL",
            hint="find them with: dekctl status; give them a key or delete them",
        )


def refuse_unnamed_columns(plan: SchemaPlan) -> None:
    """Refuse a rollback while [table] does not name a column that dekctl added.

    Raises:
        RefusedError: there is such a column.
    """
    for column in unnamed_columns(plan.config, plan.metadata):
        if column in plan.columns:
            parts = {name: part for part, name in plan.metadata.get("columns", {}).items()}
            raise RefusedError(
                f"a rollback would drop {plan.config.name}.{column}, which dekctl added, says the "
                "ledger, but [table] does not name it",
                hint=f'name it in [table]: {parts.get(column, "wrapped_at_column")} = "{column}"; '
                "if it is not dekctl's, restore dekctl_tables from a backup",
            )


def lock(plan: SchemaPlan) -> list[str]:
    """SQL that keeps writers out until the step ends, so that what was checked stays true.

    A count does not see rows that are not committed yet; the lock waits for them.
    """
    quote = plan.table.database.engine.dialect.identifier_preparer.quote
    prefix = f"{quote(plan.ledger_schema)}." if plan.ledger_schema else ""
    others = [f"{prefix}{quote(plan.lineage.version_table)}", f"{prefix}dekctl_tables"]
    with plan.table.database.transaction() as connection:
        others += plan.dialect.sequences(connection, plan.table)
    return plan.dialect.lock(plan.table.quoted_name, others)


def script(plan: SchemaPlan, condition: str) -> list[str]:
    """SQL that fails while a row meets a condition: the check in a script that others will run."""
    table = plan.table
    return [
        *lock(plan),
        # A key, because MySQL may demand one (sql_require_primary_key).
        "CREATE TEMPORARY TABLE dekctl_check (rows_left INTEGER PRIMARY KEY CHECK (rows_left = 0))",
        f"INSERT INTO dekctl_check SELECT count(*) FROM {table.quoted_name} WHERE {condition}",
        f"{plan.dialect.drop_temporary_table} dekctl_check",
    ]


def _exists(connection: Connection, table: DekTable, condition: str) -> bool:
    found = connection.exec_driver_sql(
        f"SELECT 1 FROM {table.quoted_name} WHERE {condition} LIMIT 1"
    )
    return found.first() is not None


def still_plaintext(config: TableConfig) -> RefusedError:
    """The refusal of a contract while a row has a plaintext."""
    return RefusedError(
        f"rows of {config.name} still have a plaintext in {config.plaintext_column}",
        hint="count them with: dekctl status; then: dekctl wrap, dekctl verify, dekctl scrub",
    )
