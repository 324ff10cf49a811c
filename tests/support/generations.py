"""A KEK's generations on the strict KMS, with roles that may do no more than Terraform's."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

from support.cli import Dekctl
from support.kms_standin import Grant, KmsStandin

ALIAS = "alias/files"
RIGHTS = {
    "app": ("kms:Decrypt", "kms:GenerateDataKey", "kms:DescribeKey"),
    "wrapper": ("kms:Encrypt", "kms:DescribeKey"),
    "rewrapper": ("kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:DescribeKey"),
    "verifier": ("kms:Decrypt", "kms:DescribeKey"),
    "auditor": ("kms:DescribeKey", "kms:GetKeyRotationStatus", "kms:ListKeyRotations"),
    "key_admin": (),
}


def session_of(standin: KmsStandin) -> boto3.Session:
    """The administrator of the strict KMS."""
    return boto3.Session(
        aws_access_key_id=standin.admin.access_key,
        aws_secret_access_key=standin.admin.secret_key,
        region_name=standin.region,
    )


@dataclass
class Generations:
    """Makes generations g1, g2, … and writes the Terraform outputs that name them."""

    standin: KmsStandin
    file: Path
    arns: dict[str, str] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    allows_v1: bool = False
    source_identity: bool = False

    @classmethod
    def begin(cls, standin: KmsStandin, dekctl: Dekctl) -> Generations:
        """Make g1 and let dekctl talk to the stand-in."""
        dekctl.environ |= standin.environment()
        made = cls(standin, dekctl.folder / "outputs.json")
        for role, actions in RIGHTS.items():
            standin.put_role(f"files-{role}", [Grant(actions)])
        made.roll()
        return made

    @property
    def env(self) -> dict[str, Any]:
        """Keys of ``[env.test]``."""
        return {
            "provider": "aws",
            "region": self.standin.region,
            "endpoint_url": self.standin.endpoint_url,
            "terraform_outputs": self.file.name,
            "administrators": [f"arn:aws:iam::{self.standin.account}:user/standin-admin"],
        }

    def roll(self) -> str:
        """Make the next generation and give it the alias. Returns its ARN."""
        kms = self.standin.kms()
        name = f"g{len(self.arns) + 1}"
        arn = kms.create_key()["KeyMetadata"]["Arn"]
        aliases = [alias["AliasName"] for alias in kms.list_aliases()["Aliases"]]
        if ALIAS in aliases:
            kms.update_alias(AliasName=ALIAS, TargetKeyId=arn)
        else:
            kms.create_alias(AliasName=ALIAS, TargetKeyId=arn)
        self.states = {**dict.fromkeys(self.states, "retired"), name: "active"}
        self.arns[name] = arn
        self.write()
        return str(arn)

    @property
    def active(self) -> str:
        """ARN of the active generation."""
        return next(self.arns[name] for name, state in self.states.items() if state == "active")

    def write(self) -> None:
        """Write the outputs."""
        value = {
            "schema_version": 1,
            "region": self.standin.region,
            "account_id": self.standin.account,
            "context_name": "encrypted_files",
            "allow_rows_without_context": self.allows_v1,
            "source_identity": self.source_identity,
            "kek": {
                "arn": self.active,
                "alias": ALIAS,
                "generations": {
                    name: {"arn": arn, "state": self.states[name]}
                    for name, arn in self.arns.items()
                },
            },
            "roles": {
                role: f"arn:aws:iam::{self.standin.account}:role/files-{role}" for role in RIGHTS
            },
            "audit": {"trail_arn": None, "bucket": None, "log_group": None},
        }
        self.file.write_text(json.dumps({"dekctl": {"value": value}}))
