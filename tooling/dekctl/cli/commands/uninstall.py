"""``dekctl uninstall``."""

from __future__ import annotations

import click

from dekctl.cli.consent import UNINSTALL, consent
from dekctl.cli.registry import Documented, Section
from dekctl.cli.state import State
from dekctl.cli.walk_options import yes_option
from dekctl.workflows import uninstall as workflow

PLACE = Section.UNDO, 3


@click.command(cls=Documented)
@click.option("--dry-run", is_flag=True, help="Drop nothing; list the tables.")
@yes_option
@click.pass_obj
def uninstall(state: State, dry_run: bool, yes: bool) -> None:
    """Drop dekctl's own tables, once no row needs them any more.

    Those are the ledger with its history of runs, the version tables and the branch keys. Refused
    until every table is back at the legacy schema (dekctl rollback), and while a run is writing.
    The KEK and the roles are Terraform's; destroy them when no backup needs the KEK.
    """
    with state.project() as project:
        confirm = consent(state, project, UNINSTALL, None, yes=yes or dry_run)
        names = workflow.uninstall(project, confirm, dry_run=dry_run)
        env = project.env.name
    value = {"operation": "uninstall", "env": env, "dry_run": dry_run, "dropped": names}
    verb = "would drop" if dry_run else "dropped"
    text = f"{verb} {', '.join(names)}" if names else "nothing to do: dekctl has no tables here"
    state.terminal.result(value, text)
