"""What a person is told before a command destroys something: where, how much, what to undo how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from dekctl.cli.state import State
from dekctl.kms.aws.session import is_plain_http
from dekctl.project import Project
from dekctl.workflows.callbacks import Confirm


@dataclass(frozen=True, slots=True)
class Stakes:
    """What a command does, what of it can be undone and how, and what cannot."""

    does: str
    undo: str
    final: str


SCRUB = Stakes(
    "removes each plaintext key whose wrapped copy has been verified",
    "dekctl restore, as long as the KEKs exist",
    "once a KEK is deleted, nothing decrypts the keys that it wraps",
)
RESTORE = Stakes(
    "writes every key in plaintext into the table",
    "dekctl scrub",
    "logs, replicas and backups of the database hold these plaintext keys from then on",
)
ROLLBACK = Stakes(
    "writes every key in plaintext into the table and drops the wrapped keys",
    "dekctl migrate, which wraps every key again",
    "logs, replicas and backups of the database hold these plaintext keys from then on",
)
CONTRACT = Stakes(
    "drops the plaintext column, which is empty",
    "dekctl schema rollback, then dekctl restore",
    "an application version that reads or writes the column fails at once",
)
SCHEMA_ROLLBACK = Stakes(
    "undoes the last schema step: an expanded table loses its wrapped keys, a contracted one gets "
    "an empty plaintext column",
    "dekctl migrate, which wraps every key again",
    "wrapped keys that were dropped; an application that reads only wrapped keys fails at once",
)
UNINSTALL = Stakes(
    "drops dekctl's own tables: the ledger, the version tables and the branch keys",
    "dekctl schema upgrade, which makes them again, empty",
    "the history of runs is lost, and a backup of a V3 row alone cannot be decrypted any more",
)


def consent(
    state: State, project: Project, stakes: Stakes, table: str | None, *, yes: bool
) -> Confirm | None:
    """How to ask before the first change; None with ``--yes``."""
    if yes:
        return None
    word = None if is_emulator(project) else project.env.name
    return state.terminal.asks(_facts(project, stakes, table), word=word)


def is_emulator(project: Project) -> bool:
    """Whether the environment is for trying things out: an endpoint on this machine, or no KMS."""
    if not project.provider.lasts:
        return True
    endpoint = project.env.endpoint_url
    if endpoint is None:
        return False
    return (urlsplit(endpoint).hostname or "") in ("127.0.0.1", "::1", "localhost") or (
        is_plain_http(endpoint)
    )


def _facts(project: Project, stakes: Stakes, table: str | None) -> Callable[[], str]:
    def told() -> str:
        lines = [f"environment {project.env.name}: this {stakes.does}"]
        for config in project.table_configs(table):
            shape = project.table(config)
            rows, counted = shape.rows_at_a_glance()
            about = "" if counted else "about "
            lines.append(f"  table     {config.name} ({shape.stage.value}), {about}{rows:,} rows")
        lines += [
            f"  database  {project.database.shown_url}",
            f"  undo      {stakes.undo}",
            f"  final     {stakes.final}",
        ]
        return "\n".join(lines)

    return told
