"""Databases of the past: SQL dumps of what a dekctl of that time made, one for each database.

``ledgers/ae44972``: the last commit before the ledger had a lineage of its own. Its tables are at
every stage, and one of them has branch keys.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import sqlalchemy as sa

from support.app import AppDatabase
from support.cli import Dekctl

LEDGERS = Path(__file__).parent / "ledgers"
TABLES = {
    "legacy": "legacy",
    "expanded": "expanded",
    "contracted": "contracted",
    "branched": "expanded",
}
"""The tables of ``ae44972`` with their stages. Each has three rows; ``expanded`` one scrubbed."""
KEK = b"the KEK of a ledger in the tests"


def load(database: AppDatabase, dekctl: Dekctl, commit: str = "ae44972") -> None:
    """Fill an empty database from a dump, and configure dekctl for its tables."""
    database.script((LEDGERS / commit / f"{database.kind}.sql").read_text(encoding="utf-8"))
    dekctl.environ["DEKCTL_KEK"] = base64.b64encode(KEK).decode()
    dekctl.hidden += [KEK, *(dek(table, row) for table in TABLES for row in (1, 2, 3))]
    lines = []
    for table in TABLES:
        lines += ["[[table]]", f'name = "{table}"', f'context_name = "{table}"']
        lines += ['wrapping = "V3"'] if table == "branched" else []
    lines += ["[env.test]", f'database_url = "{database.url}"', 'provider = "env"', ""]
    dekctl.configure("\n".join(lines))


def dek(table: str, row: int) -> bytes:
    """The key of a row of ``ae44972``."""
    return hashlib.sha256(f"{table}/{row}".encode()).digest()


def revisions(database: AppDatabase) -> dict[str, str | None]:
    """What each version table of dekctl's holds, by its name; None where it is empty."""
    found: dict[str, str | None] = {}
    for name in sa.inspect(database.engine).get_table_names():
        if name.startswith("dekctl_version_") or name == "dekctl_ledger_version":
            rows = database.sql(f"SELECT version_num FROM {name}")
            found[name] = rows[0][0] if rows else None
    return found
