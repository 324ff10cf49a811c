"""``terraform validate`` for every root: ``python -m tfkit.validate``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tfkit.terraform import ROOTS, TerraformError, Workspace


def validate(scratch: Path) -> None:
    """Validate every root on a copy of its own in ``scratch``.

    Raises:
        TerraformError: one is not valid, or terraform cannot be had.
    """
    for root in ROOTS:
        workspace = Workspace(scratch / root, root)
        workspace.init()
        workspace.run("validate", "-no-color")


if __name__ == "__main__":
    try:
        with tempfile.TemporaryDirectory(prefix="tfkit-") as folder:
            validate(Path(folder))
    except TerraformError as error:
        sys.exit(f"error: {error}")
