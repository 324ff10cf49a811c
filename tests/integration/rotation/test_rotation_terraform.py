"""A KEK's whole life by `make`: imported, rotated twice, disabled, dropped, destroyed.

Real Terraform, moto's server as AWS, PostgreSQL, and an application that reads and writes
meanwhile.
One story, because each `make apply` takes ten seconds.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest

from dekctl.kms import AWSKMS
from dekctl.kms.context import V1
from dekctl.reader import RowKeys
from sandbox.moto import MotoServer
from support.app import AppDatabase, Application
from support.cli import Dekctl
from support.live_app import LiveApp
from tfkit.terraform import QUICK, changed

PROJECT = Path(__file__).parents[3]
ROWS = 300
ALIAS = "alias/app-dek"
V1_ROWS = 20
ACCOUNT = "arn:aws:{}:us-east-1:123456789012:{}"
EXISTING = {
    "alias": ALIAS,
    "allow_rows_without_context": True,
    "audit": {
        "topic_arn": ACCOUNT.format("sns", "security"),
        "existing": {"trail_arn": ACCOUNT.format("cloudtrail", "trail/org"), "bucket": "org-trail"},
    },
}
"""What was there before Terraform: an alias, a trail and a topic."""
# Nobody else changes what this server holds: asking for all of it again is time lost.
UNREFRESHED = {"TF_CLI_ARGS_plan": "-refresh=false"}
FAKE = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture
def moto() -> Any:
    """A moto server of its own: Terraform's state must find what it left."""
    found, reason = MotoServer.find()
    if found is None:
        pytest.skip(reason)
    with MotoServer.start() as server:
        yield server


class Infrastructure:
    """`make plan` and `make apply` of ENV=local, with their state in a folder of the test."""

    def __init__(self, moto: MotoServer, folder: Path, config: Path) -> None:
        self.state = folder / "state"
        self.variables = folder / "variables.tfvars.json"
        self.imported: dict[str, str] = {}
        self.said = ""
        self._moto = moto
        self._environment = {
            **{
                k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "DEKCTL_", "MAKE"))
            },
            "DEKCTL_CONFIG": str(config),
            **QUICK,
        }

    def make(self, target: str, **generations: str) -> subprocess.CompletedProcess[str]:
        """Run a target with these generations."""
        return self._make(target, generations, UNREFRESHED)

    def _make(
        self, target: str, generations: Mapping[str, str], environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        values = {name: json.loads(value) for name, value in generations.items()}
        self.variables.write_text(
            json.dumps(EXISTING | {"generations": values, "imported_keys": self.imported})
        )
        return subprocess.run(
            [
                "make",
                "-o",
                f"{sys.prefix}/.installed",
                f"VENV={sys.prefix}",
                "ENV=local",
                f"DEKCTL_ENDPOINT={self._moto.endpoint_url}",
                f"STATE_DIR={self.state}",
                f"TF_VAR_FILE={self.variables}",
                target,
            ],
            cwd=PROJECT,
            env={**self._environment, **environment},
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )

    def apply(self, **generations: str) -> str:
        """Apply these generations; it has to succeed. Returns what Terraform says it changes."""
        done = self.make("apply", **generations)
        assert done.returncode == 0, f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
        self.said = done.stderr
        [plan] = re.findall(r"Plan: (.*)\.", done.stdout)
        return str(plan)

    def changed(self, **generations: str) -> list[str]:
        """What a plan for these generations would change, after asking AWS for everything."""
        done = self._make("plan", generations, {})
        assert done.returncode == 0, f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return changed(json.loads((self.state / "plan.json").read_text()))

    @property
    def output(self) -> Any:
        """The output `dekctl` of the last apply."""
        return json.loads((self.state / "outputs.json").read_text())["dekctl"]["value"]

    def arn(self, generation: str) -> str:
        """ARN of a generation that was applied."""
        return str(self.output["kek"]["generations"][generation]["arn"])


def files_of_terraform() -> set[Path]:
    """Every file below ``terraform/``."""
    return {path for path in (PROJECT / "terraform").rglob("*") if path.is_file()}


def rows_of(dekctl: Dekctl) -> int:
    """How many rows the census finds."""
    return sum(kek["rows"] for kek in dekctl.json("status")["keks"])


ACTIVE, DISABLED = '{"state": "active"}', '{"state": "disabled"}'
RETIRED = '{"state": "retired", "still_wraps": true}'


@pytest.mark.skipif(not shutil.which("terraform"), reason="terraform is not on PATH")
@pytest.mark.skipif(not shutil.which("make"), reason="make is not on PATH")
def test_a_kek_is_rotated_twice_under_a_running_writer(
    postgres_database: AppDatabase, dekctl: Dekctl, moto: MotoServer, tmp_path: Path
) -> None:
    app = Application(postgres_database).create(ROWS)
    dekctl.applications.append(app)
    cloud = Infrastructure(moto, tmp_path, dekctl.folder / "dekctl.toml")
    dekctl.environ |= FAKE
    dekctl.configure(
        f'[table]\n[env.local]\ndatabase_url = "{postgres_database.url}"\n'
        f'region = "us-east-1"\nendpoint_url = "{moto.endpoint_url}"\n'
        f'terraform_outputs = "{cloud.state / "outputs.json"}"\n'
    )
    session = boto3.Session("test", "test", region_name="us-east-1")
    client = session.client("kms", endpoint_url=moto.endpoint_url)
    existing = client.create_key(KeyUsage="ENCRYPT_DECRYPT", Description="theirs")["KeyMetadata"]
    client.create_alias(AliasName=ALIAS, TargetKeyId=existing["KeyId"])
    kms = AWSKMS(ALIAS, region="us-east-1", endpoint_url=moto.endpoint_url, session=session)
    earlier = {pk: kms.wrap(dek) for pk, dek in list(app.deks.items())[:V1_ROWS]}

    before = files_of_terraform()
    cloud.imported = {"g1": existing["KeyId"]}
    assert cloud.apply(g1=ACTIVE).startswith("2 to import, ")
    assert "overwrites: description, enable_key_rotation, policy" in cloud.said
    created = cloud.output
    assert created["kek"]["arn"] == existing["Arn"]
    assert created["audit"]["bucket"] == "org-trail"
    assert created["schema_version"] == 1
    assert created["kek"]["generations"] == {"g1": {"arn": cloud.arn("g1"), "state": "active"}}
    assert created["kek"]["arn"] == cloud.arn("g1")
    dekctl("schema", "expand").expect(0)
    for pk, blob in earlier.items():  # as an earlier script left them: no context, an alias
        app.set(pk, wrapped=blob, version=V1, kek=ALIAS)
    dekctl("migrate").expect(0)
    assert dekctl.json("rewrap", "--version", "V1")["changed"] == V1_ROWS
    dekctl("scrub", "--yes").expect(0)
    with LiveApp(app, RowKeys(kms, plaintext="read", deadline=30.0)) as writer:
        writer.wait_for_reads(5)
        assert cloud.apply(g1=RETIRED, g2=ACTIVE).endswith(" 0 to destroy")
        assert cloud.changed(g1=RETIRED, g2=ACTIVE) == [], "a second plan must be empty"
        rotated = cloud.output["kek"]
        assert rotated["alias"] == created["kek"]["alias"]
        assert rotated["arn"] == cloud.arn("g2") != created["kek"]["arn"]
        assert rotated["generations"]["g1"] == {"arn": created["kek"]["arn"], "state": "retired"}
        writer.wait_for_reads(5)
        moved = dekctl.json("rewrap")
        assert moved["changed"] >= ROWS
        assert "Decrypt" not in moved["kms_calls"]

        _refuses_to_drop_the_kek_in_use(cloud, dekctl)
        assert client.describe_key(KeyId=ALIAS)["KeyMetadata"]["Arn"] == cloud.arn("g2")

        dekctl("retire", "g1").expect(0)
        cloud.apply(g1=DISABLED, g2=RETIRED, g3=ACTIVE)
        g1 = cloud.arn("g1")
        assert client.describe_key(KeyId=g1)["KeyMetadata"]["Enabled"] is False
        writer.wait_for_reads(5)
        assert dekctl.json("rewrap")["changed"] >= ROWS
        dekctl("retire", "g2").expect(0)
        assert "remove g1" in dekctl.json("retire", "g1")["terraform"]
        assert cloud.apply(g2=RETIRED, g3=ACTIVE).endswith(" 1 to destroy")
        dropped = client.describe_key(KeyId=g1)["KeyMetadata"]
        assert dropped["KeyState"] == "PendingDeletion"
        assert (dropped["DeletionDate"] - datetime.now(UTC)).days in (29, 30)
        assert client.describe_key(KeyId=cloud.arn("g2"))["KeyMetadata"]["Enabled"]
        writer.wait_for_reads(5)

    assert writer.failures == []
    keys = RowKeys(kms, deadline=30.0)
    rows = app.rows()
    assert {row["kek_id"] for row in rows.values()} == {cloud.arn("g3")}
    for (number,), row in rows.items():
        assert keys.read(row) == (writer.issued.get(number) or app.deks[(number,)])
    assert dekctl.json("status")["min_generation"]["can_be"] == "g3"
    assert cloud.arn("g3") in cloud.make("output", g2=RETIRED, g3=ACTIVE).stdout
    destroyed = cloud.make("destroy", g2=RETIRED, g3=ACTIVE)
    assert "Destroy complete!" in destroyed.stdout, destroyed.stderr[-3000:]
    left = {path.name for path in files_of_terraform() - before}
    assert left <= {".terraform.lock.hcl"}, "make leaves files in the tree"


def _refuses_to_drop_the_kek_in_use(cloud: Infrastructure, dekctl: Dekctl) -> None:
    before = rows_of(dekctl)
    refused = cloud.make("apply", g1=DISABLED, g3=ACTIVE)  # g2 is in use
    assert refused.returncode != 0
    told = re.findall(r": (g\d) \((\S+)\) is deleted .* - ([\d,]+) rows", refused.stderr)
    assert [finding[:2] for finding in told] == [("g2", cloud.arn("g2"))], refused.stderr
    # The writer adds rows all the time.
    assert ROWS <= before <= int(told[0][2].replace(",", "")) <= rows_of(dekctl)
    assert 'aws_kms_key.generation["g2"]' in refused.stderr
    assert "refused" in refused.stderr
