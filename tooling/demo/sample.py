"""``make up``: a database of 1,000 legacy files to try the commands on, unless it is there."""

from __future__ import annotations

import sys
from pathlib import Path

import sqlalchemy as sa

from demo.application import create_legacy_files
from demo.story import say

FILES = 1000


def main(path: Path) -> None:
    """Create the database at ``path``."""
    if path.exists():
        return
    engine = sa.create_engine(f"sqlite:///{path}")
    create_legacy_files(engine, FILES)
    engine.dispose()
    say(f"{path} contains {FILES:,} files with raw DEKs; next: make apply, then make migrate")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
