"""Copies of the project's code, in which a test follows a recipe of ARCHITECTURE.md."""

from __future__ import annotations

import shutil
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def copy_code(folder: Path) -> Path:
    """Copy ``migrations`` and the package into a folder. Returns what belongs on PYTHONPATH.

    The compiled files come along and stay valid: to compile all again takes seconds.
    """
    unfinished = shutil.ignore_patterns("*.pyc.*")  # another process is about to rename it
    for name in ("migrations", "tooling/dekctl"):
        shutil.copytree(PROJECT / name, folder / name, ignore=unfinished)
    return folder / "tooling"
