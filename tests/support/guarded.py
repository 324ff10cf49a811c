"""What tests of `dekctl guard` share."""

from __future__ import annotations

from typing import Any

from support.app import Application
from support.cli import Dekctl
from support.plans import write

ROWS = 5


def wrapped_by(app: Application, kek_id: str | None, version: str = "V2") -> None:
    """Let every row name a KEK; what the blob holds does not matter here."""
    app.database.sql(
        "UPDATE encrypted_files SET wrapped_key = :blob, wrapped_key_version = :version, "
        "kek_id = :kek",
        blob=b"blob",
        version=version,
        kek=kek_id,
    )


def guard(dekctl: Dekctl, document: dict[str, Any], *options: str, expect: int) -> dict[str, Any]:
    """Run the guard on a plan; its JSON."""
    file = write(dekctl.folder, document)
    return dekctl.json("guard", "--plan", file, *options, expect=expect)
