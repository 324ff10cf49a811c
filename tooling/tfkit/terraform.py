"""The terraform program on a private copy of the project's ``terraform/`` folder.

A copy, because Terraform writes lock files beside what it reads, because staging and production
keep their state in S3, and because two runs must never meet.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
MIRROR = "registry.terraform.io/hashicorp/aws"
MOTO_ACCOUNT = "123456789012"
EXAMPLE_ACCOUNT = "111122223333"
TIMEOUT_SECONDS = 600

QUICK = {"GOGC": "off", "GOMEMLIMIT": "1200MiB"}
"""Terraform and the provider free no memory before they need it: a quarter less time."""

LOCAL_BACKEND = """terraform {
  backend "local" {}
}
"""


class TerraformError(Exception):
    """terraform failed; the message is what it said."""


class TerraformMissingError(TerraformError):
    """terraform or the AWS provider cannot be had here; the message says which and why."""


def find_terraform() -> str:
    """Path of the terraform program.

    Raises:
        TerraformMissingError: it is not on PATH.
    """
    found = shutil.which(os.environ.get("TERRAFORM", "terraform"))
    if found is None:
        raise TerraformMissingError("terraform is not on PATH")
    return found


def find_mirror() -> Path | None:
    """A folder that serves the AWS provider instead of the registry, as the Makefile finds it."""
    named = os.environ.get("TF_PLUGIN_DIR")
    if named:
        return Path(named)
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    pattern = f"*/{MIRROR}/*/{platform.system().lower()}_{machine}"
    for found in sorted(Path("/opt").glob(pattern)):
        return found.parents[4]
    return None


class Workspace:
    """One root of a private copy of ``terraform/``."""

    def __init__(self, directory: Path, root: str, endpoint_url: str | None = None) -> None:
        """Copy the folder.

        Args:
            directory: an empty or new folder that the copy goes to.
            root: the folder to run in, relative to ``terraform/``: ``environments/staging``.
            endpoint_url: the emulator; None where nothing is asked of AWS.

        Raises:
            TerraformMissingError: terraform is not on PATH.
        """
        self.terraform = find_terraform()
        self.directory = directory
        shutil.copytree(
            PROJECT / "terraform",
            directory / "terraform",
            ignore=shutil.ignore_patterns(
                ".terraform*", "*.tfstate*", "*.tfplan", "terraform.tfvars", "backend.hcl"
            ),
        )
        self.root = directory / "terraform" / root
        self._environment = environment(endpoint_url)
        example = self.root / "terraform.tfvars.example"
        if example.exists():
            values = example.read_text().replace(EXAMPLE_ACCOUNT, MOTO_ACCOUNT)
            (self.root / "terraform.tfvars").write_text(values)
            (self.root / "backend_override.tf").write_text(LOCAL_BACKEND)

    def run(self, *arguments: str) -> str:
        """Run one terraform command; returns what it printed on stdout.

        Raises:
            TerraformError: it failed.
        """
        done = subprocess.run(
            [self.terraform, f"-chdir={self.root}", *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise TerraformError(f"terraform {arguments[0]}: {done.stdout}{done.stderr}")
        return done.stdout

    def init(self) -> None:
        """Fetch the provider.

        Raises:
            TerraformMissingError: it cannot be had, neither from a mirror nor from the registry.
        """
        mirror = find_mirror()
        plugins = [f"-plugin-dir={mirror}"] if mirror else []
        try:
            self.run("init", "-input=false", "-no-color", *plugins)
        except TerraformError as error:
            if "provider" in str(error):
                raise TerraformMissingError(
                    f"no AWS provider (TF_PLUGIN_DIR names a mirror): {error}"
                ) from error
            raise

    def write_variables(self, values: Mapping[str, Any]) -> None:
        """Override variables of the root for all later commands."""
        path = self.root / "zz-override.auto.tfvars.json"
        path.write_text(json.dumps(values))

    def apply(self, *, targets: Sequence[str] = ()) -> None:
        """Apply without asking."""
        self.run("apply", "-input=false", "-no-color", "-auto-approve", *_targets(targets))

    def plan(self) -> dict[str, Any]:
        """The plan as ``terraform show -json`` prints it."""
        path = self.directory / "plan.tfplan"
        self.run("plan", "-input=false", "-no-color", f"-out={path}")
        plan: dict[str, Any] = json.loads(self.run("show", "-json", str(path)))
        return plan

    def output(self) -> dict[str, Any]:
        """The value of the output ``dekctl``."""
        value: dict[str, Any] = json.loads(self.run("output", "-json", "dekctl"))
        return value

    def state(self) -> list[dict[str, Any]]:
        """The managed resources that were applied, each with its address and values.

        From the state itself: `terraform show` loads the provider for it, which takes five seconds.
        """
        found = []
        for resource in json.loads(self.run("state", "pull"))["resources"]:
            if resource["mode"] != "managed":
                continue
            place = ".".join(
                part
                for part in (resource.get("module"), resource["type"], resource["name"])
                if part
            )
            for instance in resource["instances"]:
                key = f"[{json.dumps(instance['index_key'])}]" if "index_key" in instance else ""
                found.append({"address": place + key, "values": instance["attributes"]})
        return found

    def destroy(self) -> None:
        """Destroy without asking."""
        self.run("destroy", "-input=false", "-no-color", "-auto-approve")


def changed(plan: Mapping[str, Any]) -> list[str]:
    """Addresses of the resources that a plan would change."""
    return [
        change["address"]
        for change in plan.get("resource_changes", [])
        if change["change"]["actions"] not in (["no-op"], ["read"])
    ]


def _targets(targets: Sequence[str]) -> list[str]:
    return [f"-target={target}" for target in targets]


def environment(endpoint_url: str | None) -> dict[str, str]:
    """The variables of a terraform process that talks to an emulator, or to nothing."""
    # The owner's AWS settings must not decide where a test goes.
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "TF_"))}
    kept |= QUICK | {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "CHECKPOINT_DISABLE": "1",
        "TF_IN_AUTOMATION": "1",
    }
    if endpoint_url is not None:
        kept["AWS_ENDPOINT_URL"] = endpoint_url
    named = os.environ.get("TF_CLI_CONFIG_FILE")
    if named and Path(named).is_file():
        kept["TF_CLI_CONFIG_FILE"] = named
    cache = os.environ.get("TF_PLUGIN_CACHE_DIR", str(PROJECT / ".dekctl" / "plugins"))
    if find_mirror() is None:
        Path(cache).mkdir(parents=True, exist_ok=True)
        kept["TF_PLUGIN_CACHE_DIR"] = cache
    return kept
