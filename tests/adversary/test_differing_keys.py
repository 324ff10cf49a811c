"""Where a row's two keys differ, neither goes before the data has proved the other."""

from __future__ import annotations

import base64
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from dekctl.kms import EnvKMS
from support.app import AppDatabase, Application
from support.cli import Dekctl

OPENS = """
import base64, json, sys
from pathlib import Path
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
files = json.loads(Path(sys.argv[1]).read_text())
key = sys.stdin.buffer.read()
print(key)  # dekctl must not repeat it
try:
    AESGCM(key).decrypt(bytes(12), base64.b64decode(files[sys.argv[-1]]), None)
except InvalidTag:
    sys.exit(1)
"""


@pytest.fixture
def prove(tmp_path: Path) -> Any:
    """Return a function that gives the text of --prove for an application's files."""

    def make(app: Application) -> str:
        program, files = tmp_path / "opens.py", tmp_path / "files.json"
        program.write_text(OPENS)
        texts = {
            str(pk[0]): base64.b64encode(row["ciphertext"]).decode()
            for pk, row in app.rows().items()
        }
        files.write_text(json.dumps(texts))
        return shlex.join([sys.executable, str(program), str(files)])

    return make


def differing(app: Application, dekctl: Dekctl) -> tuple[bytes, bytes]:
    """Row 1: the wrapped key is right; row 2: the plaintext is. Returns the two wrong keys."""
    dekctl.json("migrate")
    planted, rekeyed = os.urandom(32), os.urandom(32)
    dekctl.hidden += [planted, rekeyed]
    app.set((1,), plaintext=planted)
    row = app.rows()[(2,)]
    wrong = EnvKMS(dekctl.environ).wrap(
        rekeyed, {"dekctl:table": "encrypted_files", "dekctl:pk": "2"}
    )
    assert row["wrapped_key"] != wrong
    app.set((2,), wrapped=wrong)
    return planted, rekeyed


def test_no_hint_advises_to_remove_a_key(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(sqlite_database, rows=3)
    differing(app, dekctl)
    before = app.rows()
    for command in (["verify"], ["scrub", "--yes", "--retry-quarantined"], ["rollback", "--yes"]):
        result = dekctl(*command)
        assert result.exit_code in (3, 4)
        said = result.stdout + result.stderr
        assert "dekctl settle --prove" in said
        assert not any(word in said for word in ("NULL", "--stale", "lear the"))
    assert {pk: app.rows()[pk] for pk in ((1,), (2,))} == {pk: before[pk] for pk in ((1,), (2,))}


def test_the_data_decides_and_the_right_key_is_kept(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any, prove: Any
) -> None:
    app = make_app(app_database, rows=4)
    differing(app, dekctl)
    dekctl("verify").expect(4)

    assert dekctl.json("settle", "--prove", prove(app), "--dry-run")["changed"] == 2
    assert app.counts()["both"] == 4
    assert dekctl.json("settle", "--prove", prove(app))["changed"] == 2

    assert app.rows()[(1,)]["encryption_key"] is None
    assert app.rows()[(2,)]["encryption_key"] == app.deks[(2,)]
    assert dekctl.json("verify")["verified"] == 4
    assert dekctl.json("status")["quarantined"] == 0
    app.assert_files_open(EnvKMS(dekctl.environ))
    dekctl.json("scrub", "--yes")
    app.assert_files_open(EnvKMS(dekctl.environ))


@pytest.mark.parametrize(
    ("program", "said"),
    [("true", "both of its keys"), ("false", "neither of its"), ("sh -c 'exit 7'", "ended with 7")],
)
def test_both_keys_are_kept_while_the_program_does_not_tell_them_apart(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, program: str, said: str
) -> None:
    app = make_app(sqlite_database, rows=3)
    differing(app, dekctl)
    before = app.rows()
    result = dekctl.json("settle", "--prove", program, expect=4)
    assert (result["changed"], result["quarantined"]) == (0, 2)
    assert said in str(result)
    assert app.rows() == before


def test_a_program_that_cannot_be_started_is_wrong_usage(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(sqlite_database, rows=3)
    differing(app, dekctl)
    assert "cannot be started" in dekctl("settle", "--prove", "./nowhere").expect(2).stderr
    assert "names no program" in dekctl("settle", "--prove", " ").expect(2).stderr
    assert "quotes" in dekctl("settle", "--prove", "sh '").expect(2).stderr
