"""``dekctl doctor``."""

from __future__ import annotations

import click

from dekctl.cli.execute import end
from dekctl.cli.registry import Documented, Section
from dekctl.cli.state import State
from dekctl.doctor import examine
from dekctl.errors import ExitCode

PLACE = Section.CHECK, 1


@click.command(cls=Documented)
@click.pass_obj
def doctor(state: State) -> None:
    """Check configuration, Terraform outputs, database, KEKs and each role's permissions."""
    with state.project() as project:
        checks = list(examine(project))
    failed = [check for check in checks if not check.ok]
    lines = []
    for check in checks:
        how = "FAIL" if not check.ok else "warn" if check.warning else "ok  "
        lines.append(f"{how}  {check.name}: {check.detail}")
        if check.hint:
            lines.append(f"      hint: {check.hint}")
    value = {"ok": not failed, "checks": [check.as_json() for check in checks]}
    end(state, value, "\n".join(lines), failed[0].code if failed else ExitCode.OK)
