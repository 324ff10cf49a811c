"""Takes a table over whose entry in the ledger is lost.

A rollback needs what ``schema expand`` saved: the plaintext column as it was, and which columns
dekctl added. What the table does not show any more is asked for.
"""

from __future__ import annotations

import shlex
from typing import Any

import sqlalchemy as sa

from dekctl.db.binding import Binding
from dekctl.db.shape import Stage
from dekctl.db.sql import literal
from dekctl.errors import RefusedError
from dekctl.kms.context import V2, V3
from dekctl.ledger import Ledger
from dekctl.ledger.bindings import SAVED
from dekctl.ledger.managed_columns import named_columns
from dekctl.schema.plan import Adoption, SchemaPlan
from dekctl.schema.revisions import REVISIONS


def is_lost(plan: SchemaPlan) -> bool:
    """Whether dekctl has worked on a table about which the ledger knows nothing.

    Raises:
        DatabaseError: the database refused or cannot be reached.
    """
    if plan.metadata or plan.table.stage is Stage.LEGACY:
        return False
    if plan.revision is not None:  # at the base it was rolled back: the columns were there before
        return plan.revision != REVISIONS[Stage.LEGACY]
    if plan.table.stage is Stage.CONTRACTED:
        return True
    table = plan.table
    if not table.has("version"):
        return False
    # Only dekctl writes these; a script of earlier times wrote V1.
    query = (
        f"SELECT 1 FROM {table.quoted_name} "
        f"WHERE {table.quoted('version')} IN ({literal(V2)}, {literal(V3)}) LIMIT 1"
    )
    with table.database.transaction(patient=True) as connection:
        return connection.exec_driver_sql(query).first() is not None


def refuse_lost(plan: SchemaPlan) -> None:
    """Refuse a table whose entry is lost: say what to tell.

    Raises:
        RefusedError: it is lost.
    """
    if not is_lost(plan):
        return
    name, column = plan.config.name, plan.config.plaintext_column
    compiled = plan.table.database.engine.dialect
    if plan.table.has("plaintext"):
        kind = plan.table.column("plaintext").type.compile(dialect=compiled)
        more = f"; without NOT NULL if {column} could be NULL before dekctl"
    else:
        binary = plan.config.plaintext_encoding == "raw"
        example = sa.LargeBinary() if binary else plan.dialect.text_type(64)
        kind = example.compile(dialect=compiled)
        more = f"; with the type that {column} had before dekctl, and NOT NULL if it was"
    raise RefusedError(
        f"{name} has dekctl's columns, but the ledger has no entry for it: what a rollback needs "
        "is not known",
        hint=f"dekctl schema expand --adopt {shlex.quote(f'{kind} NOT NULL')}{more}; if the other "
        "columns are your application's: --keep-columns, too",
    )


def adopt(plan: SchemaPlan, adoption: Adoption) -> None:
    """Put a table into the ledger again, and its revision. The ledger exists.

    Raises:
        UsageError: the plaintext column is not described as one.
        RefusedError: the ledger has an entry for the table.
        DatabaseError: the database refused or cannot be reached.
    """
    plan.metadata = _metadata(plan, adoption)
    ledger = Ledger(plan.table.database, plan.ledger_schema, plan.env)
    ledger.save_metadata(plan.config.context_name, plan.metadata)


def check(plan: SchemaPlan, adoption: Adoption) -> None:
    """Refuse what cannot be adopted.

    Raises:
        UsageError: the plaintext column is not described as one.
        RefusedError: nothing about the table is lost.
    """
    plan.dialect.described_plaintext(adoption.plaintext)
    if not is_lost(plan):
        what = "an entry for" if plan.metadata else "nothing to know about"
        raise RefusedError(
            f"the ledger has {what} {plan.config.name}, so it is not adopted",
            hint="without --adopt: dekctl schema expand",
        )


def _metadata(plan: SchemaPlan, adoption: Adoption) -> dict[str, Any]:
    """What expand would have saved."""
    table, own = plan.table, named_columns(plan.config)
    plaintext = plan.dialect.described_plaintext(adoption.plaintext)
    if table.has("plaintext"):
        kind = table.column("plaintext").type.compile(dialect=table.database.engine.dialect)
        shown = plan.dialect.plaintext_metadata(table, offline=True)
        plaintext = {**plaintext, "plaintext_type": kind, **shown}
    added = [
        name for part, name in own.items() if part != "plaintext_column" and name in plan.columns
    ]
    return {
        **plaintext,
        "added": [] if adoption.keep_columns else added,
        "columns": own,
        SAVED: Binding.of(table).as_json(),
        "without_trigger": plan.without_trigger,
    }
