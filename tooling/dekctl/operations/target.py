"""The KEK and version that each row is wrapped with, and the values that are written for it.

Most tables have one KEK. With ``kek_by`` it depends on a column, and the rows of a batch go to KMS
together, each with its own KEK.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from dekctl.config.model import OTHERS
from dekctl.config.roles import Role
from dekctl.db.row import Row
from dekctl.db.sql import literal
from dekctl.db.table import DekTable
from dekctl.errors import RowRejectedError, UsageError
from dekctl.kms.context import V3
from dekctl.kms.interface import Wrapped
from dekctl.kms.providers import provider_named, provider_of
from dekctl.kms.router import RoutedKMS


class Target:
    """The KEKs of one table, by name as configured and by id as rows store them."""

    def __init__(self, table: DekTable, kms: RoutedKMS, role: Role, to: str | None = None) -> None:
        """Look the KEKs up in KMS where they are aliases.

        Args:
            table: the table.
            kms: the providers.
            role: which role looks them up.
            to: one KEK instead of the configured ones.

        Raises:
            UsageError: a KEK of another provider is configured, or ``to`` would mix tenants.
            KMSError: KMS refused or cannot be reached.
        """
        config = table.config
        if to and config.kek_by:
            raise UsageError(
                f"{config.name} has a KEK per {config.kek_by.column}; --to would mix them",
                hint="change kek_by in [table], then run the same command without --to",
            )
        self.table = table
        self._kek_by = config.kek_by
        target = provider_named(kms.target)
        others = [k for k in config.keks if provider_of(k) is not target]
        if others and not to:
            raise UsageError(
                f"{config.name} names the KEK {others[0]}, but the provider is {kms.target}",
                hint="name KEKs of the environment's provider in [table]",
            )
        self._ids: dict[str, str] = {}
        if config.keks and not to:
            self._ids = {kek: kms.kek_id_of(kek, role) for kek in config.keks}

    @property
    def ids(self) -> list[str]:
        """The KEK ids of a table that names its own; empty where the provider's own serves."""
        return list(self._ids.values())

    def of(self, row: Row) -> str | None:
        """The KEK id for a row; None stands for the provider's own.

        Raises:
            RowRejectedError: ``kek_by`` has no KEK for this row.
        """
        if not self._ids:
            return None
        if self._kek_by is None:
            return next(iter(self._ids.values()))
        kek = self._kek_by.kek_of(row.kek_by)
        if kek is None:
            raise RowRejectedError(
                f"its {self._kek_by.column} has no KEK in kek_by",
                hint="add it to [table], or add '*' for all others",
            )
        return self._ids[kek]

    def sql(self, default: str) -> str:
        """SQL of the KEK id that a row should have; ``default`` is the provider's own."""
        if not self._ids:
            return literal(default)
        if self._kek_by is None:
            return literal(next(iter(self._ids.values())))
        cases = [
            f"WHEN {self.table.kek_by_is(value)} THEN {literal(self._ids[kek])}"
            for value, kek in self._kek_by.keks
            if value != OTHERS
        ]
        others = dict(self._kek_by.keks).get(OTHERS)
        # Rows without a KEK are due, so that they are quarantined and seen.
        final = literal(self._ids[others]) if others else "''"
        return f"CASE {' '.join(cases)} ELSE {final} END" if cases else final


def version_for(table: DekTable, *, hierarchical: bool) -> str:
    """The version that is written: V3 where it is asked for, else what the table is configured for.

    Raises:
        UsageError: V3 is asked for, and the table has several KEKs.
    """
    version = V3 if hierarchical else table.config.wrapping
    if version == V3 and table.config.kek_by is not None:
        raise UsageError(
            f"{table.config.name} has a KEK for each {table.config.kek_by.column} (kek_by), but "
            "branch keys are shared by all rows of a table",
            hint="leave --hierarchical out for this table: --table NAME chooses the others",
        )
    return version


def wrapped_columns(table: DekTable) -> tuple[str, ...]:
    """The columns that a new wrapped key sets."""
    columns = ("wrapped", "version", "kek")
    return (*columns, "wrapped_at") if table.has("wrapped_at") else columns


def values_of_now(table: DekTable, version: str) -> Callable[[Wrapped], tuple[Any, ...]]:
    """Return what turns a wrapped key into the values of :func:`wrapped_columns`.

    Call it before KMS is called. Otherwise a key could be marked as wrapped later than it was, by
    key material that KMS has replaced since.
    """
    if not table.has("wrapped_at"):
        return lambda answer: (answer.blob, version, answer.kek_id)
    now = table.stored_time(datetime.now(UTC))
    return lambda answer: (answer.blob, version, answer.kek_id, now)
