"""Status: where each table stands, and what a schema step left behind."""

from __future__ import annotations

from typing import Any

from dekctl.lifecycle import census
from dekctl.project import Project
from dekctl.schema.dialects import schema_dialect


def status(project: Project, table: str | None = None) -> dict[str, Any]:
    """Describe the chosen tables: stage, rows by state, census by KEK and version.

    Returns:
        The fields of the only table; with several, their sums, and each table under ``tables``.
        ``constraints`` names those of a schema step that is at work or was killed.

    Raises:
        UsageError: a table is not as configured.
        DatabaseError: the database refused or cannot be reached.
    """
    value = census.status(project, table)
    dialect = schema_dialect(project.database)
    with project.database.transaction() as connection:
        for config, entry in zip(
            project.table_configs(table), value.get("tables", [value]), strict=True
        ):
            entry["constraints"] = sorted(dialect.guards(connection, project.table(config)))
    return value
