"""`dekctl guard`: its rules, and the recipe of ARCHITECTURE.md for a new finding."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

from dekctl.guard.rules import kinds
from support.checkout import copy_code
from support.pages import assert_part
from support.plans import change, key, plan, write

TOY = '''"""Keys whose description changes."""

from __future__ import annotations

from collections.abc import Iterator

from dekctl.guard.kms_keys import present_keys
from dekctl.guard.risk import Inputs, Risk, RiskKind

KINDS = (RiskKind("toy", "changes the description of a key", "always"),)


def find(inputs: Inputs) -> Iterator[Risk]:
    """Every key with a new description."""
    for change in present_keys(inputs.plan):
        if change.will("description") != change.was("description"):
            what = "gets another description"
            yield Risk("toy", change.address, change.was("arn"), what, if_needed=False)
'''


def test_a_file_in_guard_rules_is_all_that_a_new_finding_needs(tmp_path: Path) -> None:
    """ARCHITECTURE.md, "Where to change what"."""
    path = copy_code(tmp_path)
    (path / "dekctl" / "guard" / "rules" / "toy.py").write_text(TOY)
    document = plan(change("aws_kms_key", "kek", key("k1"), key("k1", description="new")))
    sqlite3.connect(tmp_path / "a.db").close()
    (tmp_path / "dekctl.toml").write_text('[table]\n[env.test]\ndatabase_url = "sqlite:///a.db"\n')
    run = subprocess.run(
        [sys.executable, "-m", "dekctl", "guard", "--plan", write(tmp_path, document)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(path), "DEKCTL_ENV": "test"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 3, run.stderr
    assert "[toy-" in run.stderr
    assert "aws_kms_key.kek" in run.stderr


def test_every_kind_of_finding_has_one_meaning() -> None:
    names = [kind.name for kind in kinds()]
    assert len(names) == len(set(names))


def test_the_page_lists_every_kind_of_finding() -> None:
    listed = sorted(kinds(), key=lambda kind: kind.rank)
    rows = [f"| `{kind.name}` | {kind.plan} | {kind.counts} |" for kind in listed]
    assert_part(
        "guard.md", "findings", "\n".join(["| kind | the plan | counts |\n|---|---|---|", *rows])
    )
