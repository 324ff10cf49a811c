"""Renders the plan of every environment for static checks: ``python -m tfkit.plans FOLDER``.

A first plan shows no key policy, because the roles it names do not exist yet. So the emulators'
environments are applied to moto's server first, and of the others the roles and the KEK (their
buckets alone would take a minute); the plans that are kept then hold the policies in full.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from sandbox.moto import MotoServer
from tfkit.terraform import ENVIRONMENTS, MOTO_ACCOUNT, TerraformError, Workspace

FIRST = {
    "local": (),
    "localstack": (),
    "staging": ("module.dekctl.module.kek",),
    "production": ("module.dekctl.module.kek",),
}


def render(folder: Path) -> list[Path]:
    """Write ``<environment>.json`` for every environment into ``folder``; returns the files.

    Raises:
        TerraformError: terraform failed or cannot be had.
        SandboxError: moto's server cannot be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with MotoServer.start() as moto, tempfile.TemporaryDirectory(prefix="tfkit-") as scratch:
        for environment in ENVIRONMENTS:
            workspace = Workspace(
                Path(scratch) / environment, f"environments/{environment}", moto.endpoint_url
            )
            workspace.init()
            workspace.write_variables({"account_id": MOTO_ACCOUNT})
            workspace.apply(targets=FIRST[environment])
            path = folder / f"{environment}.json"
            path.write_text(json.dumps(workspace.plan()))
            written.append(path)
            moto.reset()
    return written


if __name__ == "__main__":
    try:
        for rendered in render(Path(sys.argv[1])):
            print(rendered)  # noqa: T201
    except TerraformError as error:
        sys.exit(f"error: {error}")
