"""What a command says, asks and checks before it changes something."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dekctl.cli.consent import is_emulator
from dekctl.config import load_config
from dekctl.project import Project
from support.app import AppDatabase
from support.cli import TOOLING, Dekctl
from support.generations import Generations
from support.kms_standin import KmsStandin
from support.secrets import assert_hidden
from support.waiting import PATIENCE_SECONDS


def on_a_terminal(
    dekctl: Dekctl, *arguments: str, typed: str = "", environ: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run dekctl on a terminal of its own; how it ended, and what the terminal showed."""
    ours, theirs = pty.openpty()
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "DEKCTL_", "NO_COLOR"))
    }
    child = subprocess.Popen(
        [sys.executable, "-m", "dekctl", *arguments],
        cwd=dekctl.folder,
        env={
            **kept,
            "PYTHONPATH": str(TOOLING),
            "TERM": "xterm",
            **dekctl.environ,
            **(environ or {}),
        },
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    os.write(ours, typed.encode())
    shown = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # it has ended (Linux)
            break
        if not part:
            break
        shown += part
    os.close(ours)
    code = child.wait(timeout=PATIENCE_SECONDS)
    text = shown.decode()
    assert_hidden(text, dekctl.all_keys(), "the terminal")
    return code, text


def test_a_person_is_told_the_facts_and_types_the_name_of_the_environment(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(sqlite_database, rows=3)
    dekctl.json("migrate")
    code, shown = on_a_terminal(dekctl, "scrub", typed="yes\n")
    assert code == 3
    assert "not confirmed" in shown
    assert "table     encrypted_files (expanded), 3 rows" in shown
    assert "database  sqlite:///" in shown
    assert "undo      dekctl restore" in shown
    assert "final     once a KEK is deleted" in shown
    assert "\x1b[31m\x1b[1merror:" in shown
    assert app.counts()["both"] == 3
    code, shown = on_a_terminal(dekctl, "scrub", typed="test\n", environ={"NO_COLOR": "1"})
    assert code == 0, shown
    assert "scrub encrypted_files: 3 of 3 rows (100.0%)" in shown
    assert "\x1b[3" not in shown
    assert app.counts()["wrapped_only"] == 3


@pytest.mark.parametrize(
    ("lines", "emulator"),
    [
        ('endpoint_url = "http://127.0.0.1:4566"', True),
        ('endpoint_url = "https://kms.example"', False),
        ('provider = "memory"', True),
        ('provider = "env"', False),
        ("", False),
    ],
)
def test_the_name_is_typed_wherever_it_is_no_emulator(
    tmp_path: Path, lines: str, *, emulator: bool
) -> None:
    file = tmp_path / "dekctl.toml"
    file.write_text(f"[table]\n[env.production]\n{lines}\n")
    with Project(load_config(file)) as project:
        assert is_emulator(project) is emulator


def test_migrate_asks_kms_before_it_alters_a_table(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, kms_standin: KmsStandin
) -> None:
    generations = Generations.begin(kms_standin, dekctl)
    app = make_app(sqlite_database, rows=2, env=generations.env)
    kms_standin.kms().disable_key(KeyId=generations.active)
    before = app.rows()
    assert "dekctl doctor" in dekctl("migrate").expect(5).stderr
    assert app.rows() == before
    assert dekctl.json("status")["stage"] == "legacy"
    kms_standin.kms().enable_key(KeyId=generations.active)
    assert "encrypted_files: expanded" in dekctl("migrate").expect(0).stdout
    assert "encrypted_files: was expanded already" in dekctl("migrate").expect(0).stdout


def test_the_bill_of_a_migration_holds_both_passes_and_the_trail(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, kms_standin: KmsStandin
) -> None:
    generations = Generations.begin(kms_standin, dekctl)
    make_app(sqlite_database, rows=7, env=generations.env)
    bill = dekctl.json("migrate", "--dry-run")["estimate"]
    assert (bill["kms_calls"], bill["passes"]) == (14, {"wrap": 7, "verify": 7})
    said = dekctl("migrate", "--dry-run").expect(0).stdout
    assert "encrypted_files: would be expanded" in said
    assert "7 by wrap, 7 by verify" in said
    done = dekctl.json("migrate")
    assert sum(done["kms_calls"].values()) == bill["kms_calls"]


def test_several_tables_are_told_apart(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=2)
    sqlite_database.sql("CREATE TABLE other (id INTEGER PRIMARY KEY, encryption_key BLOB NOT NULL)")
    sqlite_database.sql("INSERT INTO other VALUES (1, zeroblob(32))")
    file = dekctl.folder / "dekctl.toml"
    second = '[[table]]\nname = "other"\ncontext_name = "other"\n[env.test]'
    file.write_text(file.read_text().replace("[table]", "[[table]]").replace("[env.test]", second))
    dekctl.json("migrate")
    asked = dekctl("schema", "rollback", "--yes").expect(2)
    assert "encrypted_files (expanded), other (expanded)" in asked.stderr
    dekctl("schema", "rollback", "--yes", "--table", "other").expect(0)
    stages = {t["table"]: t["stage"] for t in dekctl.json("schema", "current")["tables"]}
    assert stages == {"encrypted_files": "expanded", "other": "legacy"}

    dekctl.json("migrate")
    sqlite_database.sql("ALTER TABLE other RENAME COLUMN wrapped_key TO wrapped")
    stopped = dekctl("verify").expect(3)
    assert "other is at stage legacy" in stopped.stderr
    assert "dekctl migrate --table other" in stopped.stderr


def test_a_run_over_several_tables_says_which_are_done(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=2)
    sqlite_database.sql("CREATE TABLE other (id INTEGER PRIMARY KEY, encryption_key BLOB NOT NULL)")
    for number in range(101):  # so many bad keys that the run is refused
        sqlite_database.sql("INSERT INTO other VALUES (:id, x'00')", id=number)
    file = dekctl.folder / "dekctl.toml"
    second = '[[table]]\nname = "other"\ncontext_name = "other"\n[env.test]'
    file.write_text(file.read_text().replace("[table]", "[[table]]").replace("[env.test]", second))
    dekctl.json("schema", "expand")
    stopped = dekctl("wrap").expect(3)
    assert "done: encrypted_files; stopped in: other" in stopped.stderr
    assert "error: [[table]] other: " in stopped.stderr


def test_the_region_is_read_from_the_variable_that_the_hint_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "dekctl.toml"
    file.write_text('[table]\n[env.a]\nkek = "alias/x"\n[env.b]\nregion = "eu-west-1"\n')
    monkeypatch.setenv("AWS_REGION", "ap-southeast-2")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    with Project(load_config(file, "a")) as project:
        assert project.region == "ap-southeast-2"
    with Project(load_config(file, "b")) as project:
        assert project.region == "eu-west-1"
