"""The recipe "A verb" of ARCHITECTURE.md: one file for its class, and one for its command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.app import AppDatabase
from support.checkout import copy_code
from support.cli import Dekctl

ROOT = Path(__file__).parents[2]
COMMAND = '''
import click

from dekctl.cli.execute import run_verb
from dekctl.cli.walk_options import walk_options
from dekctl.operations.unwrap import Unwrap
from dekctl.walk.options import RowOptions


@click.command()
@click.option("--version")
@walk_options
@click.pass_obj
def unwrap(state, /, version, **options):
    """Empty the wrapped columns again."""
    run_verb(state, Unwrap(version), RowOptions(**options))
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package in which the recipe was followed; its folder."""
    path = copy_code(tmp_path / "copy")
    package = path / "dekctl"
    shutil.copy(ROOT / "tests" / "support" / "toy_verb.py", package / "operations" / "unwrap.py")
    (package / "cli" / "commands" / "unwrap.py").write_text(COMMAND)
    return path


def test_a_new_verb_is_its_class_and_its_command(
    package: Path, sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(sqlite_database, rows=50)

    def run(*arguments: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "dekctl", "--json", *arguments],
            cwd=dekctl.folder,
            env={**os.environ, **dekctl.environ, "PYTHONPATH": str(package)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        value: dict[str, Any] = json.loads(done.stdout)
        return value

    run("migrate")
    rehearsed = run("unwrap", "--dry-run")
    assert (rehearsed["changed"], rehearsed["kms_calls"], app.counts()["both"]) == (50, {}, 50)
    assert run("unwrap", "--limit", "10", "--version", "V3")["changed"] == 0
    assert run("unwrap", "--limit", "10", "--version", "V2")["changed"] == 10
    # Its options reach worker processes too.
    assert run("unwrap", "--workers", "2", "--version", "V3")["changed"] == 0
    done = run("unwrap", "--workers", "2", "--batch-size", "7")
    assert (done["operation"], done["changed"], done["quarantined"]) == ("unwrap", 40, 0)
    assert app.counts()["plaintext_only"] == 50
    newest = run("status")["runs"][0]
    assert (newest["operation"], newest["state"]) == ("unwrap", "finished")
