"""``make test-localstack`` and ``make test-local``: an operator's story, told by make targets.

Beyond ``make demo``: the KEK and its alias exist already and are imported, rows that an earlier
script wrapped are taken over, the second plan is empty, the guard refuses to disable a KEK in use,
the old KEK is retired and disabled, and everything is destroyed. The first runs on a real
LocalStack and a real PostgreSQL; the second on moto's server, with a trail and a topic that exist
already, and on PostgreSQL where its server is installed, else SQLite.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import botocore.session
import sqlalchemy as sa

from demo.infrastructure import REGION, DemoError, Terraform
from demo.story import Story, require, say
from sandbox.localstack import LocalStackServer
from sandbox.moto import MotoServer
from sandbox.postgres import PostgresServer
from sandbox.process import SandboxError, exit_on_sigterm

Env = Literal["local", "localstack"]
ALIAS = "alias/app-dek"
V1_FILES = 50


class FullStory(Story):
    """The operator's story. Needs Terraform."""

    def tell(self) -> None:
        """Run every step; destroy what Terraform made, also on failure.

        Not when it is interrupted: the emulator that has it is thrown away anyway.

        Raises:
            DemoError: a step did not prove what it must.
        """
        self.write_config()
        engine = sa.create_engine(self.database_url)
        try:
            self.step("application", lambda: self.create(engine))
            self.step("existing", self._existing)
            self.step("make plan", lambda: self._plan("2 to import"))
            self.step("make apply", lambda: self.terraform.apply({"g1": "active"}))
            self.step("second plan", lambda: self._plan("No changes."))
            self.step("earlier run", lambda: self._wrap_as_before(engine))
            self.step("make doctor", self._doctor)
            self.step("make migrate", self._migrate)
            self.step("take over", self._take_over)
            self.step("read", lambda: self.read(engine))
            self.step("make scrub", self._scrub)
            self.step("contract", self._contract_by_make)
            self.step("rotate KEK", lambda: self._apply({"g1": "retired", "g2": "active"}))
            self.step("make rewrap", self._rewrap)
            self.step("read", lambda: self.read(engine))
            self.step("guard", self._guard)
            self.step("retire", self._retire)
            self.step("disable g1", lambda: self._apply({"g1": "disabled", "g2": "active"}))
            self.step("verify", self.verify)
            self.step("read", lambda: self.read(engine))
            self.step("make status", self.status)
        except (DemoError, SandboxError) as error:
            self._destroy_after(error)
            raise
        finally:
            engine.dispose()
        self.step("make destroy", self._destroy)

    def _destroy_after(self, error: Exception) -> None:
        """Destroy in spite of a failure, which stays the one that is reported."""
        try:
            self.step("make destroy", self._destroy)
        except DemoError as second:
            error.add_note(f"and afterwards: {second}")

    @property
    def terraform(self) -> Terraform:
        """The infrastructure, which is Terraform's here."""
        assert isinstance(self.infrastructure, Terraform)
        return self.infrastructure

    def _existing(self) -> str:
        """What the account has before Terraform comes."""
        kms = self._client("kms")
        key = kms.create_key(KeyUsage="ENCRYPT_DECRYPT", Description="made by hand")["KeyMetadata"]
        kms.create_alias(AliasName=ALIAS, TargetKeyId=key["KeyId"])
        variables = self.terraform.variables
        variables |= {"imported_keys": {"g1": key["KeyId"]}, "alias": ALIAS}
        variables |= {"allow_rows_without_context": True}
        if self.env == "localstack":  # it has no CloudTrail
            return f"a KMS key and {ALIAS}, made by hand"
        bucket = "organisation-trail"
        self._client("s3").create_bucket(Bucket=bucket)
        trail = self._client("cloudtrail").create_trail(Name="organisation", S3BucketName=bucket)
        topic = self._client("sns").create_topic(Name="security")["TopicArn"]
        existing = {"trail_arn": trail["TrailARN"], "bucket": bucket}
        variables["audit"] = {"existing": existing, "topic_arn": topic}
        return f"a KMS key, {ALIAS}, a trail and a topic, made by hand"

    def _wrap_as_before(self, engine: sa.Engine) -> str:
        """An earlier script's work: no encryption context, and the alias as the KEK's name."""
        self._expand()
        table = sa.Table("encrypted_files", sa.MetaData(), autoload_with=engine)
        first = sa.select(table.c.id, table.c.encryption_key).order_by(table.c.id).limit(V1_FILES)
        kms = self._client("kms")
        with engine.begin() as connection:
            for number, dek in connection.execute(first).all():
                blob = kms.encrypt(KeyId=ALIAS, Plaintext=bytes(dek))["CiphertextBlob"]
                wrapped = {"wrapped_key": blob, "wrapped_key_version": "V1", "kek_id": ALIAS}
                connection.execute(table.update().where(table.c.id == number).values(wrapped))
        return f"{V1_FILES} keys were wrapped by {ALIAS} without a context (V1)"

    def _take_over(self) -> str:
        self.terraform.make("rewrap", "ARGS=--version V1")
        status = self.dekctl("status")
        left = sum(kek["rows"] for kek in status["keks"] if kek["version"] == "V1")
        require(left == 0, f"{left} rows are V1 still: {status['keks']}")
        return f"{V1_FILES} V1 keys are bound to their rows now, under the same KEK"

    def _client(self, service: str) -> Any:
        return botocore.session.get_session().create_client(
            service,
            region_name=REGION,
            endpoint_url=self.endpoint_url,
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106 (an emulator's)
        )

    def _plan(self, expected: str) -> str:
        option = self.terraform.write_generations({"g1": "active"})
        printed = self.terraform.make("plan", option)
        require(expected in printed, f"the plan does not say {expected!r}:\n{printed[-1500:]}")
        return next(line for line in printed.splitlines() if expected in line).strip()

    def _apply(self, generations: dict[str, str]) -> str:
        applied = self.terraform.apply(generations)
        return ", ".join(f"{name} {state}" for name, state in generations.items()) + f" ({applied})"

    def _doctor(self) -> str:
        checks = self.dekctl("doctor")["checks"]
        return f"{len(checks)} checks passed, including each role's rights"

    def _migrate(self) -> str:
        self.terraform.make("migrate")
        status = self.dekctl("status")
        require(status["both"] == self.files, f"not every row is wrapped: {status}")
        return f"{status['both']:,} rows have both keys, and they match"

    def _scrub(self) -> str:
        self.terraform.make("scrub", "ARGS=--yes")
        status = self.dekctl("status")
        require(status["wrapped_only"] == self.files, f"a plaintext is left: {status}")
        return f"{status['wrapped_only']:,} rows have only a wrapped key"

    def _contract_by_make(self) -> str:
        self.terraform.make("contract", "ARGS=--yes")
        stage = self.dekctl("status")["stage"]
        require(stage == "contracted", f"the stage is {stage}")
        return "encryption_key was dropped"

    def _rewrap(self) -> str:
        self.terraform.make("rewrap")
        return self.status()

    def _guard(self) -> str:
        option = self.terraform.write_generations({"g1": "active", "g2": "disabled"})
        try:
            self.terraform.make("apply", option)
        except DemoError as refusal:
            require(
                f"{self.files:,} row" in str(refusal) or f"{self.files} row" in str(refusal),
                f"refused for another reason: {refusal}",
            )
            return f"refused to disable the KEK that {self.files:,} rows need"
        raise DemoError("a plan that disables the KEK in use was applied")

    def _retire(self) -> str:
        result = self.dekctl("retire", "g1")
        require(not result["refused"], f"g1 cannot be retired: {result}")
        return "no row, no alias and no backup needs g1"

    def _destroy(self) -> str:
        printed = self.terraform.make("destroy")
        gone = [line for line in printed.splitlines() if line.startswith("Destroy complete!")]
        require(bool(gone), f"not destroyed:\n{printed[-1500:]}")
        return gone[0]


def main(env: Env) -> int:
    """Tell the story in ``env``. Returns the exit code."""
    exit_on_sigterm()
    started = time.monotonic()
    missing = Terraform.missing()
    if missing is not None:
        sys.stderr.write(f"error: {missing}\nhint: install Terraform 1.11 or newer\n")
        return 1
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dekctl-story-")))
            endpoint_url = _emulator(env, stack, folder)
            FullStory(
                infrastructure=Terraform(env, endpoint_url, folder / "terraform"),
                endpoint_url=endpoint_url,
                database_url=_database(env, stack, folder),
                directory=folder / "app",
                env=env,
            ).tell()
    except (DemoError, SandboxError) as error:
        sys.stderr.write("\n".join([f"error: {error}", *getattr(error, "__notes__", [])]) + "\n")
        return 1
    say(f"Done in {time.monotonic() - started:.0f} s; all servers are stopped.")
    return 0


def _emulator(env: Env, stack: ExitStack, folder: Path) -> str:
    if env == "local":
        moto = stack.enter_context(MotoServer.start(folder / "moto"))
        say(f"  emulator     moto server at {moto.endpoint_url}")
        return moto.endpoint_url
    server = stack.enter_context(LocalStackServer.start(folder / "localstack"))
    say(f"  emulator     LocalStack at {server.endpoint_url}")
    return server.endpoint_url


def _database(env: Env, stack: ExitStack, folder: Path) -> str:
    found, reason = PostgresServer.find()
    if found is None and env == "local":
        say(f"  database     SQLite ({reason})")
        return f"sqlite:///{folder / 'app.db'}"
    server = stack.enter_context(PostgresServer.start(folder / "postgres"))
    say(f"  database     PostgreSQL on 127.0.0.1, from {found}")
    return server.create_database("app")


if __name__ == "__main__":
    sys.exit(main("localstack" if sys.argv[1:] == ["localstack"] else "local"))
