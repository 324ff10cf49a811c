"""Renders the plan of every root for static checks: ``python -m tfkit.plans FOLDER``.

A first plan shows no key policy, because the roles it names do not exist yet. So the environment
local is applied to moto's server first, and of production the roles and the KEK (its buckets alone
would take a minute); the plans that are kept then hold the policies in full. The bootstrap and the
examples are planned only.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from sandbox.moto import MotoServer
from tfkit.terraform import MOTO_ACCOUNT, TerraformError, Workspace

FIRST: dict[str, tuple[str, ...]] = {
    "local": (),
    "production": ("module.dekctl.module.kek",),
}
"""What is applied before the plan. Staging has production's files (`environments/shared`), and
localstack is local without a trail."""
_ARN = f"arn:aws:{{}}:us-east-1:{MOTO_ACCOUNT}:{{}}"
_ROLE = f"arn:aws:iam::{MOTO_ACCOUNT}:role"
_ROLES = ("app", "wrapper", "rewrapper", "verifier", "auditor", "key_admin")
OTHERS: dict[str, dict[str, Any]] = {
    "bootstrap": {
        "region": "us-east-1",
        "account_id": MOTO_ACCOUNT,
        "access_log_bucket": "access-log",
    },
    "examples/batch-array": {
        "image": "registry.example.com/dekctl:0.1.0",
        "dekctl_env": "staging",
        "database_url_secret_arn": _ARN.format("secretsmanager", "secret:url"),
        "job_role_arn": f"{_ROLE}/migrations",
        "execution_role_arn": f"{_ROLE}/execution",
        "subnet_ids": ["subnet-0123456789abcdef0"],
        "security_group_ids": ["sg-0123456789abcdef0"],
        "log_key_arn": _ARN.format("kms", "key/00000000-0000-0000-0000-000000000000"),
    },
    "examples/own-table": {
        "environment": "staging",
        "region": "us-east-1",
        "account_id": MOTO_ACCOUNT,
        "name_prefix": "files",
        "context_name": "files",
        "generations": {"g1": {"state": "active"}},
        "administrator_arns": [f"{_ROLE}/terraform"],
        "trust": {role: {"principals": [f"{_ROLE}/operations"]} for role in _ROLES},
    },
    "modules/dekctl/examples/two-tenants": {},
}
"""The other roots, with values for their variables."""


def render(folder: Path) -> list[Path]:
    """Write a plan's JSON for every root into ``folder``; returns the files.

    Raises:
        TerraformError: terraform failed or cannot be had.
        SandboxError: moto's server cannot be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with MotoServer.start() as moto, tempfile.TemporaryDirectory(prefix="tfkit-") as scratch:
        for environment, targets in FIRST.items():
            workspace = Workspace(
                Path(scratch) / environment, f"environments/{environment}", moto.endpoint_url
            )
            workspace.init()
            workspace.write_variables({"account_id": MOTO_ACCOUNT})
            workspace.apply(targets=targets)
            path = folder / f"{environment}.json"
            path.write_text(json.dumps(workspace.plan()))
            written.append(path)
            moto.reset()
        for number, (root, values) in enumerate(OTHERS.items()):
            workspace = Workspace(Path(scratch) / f"other-{number}", root, moto.endpoint_url)
            workspace.init()
            workspace.write_variables(values)
            path = folder / f"{root.rpartition('/')[2]}.json"
            path.write_text(json.dumps(workspace.plan()))
            written.append(path)
    return written


if __name__ == "__main__":
    try:
        for rendered in render(Path(sys.argv[1])):
            print(rendered)  # noqa: T201
    except TerraformError as error:
        sys.exit(f"error: {error}")
