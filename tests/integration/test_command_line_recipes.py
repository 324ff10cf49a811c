"""The recipes of ARCHITECTURE.md for the command line, each followed in a copy of the package."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from support.checkout import copy_code


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package, beside a configuration with a database of two rows."""
    path = copy_code(tmp_path)
    with sqlite3.connect(tmp_path / "app.db") as database:
        database.execute("CREATE TABLE encrypted_files (id INTEGER PRIMARY KEY, encryption_key)")
        database.execute("INSERT INTO encrypted_files VALUES (1, zeroblob(32)), (2, NULL)")
    database.close()
    (tmp_path / "dekctl.toml").write_text(
        '[env.x]\nprovider = "memory"\ndatabase_url = "sqlite:///app.db"\n'
    )
    return path / "dekctl"


def dekctl(package: Path, *arguments: str) -> str:
    """Run the copy and return its stdout."""
    done = subprocess.run(
        [sys.executable, "-m", "dekctl", *arguments],
        cwd=package.parents[1],
        env={**os.environ, "PYTHONPATH": str(package.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_new_output_format_is_a_function_and_its_entry(package: Path) -> None:
    with (package / "cli" / "formats.py").open("a") as file:
        file.write(
            "\n\ndef lines_format(value, _text):\n"
            '    """Lines of NAME=VALUE."""\n'
            "    return '\\n'.join(f'{key}={each}' for key, each in value.items())\n"
            "\n\nFORMATS['lines'] = lines_format\n"
        )
    assert "Print the result as lines of NAME=VALUE." in dekctl(package, "--help")
    printed = dekctl(package, "--lines", "status").splitlines()
    assert {"stage=legacy", "rows=2", "plaintext_only=1", "no_key=1"} <= set(printed)
    assert dekctl(package, "--json", "status").startswith("{"), "the other formats stay"
    assert dekctl(package, "status").startswith("encrypted_files: stage legacy")


def test_a_new_command_is_one_file(package: Path) -> None:
    (package / "cli" / "commands" / "tables.py").write_text(
        "import click\n\n\n"
        "@click.command()\n@click.pass_obj\n"
        "def tables(state):\n"
        '    """List the configured tables."""\n'
        "    with state.project() as project:\n"
        "        names = [table.name for table in project.table_configs()]\n"
        "    state.terminal.result({'tables': names}, '\\n'.join(names))\n"
    )
    assert "List the configured tables." in dekctl(package, "--help")
    assert dekctl(package, "--json", "tables") == '{"tables": ["encrypted_files"]}\n'
