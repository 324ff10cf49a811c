"""The release checklist names every Alembic revision there is, and nothing else."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from dekctl.db.lineage import Lineage

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


@pytest.mark.parametrize("folder", ["ledger", "table"])
def test_the_revisions_stand_in_the_order_in_which_alembic_runs_them(folder: str) -> None:
    lineage = Lineage(folder, "versions", schema=None)
    script = ScriptDirectory.from_config(lineage._alembic(plan=None))
    assert lineage.revisions()[::-1] == [step.revision for step in script.walk_revisions()]


def test_the_image_keeps_what_botocore_knows_of_the_services_that_dekctl_calls() -> None:
    dockerfile = (PROJECT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    kept = set(re.findall(r"! -name ([a-z0-9-]+)", dockerfile))
    code = "\n".join(
        p.read_text(encoding="utf-8") for p in (PROJECT / "tooling/dekctl").rglob("*.py")
    )
    called = set(re.findall(r'client\(\s*(?:session,\s*)?"([a-z0-9-]+)"', code))
    assert {"kms", "sts"} <= kept, "called by a name in a variable, and by botocore itself"
    assert called, "no client was found"
    assert called <= kept
    ignored = (PROJECT / "deploy" / "Dockerfile.dockerignore").read_text(encoding="utf-8")
    for source in re.findall(r"^COPY (?!--)(.+) /src/$", dockerfile, re.MULTILINE):
        assert all(f"!{path}" in ignored.splitlines() for path in source.split())
