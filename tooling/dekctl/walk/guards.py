"""What is proved before a command destroys anything. A refusal changes nothing."""

from __future__ import annotations

from dekctl.db.table import DekTable
from dekctl.errors import RefusedError
from dekctl.kms.local import FORGOTTEN_HINT
from dekctl.ledger import Ledger


def refuse_scrub_before_wrap(table: DekTable, ledger: Ledger) -> None:
    """Refuse a scrub while a row has a plaintext only, unless it is in quarantine.

    Raises:
        RefusedError: such a row exists.
    """
    plaintext, wrapped = table.quoted("plaintext"), table.quoted("wrapped")
    key = ", ".join(table.quoted_key)
    name = table.config.context_name
    with table.database.transaction(patient=True) as connection:
        allowed = ledger.quarantine.count(connection, name)
        found = connection.exec_driver_sql(
            f"SELECT {key} FROM {table.quoted_name} "
            f"WHERE {plaintext} IS NOT NULL AND {wrapped} IS NULL LIMIT {allowed + 1}"
        ).all()
        keys = [tuple(row) for row in found]
        aside = ledger.quarantine.among(connection, name, keys)
    if set(keys) - aside:
        raise RefusedError(
            f"rows of {table.config.name} have a plaintext and no wrapped key yet",
            hint="wrap and check them first: dekctl wrap, then dekctl verify",
        )


def refuse_forgetful_kek(table: DekTable) -> None:
    """Refuse to remove plaintexts whose KEK lives in this process's memory only.

    Raises:
        RefusedError: a row is wrapped by the memory provider.
    """
    kek = table.quoted("kek")
    with table.database.transaction(patient=True) as connection:
        # A parameter, not a literal: "%" means something else to each driver.
        found = connection.exec_driver_sql(
            f"SELECT 1 FROM {table.quoted_name} "
            f"WHERE {kek} >= 'memory:' AND {kek} < 'memory;' LIMIT 1"
        ).first()
    if found is not None:
        raise RefusedError(
            f"rows of {table.config.name} are wrapped by the memory provider",
            hint=FORGOTTEN_HINT,
        )
