"""The commands by name, without importing any of them."""

from __future__ import annotations

MODULES = {
    "audit": "audit",
    "doctor": "doctor",
    "guard": "guard",
    "migrate": "rows",
    "report": "report",
    "residue": "residue",
    "restore": "rows",
    "retire": "retire",
    "rewrap": "rows",
    "rollback": "rollback",
    "schema": "schema",
    "scrub": "rows",
    "status": "status",
    "verify": "rows",
    "wrap": "rows",
}
"""Each command and the module of :mod:`dekctl.cli` that has it under its own name."""
