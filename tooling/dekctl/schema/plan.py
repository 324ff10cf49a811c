"""What a schema step knows about a table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dekctl.config import TableConfig
from dekctl.db.lineage import Lineage
from dekctl.db.shape import Column, Stage
from dekctl.db.table import DekTable
from dekctl.schema.dialects.base import Guard, SchemaDialect
from dekctl.schema.revisions import REVISIONS


@dataclass(frozen=True, slots=True)
class Adoption:
    """What a person says about a table whose entry is lost.

    Args:
        plaintext: the plaintext column before dekctl, as in CREATE TABLE without its name.
        keep_columns: the other columns are the application's, so that a rollback leaves them.
    """

    plaintext: str
    keep_columns: bool = False


@dataclass(slots=True)
class SchemaPlan:
    """What the Alembic steps know about one table. Made by :func:`dekctl.schema.steps.plan_for`."""

    config: TableConfig
    table: DekTable
    dialect: SchemaDialect
    ledger_schema: str | None
    ledger_exists: bool
    metadata: dict[str, Any]
    """What expand saved in the ledger for a rollback; empty before it, and after a rollback."""
    configured: tuple[str, ...] = ()
    """The context names of all configured tables."""
    env: str = ""
    revision: str | None = None
    offline: bool = False
    adoption: Adoption | None = None
    """What a person says about a table whose entry in the ledger is lost."""
    without_trigger: bool = False
    """Whether the row trigger is left out on purpose."""
    guard: Guard | None = None
    """What the row trigger refuses while a step runs, once the rows were proved."""
    guard_state: list[tuple[str, ...]] | None = None
    """The closed trigger as it was before they were."""
    columns: dict[str, Column] = field(default_factory=dict)

    @property
    def lineage(self) -> Lineage:
        """The table's Alembic lineage."""
        return Lineage("table", self.config.version_table, self.ledger_schema)

    @property
    def is_rolled_back(self) -> bool:
        """Whether the table was expanded once, and has been rolled back completely since."""
        # Its columns may be there, if they were there before expand.
        return (
            self.table.stage is not Stage.CONTRACTED
            and not self.metadata
            and self.revision == REVISIONS[Stage.LEGACY]
        )

    @property
    def is_half_rolled_back(self) -> bool:
        """Whether a rollback died after it had dropped some columns (MariaDB, MySQL)."""
        return (
            self.table.stage is Stage.LEGACY
            and bool(self.metadata)
            and self.revision == REVISIONS[Stage.EXPANDED]
        )

    def is_past(self, step: str) -> bool:
        """Whether a step has nothing left to do on this table."""
        stage = self.table.stage
        if step == "rollback":
            return stage is Stage.LEGACY and not self.is_half_rolled_back
        return step == "expand" and stage is Stage.CONTRACTED and bool(self.metadata)
