"""The KEK of the demo: by Terraform where it can be had, else by boto3 on the emulator."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import boto3

from dekctl.config.roles import Role
from sandbox.process import SandboxError, run

ROOT = Path(__file__).resolve().parents[2]
REGION = "us-east-1"
MAKE_SECONDS = 900


class DemoError(Exception):
    """The demo cannot go on."""


class Infrastructure(Protocol):
    """Makes the KEK generations that are asked for, and writes Terraform's outputs to a file."""

    outputs: Path
    environment: dict[str, str]

    def apply(self, generations: Mapping[str, str]) -> str:
        """Bring the KEK to these generations (name to state). Returns what was proved."""


class Terraform:
    """``make plan`` and ``make apply``, with their data in a folder of the demo's own."""

    def __init__(self, env: str, endpoint_url: str, directory: Path) -> None:
        self.env = env
        self.endpoint_url = endpoint_url
        self.directory = directory
        self.outputs = directory / "outputs.json"
        self.environment: dict[str, str] = {}
        """What the guard needs besides: which configuration, which database."""
        self.variables: dict[str, Any] = {}
        """What Terraform is told besides the generations."""

    @staticmethod
    def missing() -> str | None:
        """Why Terraform cannot be used here, or None."""
        if shutil.which("make") is None:
            return "make is not on PATH"
        if shutil.which("terraform") is None:
            return "terraform is not on PATH"
        return None

    def make(self, *arguments: str) -> str:
        """Run a make target for this environment. Returns what it printed.

        Nothing of it is left when this program ends, not even when it is told to end meanwhile.

        Raises:
            DemoError: it failed; the message ends in its last lines.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        log = self.directory / "make.log"
        log.unlink(missing_ok=True)
        try:
            run(
                [
                    "make",
                    "--no-print-directory",
                    f"ENV={self.env}",
                    f"STATE_DIR={self.directory}",
                    f"DEKCTL_ENDPOINT={self.endpoint_url}",
                    *arguments,
                ],
                log=log,
                directory=ROOT,
                environment={**_without_make(os.environ), **self.environment},
                deadline=MAKE_SECONDS,
            )
        except SandboxError as error:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise DemoError(f"make {' '.join(arguments)} failed:\n{tail or error}") from None
        return log.read_text(errors="replace")

    def write_generations(self, generations: Mapping[str, str]) -> str:
        """Make the one edit of a KEK roll. Returns the option of make that takes it up."""
        self.directory.mkdir(parents=True, exist_ok=True)
        variables = self.directory / "generations.tfvars.json"
        states = {name: {"state": state} for name, state in generations.items()}
        variables.write_text(json.dumps(self.variables | {"generations": states}))
        return f"TF_VAR_FILE={variables}"

    def apply(self, generations: Mapping[str, str]) -> str:
        printed = self.make("apply", self.write_generations(generations))
        applied = [line for line in printed.splitlines() if line.startswith("Apply complete!")]
        if not applied:
            raise DemoError(f"terraform did not apply:\n{printed[-2000:]}")
        return applied[0].removeprefix("Apply complete! ").rstrip(".")


def _without_make(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what a make above us would hand down."""
    return {k: v for k, v in environment.items() if not k.startswith(("MAKE", "MFLAGS"))}


class Boto3:
    """The same KEK and alias without Terraform. No roles: dekctl then acts as itself."""

    alias = "alias/dekctl-local"

    def __init__(self, endpoint_url: str, directory: Path) -> None:
        self.kms: Any = boto3.client(
            "kms",
            endpoint_url=endpoint_url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106 - an emulator's
        )
        directory.mkdir(parents=True, exist_ok=True)
        self.outputs = directory / "outputs.json"
        self.keys: dict[str, str] = {}
        self.environment: dict[str, str] = {}

    def apply(self, generations: Mapping[str, str]) -> str:
        for name in generations:
            if name not in self.keys:
                metadata = self.kms.create_key(Description=f"dekctl demo {name}")["KeyMetadata"]
                self.keys[name] = metadata["Arn"]
        active = self.keys[next(name for name, state in generations.items() if state == "active")]
        if any(a["AliasName"] == self.alias for a in self.kms.list_aliases()["Aliases"]):
            self.kms.update_alias(AliasName=self.alias, TargetKeyId=active)
        else:
            self.kms.create_alias(AliasName=self.alias, TargetKeyId=active)
        arns = {name: {"arn": self.keys[name], "state": s} for name, s in generations.items()}
        account = active.split(":")[4]
        value = {
            "schema_version": 1,
            "region": REGION,
            "account_id": account,
            "kek": {"arn": active, "alias": self.alias, "generations": arns},
            "roles": {role: f"arn:aws:iam::{account}:role/dekctl-{role}" for role in Role},
            "context_name": "encrypted_files",
            "audit": {"trail_arn": None, "bucket": None, "log_group": None},
        }
        self.outputs.write_text(json.dumps({"dekctl": {"value": value}}))
        return f"{len(arns)} keys and {self.alias} by boto3"
