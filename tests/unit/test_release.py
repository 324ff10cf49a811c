"""The release checklist names every Alembic revision there is, and nothing else."""

from __future__ import annotations

import ast
import re
from pathlib import Path

PROJECT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (\w+) \| `(\w+)` \| (?:-|`(\w+)`) \| \d+\.\d+\.\d+ \|$", re.MULTILINE)


def test_the_checklist_lists_the_revisions_of_each_lineage() -> None:
    there = set()
    for file in (PROJECT / "migrations").glob("*/*.py"):
        values = {
            target.id: ast.literal_eval(node.value)
            for node in ast.parse(file.read_text(encoding="utf-8")).body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name) and target.id in ("revision", "down_revision")
        }
        there.add((file.parent.name, values["revision"], values["down_revision"] or ""))
    assert there, "no revision was found"
    listed = ROW.findall((PROJECT / "docs" / "release.md").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(there), "docs/release.md must list exactly the second"
