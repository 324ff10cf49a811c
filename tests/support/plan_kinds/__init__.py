"""Every kind of plan that docs/guard.md lists, made from a recorded real one, with its verdict."""

from __future__ import annotations

from support.plan_kinds.alarms import ALARMS
from support.plan_kinds.bucket import BUCKETS
from support.plan_kinds.edits import Cases, Edit
from support.plan_kinds.exposure import CLOUD_CONTROL, EXPOSED
from support.plan_kinds.keys import KEKS, RIGHTS
from support.plan_kinds.trail import KEYS_AND_LOGS, TRAILS

__all__ = ["SECTIONS", "Cases", "Edit", "as_markdown"]

SECTIONS: dict[str, Cases] = {
    "KEKs and aliases": KEKS,
    "Rights of the roles": RIGHTS,
    "Exposure": EXPOSED,
    "The trail": TRAILS,
    "Its bucket": BUCKETS,
    "Its key, its log group and its role": KEYS_AND_LOGS,
    "Alarms and notices": ALARMS,
    "Resources of the Cloud Control provider": CLOUD_CONTROL,
}


def as_markdown() -> str:
    """The tables of docs/guard.md."""
    parts = []
    for title, cases in SECTIONS.items():
        rows = [
            f"| {name} | {f'refused: `{kind}`' if kind else 'passes'} |"
            for name, (_, kind) in cases.items()
        ]
        parts.append("\n".join([f"### {title}\n", "| plan | verdict |\n|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"
