"""A new database is added as ARCHITECTURE.md says: in the files that it names, and in no other."""

from __future__ import annotations

import ast
import base64
import json
import os
import re
import secrets
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from dekctl.db.connect import DIALECTS, open_database
from dekctl.db.dialect import Timeouts
from dekctl.schema.dialects import schema_dialect
from dekctl.schema.dialects.base import SchemaDialect
from support.checkout import copy_code

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tooling" / "dekctl"
TOY = ROOT / "tests" / "support" / "toy_database"
LIMIT_SECONDS = 120
ROWS = 30


def recipe() -> set[str]:
    """The files that ARCHITECTURE.md names for a new database."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    found = re.search(r"^- \*\*A database\.\*\*.*?(?=^- \*\*|^$)", text, re.MULTILINE | re.DOTALL)
    assert found, "ARCHITECTURE.md has no recipe for a database"
    return set(re.findall(r"`((?!tests/)[\w/]+\.py)`", found[0]))


def follow_the_recipe(package: Path) -> None:
    """Add the toy to a copy of the package."""
    table = package / "db" / "connect.py"
    lines = table.read_text(encoding="utf-8")
    with_toy = lines.replace('    "sqlite": SQLite,\n', '    "sqlite": SQLite,\n    "toy": Toy,\n')
    assert with_toy != lines
    imported = "from dekctl.db.dialects.toy import Toy\n"
    at = with_toy.index("from dekctl.db.sever")
    new = {
        "db/dialects/NAME.py": (TOY / "db_dialect.py").read_text(encoding="utf-8"),
        "schema/dialects/NAME.py": (TOY / "schema_dialect.py").read_text(encoding="utf-8"),
        "db/connect.py": with_toy[:at] + imported + with_toy[at:],
    }
    assert set(new) == recipe()
    for name, text in new.items():
        (package / name.replace("NAME", "toy")).write_text(text, encoding="utf-8")


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A folder with a copy of the project's code, the toy in it, and a project of rows on it."""
    follow_the_recipe(copy_code(tmp_path) / "dekctl")
    with sqlite3.connect(tmp_path / "rows.db") as rows:
        rows.execute("CREATE TABLE encrypted_files (id INTEGER PRIMARY KEY, encryption_key BLOB)")
        keys = [(secrets.token_bytes(32),) for _ in range(ROWS)]
        rows.executemany("INSERT INTO encrypted_files (encryption_key) VALUES (?)", keys)
    rows.close()
    (tmp_path / "dekctl.toml").write_text(
        f'[env.test]\ndatabase_url = "toy:///{tmp_path}/rows.db"\nprovider = "env"\n',
        encoding="utf-8",
    )
    return tmp_path


def run(folder: Path, *command: str) -> dict[str, Any]:
    """A command of the copy, as a process; its JSON. It must end with 0."""
    outside = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "DEKCTL_"))}
    kek = base64.b64encode(b"k" * 32).decode()
    done = subprocess.run(
        [sys.executable, "-m", "dekctl", "--json", *command],
        cwd=folder,
        env={**outside, "PYTHONPATH": str(folder / "tooling"), "DEKCTL_KEK": kek},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"
    value: dict[str, Any] = json.loads(done.stdout)
    return value


def keys_of(folder: Path) -> list[bytes]:
    rows = sqlite3.connect(folder / "rows.db")
    found = rows.execute("SELECT encryption_key FROM encrypted_files ORDER BY id").fetchall()
    rows.close()
    return [key for (key,) in found]


def test_a_database_that_follows_the_recipe_goes_all_the_way_and_back(toy: Path) -> None:
    before = keys_of(toy)
    run(toy, "doctor")
    assert run(toy, "migrate")["changed"] == ROWS
    assert run(toy, "rewrap", "--shard", "1/1")["changed"] == 0
    scrubbed = run(toy, "scrub", "--yes")
    assert scrubbed["changed"] == ROWS
    assert "the toy's free pages" in json.dumps(scrubbed["traces"])
    assert run(toy, "schema", "contract", "--yes")["stage"] == "contracted"
    assert run(toy, "status")["wrapped_only"] == ROWS
    run(toy, "rollback", "--yes")
    assert run(toy, "schema", "current")["stage"] == "legacy"
    assert keys_of(toy) == before


@pytest.mark.parametrize("name", DIALECTS)
def test_every_database_has_a_schema_dialect_of_the_same_name(name: str) -> None:
    pytest.importorskip({"postgresql": "psycopg", "sqlite": "sqlite3"}.get(name, "pymysql"))
    with open_database(make_url(f"{name}://"), Timeouts(1, 1)) as database:
        assert isinstance(schema_dialect(database), SchemaDialect)


def test_no_code_outside_the_dialects_asks_for_a_database_by_name() -> None:
    named = [
        f"{file.relative_to(PACKAGE)}:{node.lineno}"
        for file in PACKAGE.rglob("*.py")
        if file.parent.name != "dialects" and file != PACKAGE / "db" / "connect.py"
        for node in nodes(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in DIALECTS
    ]
    assert named == []


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a tree, except a column type's variants: the type itself is for any database."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        if not (isinstance(child, ast.Call) and getattr(child.func, "attr", "") == "with_variant"):
            yield from nodes(child)
