"""The story: raw DEKs, wrapped DEKs, a new KEK. Every step proves something and says so.

Told by ``make demo`` on moto's server and SQLite, and by ``make test-localstack`` on LocalStack
and PostgreSQL: only where the servers are differs.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import sqlalchemy as sa

from dekctl.errors import KMSError
from dekctl.kms import AWSKMS
from dekctl.kms.aws.assume_role import assumed_session
from dekctl.reader import RowKeys
from demo.application import create_legacy_files, read_every_file
from demo.infrastructure import REGION, DemoError, Infrastructure

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_EC2_METADATA_DISABLED": "true",
}
SILENCE_SECONDS = 10.0
"""How long a step may take before it says that it is still at work."""


def say(text: str) -> None:
    """Print one line of the story."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@dataclass(slots=True)
class Story:
    """One telling, in a folder of its own."""

    infrastructure: Infrastructure
    endpoint_url: str
    database_url: str
    directory: Path
    files: int = 1000
    assume_roles: bool = True
    env: str = "local"
    started: float = field(default_factory=time.monotonic)

    def tell(self) -> None:
        """Run every step.

        Raises:
            DemoError: a step did not prove what it must.
        """
        self.write_config()
        engine = sa.create_engine(self.database_url)
        try:
            self.step("Terraform", lambda: self.infrastructure.apply({"g1": "active"}))
            self.step("application", lambda: self.create(engine))
            self.step("look", lambda: look(engine))
            self.step("expand", self._expand)
            self.step("kill -9", lambda: self._kill(engine))
            self.step("wrap again", lambda: self._resume(engine))
            self.step("verify", self.verify)
            self.step("read", lambda: self.read(engine))
            self.step("scrub", lambda: self._rows("scrub", "Decrypt", "--yes"))
            self.step("contract", self._contract)
            self.step("swapped row", lambda: self._swap(engine))
            self.step("new KEK", self._roll)
            self.step("rewrap", lambda: self._rows("rewrap", "ReEncrypt"))
            self.step("verify", self.verify)
            self.step("read", lambda: self.read(engine))
            self.step("status", self.status)
            self.step("look", lambda: look(engine))
        finally:
            engine.dispose()

    def step(self, name: str, work: Callable[[], str]) -> None:
        """Do one step and print its line; one that takes long says so meanwhile."""
        before = time.monotonic()
        with _patience(name):
            proved = work()
        say(f"  {name:<12} {proved}  ({time.monotonic() - before:.1f} s)")

    def write_config(self) -> None:
        """Write the configuration that dekctl, and make's guard, work with."""
        self.directory.mkdir(parents=True, exist_ok=True)
        file = self.directory / "dekctl.toml"
        self.infrastructure.environment |= {
            "DEKCTL_CONFIG": str(file),
            "DEMO_DATABASE_URL": self.database_url,
        }
        file.write_text(
            f"[env.{self.env}]\n"
            'database_url = "env:DEMO_DATABASE_URL"\n'
            'provider = "aws"\n'
            f'region = "{REGION}"\n'
            f'endpoint_url = "{self.endpoint_url}"\n'
            f'terraform_outputs = "{self.infrastructure.outputs}"\n'
        )

    # -- steps ---------------------------------------------------------------------------------

    def create(self, engine: sa.Engine) -> str:
        """The application's table, as it is today."""
        create_legacy_files(engine, self.files)
        return f"{self.files:,} files, each with its raw DEK in encryption_key"

    def _expand(self) -> str:
        result = self.dekctl("schema", "expand")
        require(result["stage"] == "expanded", "the schema is not expanded")
        return "wrapped_key, wrapped_key_version and kek_id were added next to encryption_key"

    def _kill(self, engine: sa.Engine) -> str:
        """End a run as a power cut does: in the middle, without a word."""
        run = self._start("wrap", "--batch-size", "50", "--rate", "200")
        try:
            while not 0 < _wrapped(engine) < self.files:
                require(run.poll() is None, "the run ended before it could be killed")
                time.sleep(0.05)
        finally:
            run.kill()
            run.communicate()
        done = _wrapped(engine)
        require(done < self.files, "the run was done before it was killed")
        return f"wrap was killed after {done:,} of {self.files:,} rows"

    def _resume(self, engine: sa.Engine) -> str:
        left = self.files - _wrapped(engine)
        result = self.dekctl("wrap")
        require(result["changed"] == left, f"wrap changed {result['changed']} rows, not {left}")
        require(_wrapped(engine) == self.files, "a row is not wrapped")
        return f"the same command wrapped the other {left:,} rows; none twice, none lost"

    def _swap(self, engine: sa.Engine) -> str:
        """Give a file the wrapped key of another one, as an intruder in the database could."""
        columns = "wrapped_key, wrapped_key_version, kek_id"
        put = sa.text(
            f"UPDATE encrypted_files SET ({columns}) = "
            f"(SELECT {columns} FROM encrypted_files WHERE id = :source) WHERE id = 2"
        )
        keep = sa.text(f"SELECT {columns} FROM encrypted_files WHERE id = 2")
        back = sa.text(
            "UPDATE encrypted_files SET wrapped_key = :wrapped_key, "
            "wrapped_key_version = :wrapped_key_version, kek_id = :kek_id WHERE id = 2"
        )
        with engine.begin() as connection:
            own = dict(connection.execute(keep).mappings().one())
            connection.execute(put, {"source": 1})
        try:
            read_every_file(engine, RowKeys(self._application_kms()))
        except KMSError as error:
            refused = error.message
        else:
            raise DemoError("the application decrypted a file with the key of another row")
        finally:
            with engine.begin() as connection:
                connection.execute(back, own)
        require(refused.startswith("file 2:"), f"refused for another reason: {refused}")
        return "file 2 with the wrapped key of file 1: KMS refuses to decrypt it; put back"

    def _rows(self, verb: str, api: str, *options: str) -> str:
        result = self.dekctl(verb, *options)
        require(result["changed"] == self.files, f"{verb} changed {result['changed']} rows")
        calls = result["kms_calls"]
        require(set(calls) == {api}, f"{verb} made other KMS calls than {api}: {calls}")
        return f"{result['changed']:,} rows, {calls[api]:,} {api} calls, no other KMS call"

    def verify(self) -> str:
        """Every wrapped key opens."""
        result = self.dekctl("verify")
        require(result["verified"] == self.files, f"verified {result['verified']} rows")
        require(result["failed"] == 0, f"{result['failed']} rows failed")
        return f"{result['verified']:,} wrapped keys decrypted, each with its own row's context"

    def read(self, engine: sa.Engine) -> str:
        """The application reads every file, acting as its own role."""
        keys = RowKeys(self._application_kms())
        count = read_every_file(engine, keys)
        require(count == self.files, f"only {count} files were read")
        return f"the application decrypted {count:,} files through wrapped_key"

    def _contract(self) -> str:
        status = self.dekctl("status")
        require(status["wrapped_only"] == self.files, "a plaintext is left")
        result = self.dekctl("schema", "contract", "--yes")
        require(result["stage"] == "contracted", "the plaintext column is still there")
        return "no plaintext key was left; encryption_key was dropped"

    def _roll(self) -> str:
        applied = self.infrastructure.apply({"g1": "retired", "g2": "active"})
        return f"g2 is active, g1 is retired ({applied})"

    def status(self) -> str:
        """Every row is under the active KEK."""
        status = self.dekctl("status")
        outputs = json.loads(self.infrastructure.outputs.read_text())["dekctl"]["value"]
        keks = [(kek["kek_id"], kek["rows"]) for kek in status["keks"]]
        require(keks == [(outputs["kek"]["arn"], self.files)], f"census: {keks}")
        return f"stage {status['stage']}, {self.files:,} rows, all wrapped by {keks[0][0]}"

    # -- tools ---------------------------------------------------------------------------------

    def dekctl(self, *arguments: str) -> dict[str, Any]:
        """Run the command line as a user would. Returns its JSON.

        Raises:
            DemoError: it ended with another code than 0.
        """
        run = self._start(*arguments)
        stdout, stderr = run.communicate()
        if run.returncode != 0:
            raise DemoError(
                f"dekctl {' '.join(arguments)} ended with {run.returncode}:\n{stdout}{stderr}"
            )
        result: dict[str, Any] = json.loads(stdout)
        return result

    def _start(self, *arguments: str) -> subprocess.Popen[str]:
        ambient = () if self.assume_roles else ("--no-assume-role",)
        return subprocess.Popen(
            [sys.executable, "-m", "dekctl", "--json", "--quiet", *ambient, *arguments],
            cwd=self.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **CREDENTIALS, "DEMO_DATABASE_URL": self.database_url},
        )

    def _application_kms(self) -> AWSKMS:
        """KMS as the application has it: its own role, which may only read and issue keys."""
        outputs = json.loads(self.infrastructure.outputs.read_text())["dekctl"]["value"]
        session = boto3.Session(
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            region_name=REGION,
        )
        if self.assume_roles:
            session = assumed_session(
                session, outputs["roles"]["app"], region=REGION, endpoint_url=self.endpoint_url
            )
        return AWSKMS(
            outputs["kek"]["arn"],
            region=REGION,
            endpoint_url=self.endpoint_url,
            session=session,
            known_keks=[each["arn"] for each in outputs["kek"]["generations"].values()],
        )


def look(engine: sa.Engine) -> str:
    """A row as it is stored, as a person would look at it: never a key, only that there is one."""
    columns = [column["name"] for column in sa.inspect(engine).get_columns("encrypted_files")]
    with engine.connect() as connection:
        query = sa.text("SELECT * FROM encrypted_files WHERE id = 1")
        row = dict(connection.execute(query).mappings().one())
    shown = []
    for name in columns:
        if name in ("encryption_key", "wrapped_key"):
            what = "raw bytes" if name == "encryption_key" else "bytes from KMS"
            shown.append(f"{name} {len(row[name])} {what}" if row[name] else f"{name} NULL")
        elif name == "kek_id" and row[name]:
            shown.append(f"kek_id ...{row[name][-12:]}")
        elif name == "wrapped_key_version" and row[name]:
            shown.append(f"version {row[name]}")
    return f"row 1 has: {', '.join(shown)}"


def _wrapped(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        query = sa.text("SELECT COUNT(wrapped_key) FROM encrypted_files")
        return int(connection.execute(query).scalar_one())


@contextlib.contextmanager
def _patience(name: str) -> Iterator[None]:
    """Say every 10 seconds that a step is still at work, so that nobody waits in silence."""
    done, started = threading.Event(), time.monotonic()

    def tell() -> None:
        while not done.wait(SILENCE_SECONDS):
            say(f"  {name:<12} ... still at work, {time.monotonic() - started:.0f} s")

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()


def require(condition: bool, failure: str) -> None:
    """Raise DemoError unless the condition holds."""
    if not condition:
        raise DemoError(failure)
