"""Renders plans of the roots for static checks: ``python -m tfkit.plans FOLDER``.

A first plan shows no key policy, because the roles it names do not exist yet. So of production the
roles and the KEK are applied to moto's server first (its buckets would take a minute); the plan
that is kept then holds the policies in full. Staging has production's files, and the emulators'
environments its modules. The bootstrap and the examples are planned only.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from sandbox.moto import MotoServer
from tfkit.terraform import MOTO_ACCOUNT, TerraformError, Workspace

FIRST = ("module.dekctl.module.kek",)
"""What of production is applied before its plan."""
_ARN = f"arn:aws:{{}}:us-east-1:{MOTO_ACCOUNT}:{{}}"
_ROLE = f"arn:aws:iam::{MOTO_ACCOUNT}:role"
_ROLES = ("app", "wrapper", "rewrapper", "verifier", "auditor", "key_admin")
PRODUCTION = "environments/production"
ROOTS: dict[str, dict[str, Any]] = {
    PRODUCTION: {"account_id": MOTO_ACCOUNT},
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
"""The roots that are planned, with values for their variables."""


def render(folder: Path) -> list[Path]:
    """Write a plan's JSON for each of the roots into ``folder``; returns the files.

    Raises:
        TerraformError: terraform failed or cannot be had.
        SandboxError: moto's server cannot be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with MotoServer.start() as moto, tempfile.TemporaryDirectory(prefix="tfkit-") as scratch:
        for number, (root, values) in enumerate(ROOTS.items()):
            workspace = Workspace(Path(scratch) / str(number), root, moto.endpoint_url)
            workspace.init()
            workspace.write_variables(values)
            if root == PRODUCTION:
                workspace.apply(targets=FIRST)
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
