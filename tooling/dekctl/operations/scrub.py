"""Scrub: remove plaintext keys, each only after its wrapped copy has been verified.

The wrapped key is decrypted and compared first. The write then names the fingerprint of the row
that was verified; the database computes it again, plaintext and wrapped key included, so a row that
changed in between keeps its plaintext.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from dekctl.db.row import Change, Row
from dekctl.db.shape import Stage
from dekctl.db.sql import literal
from dekctl.db.table import DekTable
from dekctl.errors import RefusedError
from dekctl.kms.interface import Unwrapped
from dekctl.kms.local import FORGOTTEN_HINT
from dekctl.kms.providers import PROVIDERS
from dekctl.kms.router import RoutedKMS
from dekctl.ledger import Ledger
from dekctl.operations.base import Verb, Verdict
from dekctl.operations.prove import Prove


@dataclass(frozen=True)
class Scrub(Verb):
    """Set the plaintext of verified rows to NULL."""

    accept_history: bool = False
    """Whether a history that holds, and gets, raw keys is accepted (system-versioned tables)."""

    name = "scrub"
    stages = (Stage.EXPANDED,)
    done_at = Stage.CONTRACTED

    def on(self, table: DekTable, kms: RoutedKMS) -> ScrubRows:
        return ScrubRows(table, kms)

    def check(self, table: DekTable, ledger: Ledger | None) -> None:
        table.refuse_ambiguous_key()
        _refuse_passing_kek(table)
        if not self.accept_history:
            _refuse_history(table)
        if ledger is not None:  # a dry run may come before it
            _refuse_unwrapped_rows(table, ledger)


class ScrubRows(Prove):
    """Scrubs the rows of one table."""

    columns = ("plaintext",)
    erases = True
    refuses_other_forms = True

    def due(self) -> str:
        # Rows without a wrapped key too: one that stays in quarantine must not pass for scrubbed.
        return self.table.has_value("plaintext")

    def proved(self, row: Row, key: Unwrapped) -> Verdict:
        return Change(row, (None,), None, key.branch_key)


def _refuse_unwrapped_rows(table: DekTable, ledger: Ledger) -> None:
    """Refuse while a row has a plaintext only, unless it is in quarantine.

    Raises:
        RefusedError: such a row exists.
    """
    key = ", ".join(table.quoted_key)
    name = table.config.context_name
    with table.database.transaction(patient=True) as connection:
        allowed = ledger.quarantine.count(connection, name)
        found = connection.exec_driver_sql(
            f"SELECT {key} FROM {table.quoted_name} "
            f"WHERE {table.plaintext_only} LIMIT {allowed + 1}"
        ).all()
        keys = [tuple(row) for row in found]
        quarantined = ledger.quarantine.among(connection, name, keys)
    if set(keys) - quarantined:
        raise RefusedError(
            f"rows of {table.config.name} have a plaintext and no wrapped key yet",
            hint="wrap and check them first: dekctl wrap, then dekctl verify",
        )


def _refuse_history(table: DekTable) -> None:
    """Refuse a table that keeps what is removed from it.

    Raises:
        RefusedError: its history is kept by the server.
    """
    rows = table.history_rows()
    if rows is not None:
        name = table.quoted_name
        raise RefusedError(
            f"{table.config.name} is system-versioned: {rows:,} rows of its history hold a raw "
            "key, and scrub would add one for each key that it removes",
            hint=f"drop the history first: ALTER TABLE {name} DROP SYSTEM VERSIONING; or run: "
            f"dekctl scrub --accept-history; and then: DELETE HISTORY FROM {name}",
        )


def _refuse_passing_kek(table: DekTable) -> None:
    """Refuse to remove plaintexts whose KEK ends with the process that has it.

    Raises:
        RefusedError: a row is wrapped by a provider whose KEKs do not last.
    """
    for provider in PROVIDERS.values():
        if not provider.lasts:
            for prefix in provider.kek_prefixes:
                _refuse_prefix(table, prefix, provider.name)


def _refuse_prefix(table: DekTable, prefix: str, provider: str) -> None:
    kek = table.quoted("kek")
    beyond = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    with table.database.transaction(patient=True) as connection:
        # No LIKE: "%" means something else to each driver.
        found = connection.execute(
            sa.text(
                f"SELECT 1 FROM {table.quoted_name} "
                f"WHERE {kek} >= {literal(prefix)} AND {kek} < {literal(beyond)} LIMIT 1"
            )
        ).first()
    if found is not None:
        raise RefusedError(
            f"rows of {table.config.name} are wrapped by the {provider} provider",
            hint=FORGOTTEN_HINT,
        )
