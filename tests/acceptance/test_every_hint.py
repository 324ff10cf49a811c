"""Every command that a message of dekctl names is one that a person can run as it is printed.

The commands are collected from the code, so a new hint is run here, or fails until it can be.
"""

from __future__ import annotations

import ast
import shlex
import shutil
import stat
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Any

from dekctl.cli.hints import COMMAND, parse
from dekctl.residue import SAMPLE_FORMAT
from support.app import AppDatabase
from support.cli import TOOLING, Dekctl, Result
from support.generations import Generations
from support.kms_standin import KmsStandin

SOURCES = TOOLING / "dekctl"
WITHOUT = ("manual.py", "hints.py")
"""Files whose commands are no hints; the examples of the first are read by test_help."""

SAMPLES = {
    "{kek['generation']}": "g1",
    "{name}": "g1",
    "{what}": "g1",
    "{config.name}": "encrypted_files",
    "{shlex.quote(plans[0].config.name)}": "encrypted_files",
    "{after.isoformat()}": "2026-01-02T03:04:05",
    "{shlex.quote(old_name)}": "encrypted_files",
    "{shlex.quote(f'{kind}NOTNULL')}{more}": "'BLOB NOT NULL'",
    "{plan.config.name}": "encrypted_files",
    "{run['operation']}": "wrap",
    "{result.operation}": "verify",
    "{table}": "encrypted_files",
    "{column}": "encryption_key",
    "{found[0].table}": "encrypted_files",
    "{found[0].column}": "encryption_key",
    "--column NAME": "--column encryption_key",
    "ENCODING": "raw",
    "COLUMN": "id",
    "EXPRESSION": "id",
    "KEK": "g1",
    "FILE": "made.file",
    "FOLDER": "trail",
    "PROGRAM": "./program",
    "NAME": "encrypted_files",
}
"""What stands for what a message fills in, or leaves to the person."""

ENDS = {
    # There is no trail to read in this environment.
    "audit": {2},
    # It asks for a file that an earlier command has made.
    "residue search --sample FILE FOLDER": {2},
}
"""Exit codes other than those of a command that did its work or was refused by a guard."""
WELL = {0, 3, 4}


def hinted() -> set[str]:
    """The distinct commands in the texts of the code, as they are written there."""
    found = set()
    for file in SOURCES.rglob("*.py"):
        if file.name not in WITHOUT:
            for text in _texts(ast.parse(file.read_text(encoding="utf-8"))):
                if text == SAMPLE_FORMAT:
                    continue
                for place in COMMAND.finditer(text):
                    spoken_of = text[: place.start()].endswith("`")  # and not proposed
                    if spoken_of or text.startswith("dekctl report: "):  # the title of the page
                        continue
                    words, _ = parse(text, place.end() - 1)
                    found.add(" ".join([words.path, *words.arguments]))
                for placeholder in ("{run['operation']}", "{result.operation}"):
                    if f"dekctl {placeholder}" in text:
                        rest = " --retry-quarantined" if "--retry-quarantined" in text else ""
                        found.add(f"{placeholder}{rest}")
    return found


def _texts(tree: ast.Module) -> Iterator[str]:
    """The texts of a module, without docstrings; what an f-string fills in stays as its source."""
    inside = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if id(node) in inside:
            continue
        if isinstance(node, ast.JoinedStr):
            inside |= {id(each) for each in ast.walk(node)}
            yield "".join(
                f"{{{ast.unparse(part.value).replace(' ', '')}}}"
                if isinstance(part, ast.FormattedValue)
                else str(ast.literal_eval(part))
                for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_every_command_in_a_hint_can_be_run_as_it_is_printed(
    sqlite_database: AppDatabase,
    kms_standin: KmsStandin,
    dekctl: Dekctl,
    make_app: Any,
    monkeypatch: Any,
) -> None:
    generations = Generations.begin(kms_standin, dekctl)
    make_app(sqlite_database, rows=2, env=generations.env, wrapped_at_column="wrapped_at")
    database = Path(sqlite_database.url.removeprefix("sqlite:///"))
    legacy = Path(shutil.copy(database, dekctl.folder / "legacy.db"))
    dekctl.json("migrate")
    generations.roll()
    folder = dekctl.folder
    (folder / "trail").mkdir()
    (folder / "trail" / "111122223333_CloudTrail_x.json").write_text('{"Records": []}')
    program = folder / "program"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.chdir(folder)
    kept = shutil.copy(database, folder / "kept.db")

    commands = hinted()
    assert len(commands) > 40
    wrong: list[str] = []
    for command in sorted(commands):
        line = command
        for written, sample in SAMPLES.items():
            line = line.replace(written, sample)
        if "{" in line:
            wrong.append(f"{command}: SAMPLES does not know what is filled in")
            continue
        asks = ("scrub", "restore", "rollback", "schema rollback", "schema contract")
        yes = ["--yes"] if line.startswith(asks) else []
        if line.startswith("init"):
            done = initialised(dekctl, shlex.split(line), legacy)
        else:
            done = dekctl(*shlex.split(line), *yes)
        if done.exit_code not in ENDS.get(command, WELL):
            wrong.append(f"{command}: {done.exit_code}: {done.stdout}{done.stderr}")
        shutil.copy(kept, database)
        (folder / "made.file").unlink(missing_ok=True)
    assert not wrong, "\n".join(wrong)


def initialised(dekctl: Dekctl, words: list[str], legacy: Path) -> Result:
    """Run ``init`` on a table as it was before, in a folder without a configuration."""
    place = replace(dekctl, folder=dekctl.folder / "empty")
    place.folder.mkdir()
    place.environ = {**dekctl.environ, "DATABASE_URL": f"sqlite:///{legacy}"}
    where = {"--account-id", "--kek", "--help"} & {*words}
    answers = [] if where else ["--account-id", "111122223333", "--region", "eu-central-1"]
    with chdir(place.folder):
        done = place(*words, *answers)
    shutil.rmtree(place.folder)
    return done
