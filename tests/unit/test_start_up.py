"""What is imported when: a command waits for nothing that it does not use."""

from __future__ import annotations

import json
import subprocess
import sys

from support.cli import TOOLING

PROGRAM = """
import contextlib, io, json, sys

def imported():
    return sorted({name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names))

from dekctl.cli.main import cli

found = {}
for option in ("--version", "--help"):
    with contextlib.redirect_stdout(io.StringIO()):
        cli.main([option], standalone_mode=False)
    found[option] = imported()
from dekctl.reader import RowKeys
found["reader"] = imported()
import dekctl.cli.commands.status
import dekctl.cli.commands.wrap
found["commands"] = imported()
print(json.dumps(found))
"""


def test_nothing_is_imported_before_it_is_needed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={"PYTHONPATH": str(TOOLING)},
        capture_output=True,
        text=True,
        check=True,
    )
    found = {name: set(modules) for name, modules in json.loads(done.stdout).items()}
    for option in ("--version", "--help"):
        assert "click" in found[option]
        assert not found[option] & {"sqlalchemy", "cryptography", "alembic", "boto3", "botocore"}
    for name in ("reader", "commands"):
        assert {"sqlalchemy", "cryptography"} <= found[name]
        assert not found[name] & {"alembic", "boto3", "botocore"}, name
