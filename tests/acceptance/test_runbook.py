"""docs/runbook.md: every command of the page runs as printed, half-way through a migration."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.app import AppDatabase
from support.cli import Dekctl

PAGE = Path(__file__).parents[2] / "docs" / "runbook.md"


def blocks(language: str) -> list[str]:
    """The page's blocks of one language."""
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_every_command_of_the_page_runs_as_printed(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_app(sqlite_database, rows=4)
    config = (dekctl.folder / "dekctl.toml").read_text()
    dekctl.configure(config.replace("[env.test]", "[env.production]"))
    dekctl.json("migrate")
    dekctl.json("scrub", "--limit", "2", "--yes")
    monkeypatch.chdir(dekctl.folder)
    ran = []
    for line in "".join(blocks("console")).splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words[0] == "export":
            dekctl.environ |= dict([words[1].split("=", 1)])
        elif words[0] == "dekctl":
            if ">" in words:
                words = words[: words.index(">")]
            dekctl(*words[1:]).expect(0)
            ran.append(words[1])
        else:
            script = line.removeprefix("$ ")
            environ = {"PATH": "/usr/bin:/bin", **dekctl.environ}
            subprocess.run(["bash", "-euc", script], env=environ, check=True)
    assert {"status", "runs", "doctor", "rollback", "schema", "report"} <= set(ran)
    for query in blocks("sql"):
        assert sqlite_database.sql(query.strip().removesuffix(";"))
