"""Builds dekctl's wheel, and installs it as a user has it: in a virtual environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import sqlalchemy

PROJECT = Path(__file__).parents[2]


def build(folder: Path) -> tuple[Path, Path]:
    """Build into a folder as ``make dist`` does. Returns the wheel and the sdist."""
    run = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    environ = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    subprocess.run(run, cwd=PROJECT, env=environ, check=True, capture_output=True)
    [wheel], [sdist] = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def install(wheel: Path, folder: Path) -> Path:
    """Install a wheel into a new environment, offline. Returns the environment's ``bin``.

    What the wheel depends on comes from the environment of the tests, but dekctl does not: a
    ``.pth`` file adds only the folder of packages, and no ``.pth`` files in there.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    options = ["--no-deps", "--no-index", "--no-compile", "--quiet", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", *options, str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(f"{Path(sqlalchemy.__file__).parents[1]}\n")
    return folder / "bin"
