"""The recipe "A key provider" of ARCHITECTURE.md: one file, and one entry in the table."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet

from support.app import AppDatabase
from support.checkout import copy_code
from support.cli import Dekctl

ROOT = Path(__file__).parents[2]
ADAPTER = ROOT / "tests" / "support" / "toy_provider.py"
IMPORT = "from dekctl.kms.local import ENV, MEMORY\n"
ENTRY = "        MEMORY,\n"


@dataclass
class Checkout:
    """A copy of the package with the toy provider, and a folder with a ``dekctl.toml``."""

    folder: Path
    environ: dict[str, str]

    def add_provider(self) -> None:
        """Follow the recipe."""
        kms = copy_code(self.folder) / "dekctl" / "kms"
        shutil.copy(ADAPTER, kms / "toy.py")
        table = (kms / "providers.py").read_text()
        assert table.count(IMPORT) == table.count(ENTRY) == 1
        table = table.replace(IMPORT, f"{IMPORT}from dekctl.kms.toy import TOY\n")
        (kms / "providers.py").write_text(table.replace(ENTRY, f"{ENTRY}        TOY,\n"))

    def json(self, *arguments: str, expect: int = 0) -> dict[str, Any]:
        """Run the copy's dekctl; its result."""
        path = str(self.folder / "tooling")
        done = subprocess.run(
            [sys.executable, "-m", "dekctl", "--json", *arguments],
            cwd=self.folder,
            env={**os.environ, **self.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "error"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == expect, done.stdout + done.stderr
        result = json.loads(done.stdout)
        assert isinstance(result, dict)
        return result


def test_a_provider_is_one_file_and_one_entry(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, tmp_path: Path
) -> None:
    kek = base64.b64encode(os.urandom(32)).decode()
    checkout = Checkout(tmp_path, {"TOY_KEK": Fernet.generate_key().decode(), "DEKCTL_KEK": kek})
    checkout.add_provider()
    app = make_app(sqlite_database, rows=10, env={"provider": "toy"})
    configured = dekctl.folder / "dekctl.toml"
    checkout.environ["DEKCTL_CONFIG"] = str(configured)

    checkout.json("migrate")
    assert {row["kek_id"] for row in app.rows().values()} == {"toy:box"}
    assert checkout.json("verify")["verified"] == 10
    assert all(check["ok"] for check in checkout.json("doctor")["checks"])
    assert checkout.json("retire", "toy:box", expect=3)["refused"]

    configured.write_text(configured.read_text().replace('"toy"', '"env"'))
    assert checkout.json("rewrap")["changed"] == 10
    assert all(row["kek_id"].startswith("env:") for row in app.rows().values())
    assert not checkout.json("retire", "toy:box")["refused"]


def test_architecture_names_the_same_two_places() -> None:
    text = " ".join((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").split())
    recipe = text.partition("**A key provider.** ")[2].partition(" - **")[0]
    assert "One file in `kms/`" in recipe
    assert "`kms/providers.py`" in recipe


def test_a_provider_that_does_not_exist_is_refused(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=10, env={"provider": "vault"})
    done = dekctl("migrate").expect(2)
    assert "unknown KMS provider 'vault' in [env.test]" in done.stderr
    assert "aws, env, memory" in done.stderr


def test_a_row_of_a_provider_that_does_not_exist_does_not_stop_the_others(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    dekctl.use_env_kek()
    app = make_app(sqlite_database, rows=10)
    dekctl.json("migrate")
    pk = next(iter(app.deks))
    app.set(pk, kek="vault:transit")
    result = dekctl.json("verify", expect=4)
    assert (result["verified"], result["failed"]) == (9, 1)
    assert "is of no provider" in dekctl("status").expect(0).stdout
    moved = dekctl.json("rewrap", expect=4)
    assert moved["quarantined"] == 1
