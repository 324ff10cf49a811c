"""Status: the stage, the rows by state and the census, from one pass over the table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from dekctl.config import TableConfig
from dekctl.config.outputs import Outputs
from dekctl.db.table import DekTable
from dekctl.kms.context import V1
from dekctl.ledger import Ledger
from dekctl.ledger.history import runs as runs_of
from dekctl.ledger.history import unfinished
from dekctl.lifecycle.counting import count_rows
from dekctl.project import Project

ROW_STATES = {
    "plaintext_only": (True, False),
    "both": (True, True),
    "wrapped_only": (False, True),
    "no_key": (False, False),
}
"""Whether a row in each state has a plaintext key, and a wrapped one."""


def status(project: Project, table_name: str | None = None) -> dict[str, Any]:
    """Describe the state of each table; with several tables, the sums and a list of them.

    Raises:
        UsageError: a table is not as configured.
        DatabaseError: the database refused or cannot be reached.
    """
    outputs = project.outputs if project.uses_aws and not project.env.kek else None
    ledger = project.ledger if project.ledger.exists() else None
    tables = [
        _table_status(project, project.table(config), ledger, outputs)
        | {"branch_keys": _branch_keys(project, config, outputs)}
        for config in project.table_configs(table_name)
    ]
    runs = runs_of(ledger, 5) if ledger else []
    head: dict[str, Any] = {"env": project.env.name}
    # min_generation is about the environment's KEK alone; see RowKeys.from_config.
    configs = project.table_configs(table_name)
    shared = [t for config, t in zip(configs, tables, strict=True) if not config.keks]
    terraform = _for_terraform(tables, shared, outputs, project.env.min_generation)
    if len(tables) == 1:
        return {**head, **tables[0], **terraform, "runs": runs}
    total: dict[str, Any] = {
        key: sum(table[key] for table in tables)
        for key in ("rows", *ROW_STATES, "quarantined", "rows_without_branch_key")
    }
    stages = {table["stage"] for table in tables}
    total["stage"] = stages.pop() if len(stages) == 1 else "mixed"
    total["keks"] = _together([kek for table in tables for kek in table["keks"]])
    return {**head, **total, **terraform, "tables": tables, "runs": runs}


def _table_status(
    project: Project, table: DekTable, ledger: Ledger | None, outputs: Outputs | None
) -> dict[str, Any]:
    """One table's rows by state and by KEK, and what the ledger knows about it."""
    name = table.config.context_name
    counted = count_rows(project, table, times=True)
    counts = {
        state: counted.rows(plaintext=plaintext, wrapped=wrapped)
        for state, (plaintext, wrapped) in ROW_STATES.items()
    }
    keks = [
        {
            "kek_id": group.kek_id,
            "version": group.version,
            "rows": group.rows,
            **_generation(group.kek_id, outputs),
            "oldest_wrap": _time(group.first),
            "newest_wrap": _time(group.last),
        }
        for group in counted.groups
        if group.has_wrapped
    ]
    quarantined = 0
    listed: list[dict[str, str]] = []
    if ledger is not None:
        with table.database.transaction() as connection:
            quarantined = ledger.quarantine.count(connection, name)
        listed = [
            {"pk": q.pk, "operation": q.operation, "reason": q.reason, "since": q.since}
            for q in ledger.quarantine.listed(name)
        ]
    return {
        "table": table.config.name,
        "stage": table.stage.value,
        "rows": sum(counts.values()),
        **counts,
        "quarantined": quarantined,
        "quarantine": listed,
        "ledger": ledger is not None,
        "unfinished": unfinished(ledger, name) if ledger is not None else [],
        "keks": _together(keks),
        "rows_without_branch_key": counted.without_branch_key,
    }


def _generation(kek_id: str | None, outputs: Outputs | None) -> dict[str, str | None]:
    """The generation of a KEK and its state in Terraform; None where Terraform does not know it."""
    name = outputs.generation_name(kek_id) if outputs else None
    known = outputs.all_generations if outputs else ()
    state = next((generation.state for generation in known if generation.name == name), None)
    return {"generation": name, "generation_state": state}


def _branch_keys(
    project: Project, config: TableConfig, outputs: Outputs | None
) -> list[dict[str, Any]]:
    """The branch keys of a table (V3) by the KEK that wraps them, the largest count first."""
    found = project.branch_table.keks(config.context_name)
    return [
        {
            "kek_id": kek_id,
            "keys": keys,
            **_generation(kek_id, outputs),
        }
        for kek_id, keys in sorted(found.items(), key=lambda entry: -entry[1])
    ]


def _together(keks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry per KEK and version, the largest count first."""
    merged: dict[tuple[str | None, str | None], dict[str, Any]] = {}
    for entry in keks:
        key = (entry["kek_id"], entry["version"])
        if key not in merged:
            merged[key] = dict(entry)
            continue
        into = merged[key]
        into["rows"] += entry["rows"]
        for name, choose in (("oldest_wrap", min), ("newest_wrap", max)):
            times = [e[name] for e in (into, entry) if e[name] is not None]
            into[name] = choose(times) if times else None
    return sorted(merged.values(), key=lambda entry: -entry["rows"])


def _time(value: Any) -> str | None:
    """A time of wrapping as ISO 8601, UTC, to the second; None for what is no time (SQLite)."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return None
    if not isinstance(moment, datetime):
        return None
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _for_terraform(
    tables: list[dict[str, Any]],
    shared: list[dict[str, Any]],
    outputs: Outputs | None,
    min_generation: str | None,
) -> dict[str, Any]:
    """Which settings the rows no longer need; ``shared`` are tables without their own KEKs."""
    if outputs is None:
        return {}
    keks = [kek for table in tables for kek in table["keks"]]
    return {
        "min_generation": _oldest_generation(shared, outputs, min_generation),
        "without_context": {
            "rows": sum(entry["rows"] for entry in keks if entry["version"] in (None, V1)),
            "allowed": outputs.allows_v1,
        },
    }


def _oldest_generation(
    tables: list[dict[str, Any]], outputs: Outputs, configured: str | None
) -> dict[str, Any]:
    """Whether ``min_generation`` can be raised: to the oldest generation that a row still needs.

    A V3 row needs the generation that wraps its branch key.
    """
    rows = _by_generation(entry for table in tables for entry in table["keks"])
    keys = _by_generation(entry for table in tables for entry in table["branch_keys"])
    order = [generation.name for generation in outputs.generations]
    # A tenant's generation is not part of that order, so such a row has to be moved.
    foreign, foreign_keys = (
        sum(count for name, count in counts.items() if name not in order) for counts in (rows, keys)
    )
    used = [order.index(name) for name in {**rows, **keys} if name in order]
    active = outputs.generation_name(outputs.kek_arn)
    below, keys_below = 0, 0
    if configured is not None:
        older = order[: order.index(outputs.since(configured)[0].name)]
        below, keys_below = (sum(counts[name] for name in older) for counts in (rows, keys))
    can_be = order[min(used)] if used else active
    return {
        "configured": configured,
        "applies": bool(tables),
        "rows_below": below,
        "branch_keys_below": keys_below,
        "rows_of_no_generation": foreign,
        "branch_keys_of_no_generation": foreign_keys,
        "can_be": None if foreign or foreign_keys or not tables else can_be,
    }


def _by_generation(entries: Iterable[dict[str, Any]]) -> Counter[str | None]:
    """How many rows, or branch keys, each generation wraps."""
    counts: Counter[str | None] = Counter()
    for entry in entries:
        counts[entry["generation"]] += entry["rows"] if "rows" in entry else entry["keys"]
    return counts
