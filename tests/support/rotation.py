"""What tests of a KEK's life share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from dekctl.kms import AWSKMS
from support.app import Application
from support.cli import Dekctl
from support.generations import Generations, session_of

ROWS = 12


def provider(generations: Generations) -> AWSKMS:
    """KMS as the application's role would use it, but as the administrator."""
    standin = generations.standin
    return AWSKMS(
        generations.active,
        region=standin.region,
        endpoint_url=standin.endpoint_url,
        session=session_of(standin),
        known_keks=list(generations.arns.values()),
    )


def declare_window(dekctl: Dekctl) -> None:
    """Keep backups for 35 days."""
    toml = (dekctl.folder / "dekctl.toml").read_text()
    dekctl.configure(toml + "backup_retention_days = 35\n")


def make_older(app: Application, operation: str) -> None:
    """Let every run of a verb so far have ended 36 days ago."""
    app.database.sql(
        "UPDATE dekctl_runs SET ended_at = :ended WHERE operation = :operation",
        ended=f"{datetime.now(UTC) - timedelta(days=36):%Y-%m-%d %H:%M:%S.000}",
        operation=operation,
    )
