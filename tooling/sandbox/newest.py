"""Runs the tests of rows and schema on newer PostgreSQL servers than the machine has.

``python -m sandbox.newest [pytest's arguments]``. The servers come from wheels, of which only the
binaries are used: their Python code would make an operating-system user as root.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from sandbox.postgres import BIN_VARIABLE

PROJECT = Path(__file__).parents[2]
LOCK = PROJECT / "requirements" / "postgresql.txt"
FILES = ("compare_and_swap", "database_grants", "engine", "fingerprints", "inspection",
         "key_shapes", "odd_rows", "schema_columns", "schema_races", "schema_steps",
         "server_sentences")  # fmt: skip
OTHERS = "not mariadb and not MariaDB and not sqlite and not SQLite"
"""Tests on other databases, by their parameters."""


def main(arguments: list[str]) -> int:
    """Install the servers into a temporary folder and run the tests on each; 0 if all passed."""
    with tempfile.TemporaryDirectory(prefix="sandbox-newest-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the servers run as another user where this is root
        install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--require-hashes"]
        subprocess.run([*install, "--target", name, "-r", str(LOCK)], check=True)
        found = sorted(folder.glob("*/pginstall/bin"))
        if not found:
            print("no server was found in the wheels", file=sys.stderr)  # noqa: T201 - a command
            return 1
        for server in found:
            for program in server.iterdir():
                program.chmod(0o755)
        return max(_run(server, arguments) for server in found)


def _run(server: Path, arguments: list[str]) -> int:
    version = subprocess.run([server / "postgres", "--version"], capture_output=True, check=True)
    print(version.stdout.decode().strip(), flush=True)  # noqa: T201 - a command
    files = [f"tests/integration/test_{name}.py" for name in FILES]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", OTHERS, *files, *arguments],
        cwd=PROJECT,
        env={**os.environ, BIN_VARIABLE: str(server)},
        check=False,
    ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
