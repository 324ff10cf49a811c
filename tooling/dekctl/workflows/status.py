"""Status: where each table stands, and what a schema step left behind."""

from __future__ import annotations

from typing import Any

from dekctl.db.shape import Stage
from dekctl.db.table import DekTable
from dekctl.lifecycle import census
from dekctl.lifecycle.key_state import KeyState, key_states
from dekctl.project import Project
from dekctl.schema.dialects import schema_dialect
from dekctl.schema.plaintext_use import misfit
from dekctl.schema.trigger_state import trigger_state

KMS_SECONDS = 5.0
"""How long `status` waits for KMS; without an answer it shows what the database holds."""


def status(project: Project, table: str | None = None) -> dict[str, Any]:
    """Describe the chosen tables: stage, rows by state, census by KEK and version.

    Returns:
        The fields of the only table; with several, their sums, and each table under ``tables``.
        ``constraints`` names what refuses writes for a schema step that is at work or was killed.
        ``trigger`` says how the row trigger stands, at the stage expanded. ``plaintext`` is the
        setting of ``[table]``, ``plaintext_problem`` why it does not fit, or None. Each of
        ``keks`` and ``branch_keys`` has its ``state`` in KMS and its ``deletion_date`` (None if KMS
        did not tell within seconds: ``state_problem``).

    Raises:
        UsageError: a table is not as configured.
        DatabaseError: the database refused or cannot be reached.
    """
    value = census.status(project, table)
    dialect = schema_dialect(project.database)
    shapes = [project.table(config) for config in project.table_configs(table)]
    for shape, entry in zip(shapes, value.get("tables", [value]), strict=True):
        with project.database.transaction() as connection:
            entry["constraints"] = sorted(dialect.guards(connection, shape))
        entry["plaintext"] = shape.config.plaintext
        entry["plaintext_problem"] = misfit(
            shape.config, shape.stage, plaintext_only=entry["plaintext_only"] > 0
        )
        entry["trigger"] = _trigger(project, shape)
    _add_key_states(project, [value, *value.get("tables", [])])
    return value


def _trigger(project: Project, shape: DekTable) -> str | None:
    """How the row trigger stands; None where the table should have none."""
    if shape.stage is not Stage.EXPANDED:
        return None
    saved = {}
    if project.ledger.exists():
        saved = project.ledger.table_metadata(shape.config.context_name)
    return trigger_state(shape, left_out=bool(saved.get("without_trigger"))).value


def _add_key_states(project: Project, entries: list[dict[str, Any]]) -> None:
    keks = [k for entry in entries for k in (*entry["keks"], *entry.get("branch_keys", ()))]
    names = list(dict.fromkeys(kek["kek_id"] for kek in keks if kek["kek_id"]))
    states = key_states(project, names, KMS_SECONDS) if project.uses_aws else {}
    for kek in keks:
        kek.update(states.get(kek["kek_id"], KeyState("", None)).as_json())
