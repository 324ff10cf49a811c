"""Every command of every page is run as it is printed, or stands in a list with the reason.

On a table in SQLite and the strict KMS. Each command finds the state that it presumes: the file of
the database is a copy of one that was made once.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from support.app import AppDatabase, Application
from support.cli import Dekctl
from support.cloudtrail import records_of, write
from support.generations import Generations
from support.kms_standin import KmsStandin
from support.pages import PAGES, ROOT, RUN_BY, blocks, shell_lines
from support.plans import ACCOUNT, arn_of, change, key, plan

AWS = "needs an account at AWS"
TERRAFORM = (
    "applies Terraform: tests/integration/test_make_apply.py, test_terraform_environments.py"
)
STORY = "the story of demo.full, with moto and Terraform: tests/integration/test_full_story.py"
EXAMPLES = "starts a server: tests/acceptance/test_application.py, test_asyncio_application.py"
NOT_RUN = {
    "make demo": "takes minutes, and installs",
    "make test": "is what runs this",
    "make unit": "is what runs this",
    "make lint-python": "CI runs it",
    "make fmt": "changes the sources",
    "make docs": "installs",
    "make bench": "takes minutes, and measures nothing on a busy machine",
    "DEKCTL_SOAK_SECONDS=": "half an hour",
    "DEKCTL_PROOF_": "takes minutes",
    "make up": STORY,
    "make apply": STORY,
    "make down": STORY,
    "make plan": TERRAFORM,
    "make destroy": TERRAFORM,
    "TF_DATA_DIR=": TERRAFORM,
    "terraform ": TERRAFORM,
    "$(terraform output": AWS,
    "aws ": AWS,
    "dekctl wrap --cluster": "needs a Dask cluster: tests/integration/test_cluster.py",
    "dekctl verify --workers": "starts processes: tests/integration/test_workers.py",
    "dekctl wrap --workers": "starts processes: tests/integration/test_workers.py",
    "dekctl migrate --quota-share": "asks Service Quotas: tests/integration/test_quota_share.py",
    "python -X importtime": "takes seconds: tests/unit/test_start_up.py",
    "dekctl status --watch": "never ends by itself: tests/integration/test_runs.py",
    "dekctl retire acme/g1": "needs KEKs of tenants: tests/integration/rotation/test_tenants.py",
    "export ": EXAMPLES,
    "alembic ": EXAMPLES,
    "gunicorn ": EXAMPLES,
    "uvicorn ": EXAMPLES,
    "curl ": EXAMPLES,
    "cd ": "the lock file of LocalStack, from PyPI",
    "for name in": "the lock file of LocalStack, from PyPI",
    "    uv pip compile": "the lock file of LocalStack, from PyPI",
    "done": "the lock file of LocalStack, from PyPI",
}
"""Beginnings of commands that cannot be run here, and why."""

STATES = {
    "init": "legacy",
    "migrate": "legacy",
    "schema expand --adopt": "no ledger",
    "schema expand": "legacy",
    "wrap": "expanded",
    "schema rollback": "expanded",
    "schema contract": "scrubbed",
    "residue search": "scrubbed",
    "restore": "scrubbed",
    "rollback": "scrubbed",
    "uninstall": "rolled back",
    "settle": "differing",
    "rebind --old-context-name": "old context",
    "rebind --old-key": "renumbered",
}
"""What a command presumes; every other one, a table that was migrated and a KEK that was rolled."""

ENDS = {
    "retire g1": 3,  # its rows need it
    "guard --plan plan.json --allow": 0,
    "guard": 3,  # the plan deletes it
}
"""Exit codes other than 0."""

GIVEN = {
    "init": ["--account-id", ACCOUNT, "--region", "us-east-1"],
    **{
        name: ["--yes"]
        for name in ("scrub", "restore", "rollback", "schema contract", "schema rollback")
    },
    "uninstall": ["--yes"],
    "audit": ["--events", "trail"],
}
"""What a person answers, and where the trail is that no bucket has here."""
SAMPLES = {
    "NAME": "files",
    "EXPRESSION": "id - 1000",
    "/var/lib/postgresql/15/main": "wal",
    "/var/lib/mysql": "wal",
    "/srv/pg": "wal",
}
"""What stands for what the page leaves to the person, and for folders of other databases."""
TRY_KEY = b"""#!/bin/sh
test -n "$(od -An -v -tx1 | tr -d ' 0\\n')"
"""
"""A program that settle asks: a key of zeros opens nothing."""


@dataclass
class World:
    """The folder in which a person stands, and the states of the database."""

    dekctl: Dekctl
    app: Application
    generations: Generations
    states: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    samples: dict[str, str] = field(default_factory=lambda: dict(SAMPLES))
    ran: set[str] = field(default_factory=set)

    @property
    def database(self) -> Path:
        """The file of the database."""
        return Path(str(self.app.database.engine.url.database))

    def keep(self, state: str) -> None:
        """Keep the database as it is now."""
        self.states[state] = self.database.read_bytes()

    def take(self, state: str) -> None:
        """Bring the database to a state that was kept."""
        self.database.write_bytes(self.states[state])

    def make(self) -> None:
        """Make every state and every file that a command presumes."""
        dekctl, folder, app = self.dekctl, self.dekctl.folder, self.app
        self.keep("legacy")
        config = (folder / "dekctl.toml").read_text()
        dekctl.configure(config.replace('"encrypted_files"', '"files"'))
        outputs = self.generations.file.read_text()
        self.generations.file.write_text(outputs.replace('"encrypted_files"', '"files"'))
        dekctl("migrate").expect(0)
        self.keep("old context")
        dekctl.configure(config)
        self.generations.write()
        self.take("legacy")
        dekctl("schema", "expand").expect(0)
        self.keep("expanded")
        self.generations.standin.reset_counters()
        dekctl("migrate").expect(0)
        self.keep("migrated")
        write(folder / "trail", records_of(self.generations.standin))
        dekctl("residue", "sample", "--output", "sample.json").expect(0)
        for table in ("dekctl_tables", "dekctl_runs", "dekctl_quarantine"):
            app.database.sql(f"DROP TABLE {table}")
        self.keep("no ledger")
        self.take("migrated")
        app.set((1,), plaintext=bytes(32))
        self.keep("differing")
        self.take("migrated")
        with app.database.past_the_trigger() as connection:
            connection.exec_driver_sql("UPDATE files SET id = id + 1000")
        self.keep("renumbered")
        self.take("migrated")
        dekctl("scrub", "--yes").expect(0)
        self.keep("scrubbed")
        dekctl("rollback", "--yes").expect(0)
        self.keep("rolled back")
        self.generations.roll()
        self.write_files(config)

    def write_files(self, config: str) -> None:
        """The files that commands read, whoever makes them."""
        folder = self.dekctl.folder
        arn = self.generations.arns["g1"]
        gone = json.dumps(plan(change("aws_kms_key", "kek", key(arn.split("/")[1], arn=arn), None)))
        gone = gone.replace(ACCOUNT, arn.split(":")[4]).replace(
            arn_of("k1").replace(ACCOUNT, arn.split(":")[4]), self.generations.active
        )
        found = self.dekctl("audit", "--events", "trail", "--json").stdout
        accepted = next(
            block.text for block in blocks(ROOT / "docs/audit.md") if block.language == "toml"
        )
        self.files = {
            "outputs.json": self.generations.file.read_bytes(),
            "dekctl.toml": config.encode(),
            "other.toml": config.encode(),
            "plan.json": gone.encode(),
            "a.json": found.encode(),
            "accepted.toml": accepted.encode(),
            "keys.json": public_keys(),
            "dump.sql": b"nothing",
            "wal/1": b"nothing",
            "try-key": TRY_KEY,
            **{str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.gz")},
        }
        sample = (folder / "sample.json").read_bytes()
        self.files |= dict.fromkeys(("sample.json", "s.json", "sample.jsonl"), sample)
        self.prepare("test", "migrated")
        [finding] = self.dekctl.json("guard", "--plan", "plan.json", expect=3)["findings"]
        self.samples["ID"] = finding["id"]

    def prepare(self, name: str, state: str) -> None:
        """Bring back the folder, with an environment of this name, and the state."""
        folder = self.dekctl.folder
        for left in folder.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        named = rb"\1" + name.encode()
        for file, content in self.files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(re.sub(rb'(\[env\.|"env": ")test', named, content))
        (folder / "try-key").chmod(0o755)
        self.take(state)
        if state == "migrated":
            self.app.database.sql("UPDATE dekctl_runs SET env = :name", name=name)

    def run(self, line: str) -> str | None:
        """Run a line; what went wrong, if anything did."""
        command, _, pipe = line.partition(" | ")
        words = shlex.split(command.partition(" > ")[0])
        if words[0] == "make":
            words = recipe(words)
        words = [self.samples.get(word, word) for word in words[1:]]
        name = words[words.index("--env") + 1] if "--env" in words else "staging"
        plain = " ".join(word for word in words if word not in ("--json", "--env", name))
        if line.startswith("make") and plain in self.ran:
            return None  # the same command, only that make printed it
        self.ran.add(plain)
        self.prepare(name, first(STATES, plain, "migrated"))
        if plain.startswith("init"):
            (self.dekctl.folder / "dekctl.toml").unlink()
        if "--output" in words:
            written = self.dekctl.folder / words[words.index("--output") + 1]
            written.unlink(missing_ok=True)
        given = [] if {"--yes", "--events", "--kek"} & {*words} else first(GIVEN, plain, [])
        done = self.dekctl(*words, *given)
        if done.exit_code != first(ENDS, plain, 0):
            return f"{done.exit_code}: {done.stdout}{done.stderr}"
        if "--output" in words and not written.exists():
            return "wrote no file"
        if pipe:
            subprocess.run(["bash", "-euc", pipe], input=done.stdout, text=True, check=True)
        return None


def first(table: dict[str, Any], command: str, default: Any) -> Any:
    """The entry of the first beginning of a command."""
    return next((value for start, value in table.items() if command.startswith(start)), default)


def public_keys() -> bytes:
    """What ``aws cloudtrail list-public-keys`` prints."""
    made = rsa.generate_private_key(65537, 2048).public_key()
    value = base64.b64encode(made.public_bytes(Encoding.DER, PublicFormat.PKCS1)).decode()
    return json.dumps({"PublicKeyList": [{"Value": value, "Fingerprint": "31e8"}]}).encode()


def recipe(words: list[str]) -> list[str]:
    """The dekctl command that a target of the Makefile ends with, as make would run it."""
    # The variables of the make that runs this test are none of its.
    own = {k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k != "ARGS"}
    done = subprocess.run(
        ["make", "-n", *words[1:]], cwd=ROOT, env=own, capture_output=True, text=True, check=True
    )
    *_, last = done.stdout.splitlines()
    made = shlex.split(last)
    return ["dekctl", *made[made.index(".venv/bin/dekctl") + 1 :]]


def commands() -> dict[str, str]:
    """Every distinct shell line of the pages without its comment, and where it stands first."""
    found: dict[str, str] = {}
    for page in PAGES:
        if str(page.relative_to(ROOT)) not in RUN_BY:
            for block in blocks(page):
                for line in shell_lines(block):
                    found.setdefault(re.sub(r"\s+# .*", "", line), f"{block.page}:{block.line}")
    return found


def test_every_command_of_every_page_runs_as_printed(
    sqlite_database: AppDatabase,
    kms_standin: KmsStandin,
    dekctl: Dekctl,
    make_app: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generations = Generations.begin(kms_standin, dekctl)
    app = make_app(
        sqlite_database,
        rows=4,
        env=generations.env,
        name="files",
        plaintext_column="data_key",
        context_name="encrypted_files",
    )
    dekctl.environ["DATABASE_URL"] = sqlite_database.url
    monkeypatch.chdir(dekctl.folder)
    world = World(dekctl, app, generations)
    world.make()
    wrong, left_out, ran = [], set(), 0
    for line, where in commands().items():
        if start := next(filter(line.startswith, NOT_RUN), None):
            left_out.add(start)
        elif said := world.run(line):
            wrong.append(f"{where}: {line}\n  {said}")
        else:
            ran += 1
    assert not wrong, "\n".join(wrong)
    assert left_out == {*NOT_RUN}, "the list names a command that no page has"
    assert ran > 100
