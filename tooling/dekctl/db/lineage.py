"""An Alembic lineage: a folder of ``migrations/``, and a version table that says how far it ran.

There are two: ``ledger`` for dekctl's own tables, once in a database, and ``table`` for each
managed table. Neither is the application's history, which Alembic may keep in the same database.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

Direction = Literal["upgrade", "downgrade", "stamp"]

BASE = "base"
"""Alembic's name for the state before the first revision."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """One lineage in one database."""

    folder: str
    version_table: str
    schema: str | None

    @property
    def versions(self) -> sa.Table:
        """Alembic's version table: one row, or none at the base."""
        return sa.Table(
            self.version_table,
            sa.MetaData(),
            sa.Column("version_num", sa.String(32), primary_key=True),
            schema=self.schema,
        )

    def revisions(self) -> list[str]:
        """The ids of all revisions that this dekctl has, the oldest first."""
        script = ScriptDirectory.from_config(self._alembic(plan=None))
        return [revision.revision for revision in script.walk_revisions()][::-1]

    def current(self, connection: Connection) -> str | None:
        """The revision of the database: ``base`` before the first; None without version table."""
        if not sa.inspect(connection).has_table(self.version_table, schema=self.schema):
            return None
        found = connection.execute(sa.select(self.versions.c.version_num)).scalar_one_or_none()
        return BASE if found is None else str(found)

    def run(
        self, connection: Connection, direction: Direction, revision: str, plan: object
    ) -> None:
        """Run steps on a connection, in its transaction. Each step is called with ``plan``."""
        config = self._alembic(plan)
        config.attributes["connection"] = connection
        getattr(command, direction)(config, revision)

    def sql(self, dialect: str, direction: Direction, revisions: str, plan: object) -> str:
        """The SQL of steps, ``revisions`` as Alembic's ``FROM:TO``; no connection is needed."""
        config = self._alembic(plan)
        output = io.StringIO()
        config.attributes |= {"output": output, "dialect": dialect}
        getattr(command, direction)(config, revisions, sql=True)
        return output.getvalue()

    def _alembic(self, plan: object) -> Config:
        migrations = migrations_folder()
        options = {
            "script_location": migrations,
            "version_locations": migrations / self.folder,
            "path_separator": "newline",  # so that a path may hold any other character
        }
        attributes: dict[str, Any] = {"lineage": self, "plan": plan}
        config = Config(attributes=attributes)
        for name, value in options.items():
            config.set_main_option(name, str(value).replace("%", "%%"))
        return config


def migrations_folder() -> Path:
    """``migrations/``: packed into the wheel, or beside ``tooling/`` in a checkout."""
    here = Path(__file__).resolve()
    packed = here.parents[1] / "_migrations"
    return packed if packed.is_dir() else here.parents[3] / "migrations"
