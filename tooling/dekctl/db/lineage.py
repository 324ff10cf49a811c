"""An Alembic lineage: a folder of ``migrations/``, and a version table that says how far it ran.

There are two: ``ledger`` for dekctl's own tables, once in a database, and ``table`` for each
managed table. Neither is the application's history, which Alembic may keep in the same database.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa
from sqlalchemy import Connection

if TYPE_CHECKING:
    from alembic.config import Config

Direction = Literal["upgrade", "downgrade", "stamp"]

BASE = "base"
"""Alembic's name for the state before the first revision."""
_REVISION = re.compile(r'^(revision|down_revision) = (?:"(\w+)"|None)$', re.MULTILINE)
"""Where a step's file says its own id, and the one before."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """One lineage in one database."""

    folder: str
    version_table: str
    schema: str | None

    @property
    def versions(self) -> sa.Table:
        """Alembic's version table: one row, or none at the base."""
        return _version_table(self.version_table, self.schema)

    def revisions(self) -> list[str]:
        """The ids of all revisions that this dekctl has, the oldest first.

        Read from the files' sources: most commands only compare them, and Alembic is slow to
        import.
        """
        steps = (
            dict(_REVISION.findall(path.read_text("utf-8")))
            for path in (migrations_folder() / self.folder).glob("*.py")
        )
        after = {step.get("down_revision"): step.get("revision") for step in steps}
        found: list[str] = []
        while revision := after.get(found[-1] if found else ""):
            found.append(revision)
        return found

    def current(self, connection: Connection) -> str | None:
        """The revision of the database: ``base`` before the first; None without version table."""
        if not sa.inspect(connection).has_table(self.version_table, schema=self.schema):
            return None
        found = connection.execute(sa.select(self.versions.c.version_num)).scalars().all()
        return ", ".join(map(str, found)) or BASE  # of two, no step is called that

    def run(
        self, connection: Connection, direction: Direction, revision: str, plan: object
    ) -> None:
        """Run steps on a connection, in its transaction. Each step is called with ``plan``."""
        config = self._alembic(plan)
        config.attributes["connection"] = connection
        _command(direction)(config, revision)

    def sql(self, dialect: str, direction: Direction, revisions: str, plan: object) -> str:
        """The SQL of steps, ``revisions`` as Alembic's ``FROM:TO``; no connection is needed."""
        config = self._alembic(plan)
        output = io.StringIO()
        config.attributes |= {"output": output, "dialect": dialect}
        _command(direction)(config, revisions, sql=True)
        return output.getvalue()

    def _alembic(self, plan: object) -> Config:
        from alembic.config import Config  # noqa: PLC0415 - slow to import; few commands run steps

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


def _command(direction: Direction) -> Callable[..., None]:
    from alembic import command  # noqa: PLC0415 - as above

    run: Callable[..., None] = getattr(command, direction)
    return run


def migrations_folder() -> Path:
    """``migrations/``: packed into the wheel, or beside ``tooling/`` in a checkout."""
    here = Path(__file__).resolve()
    packed = here.parents[1] / "_migrations"
    return packed if packed.is_dir() else here.parents[3] / "migrations"


@cache  # SQLAlchemy keeps what it has compiled for each table object
def _version_table(name: str, schema: str | None) -> sa.Table:
    number = sa.Column("version_num", sa.String(32), primary_key=True)
    return sa.Table(name, sa.MetaData(), number, schema=schema)
