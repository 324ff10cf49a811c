"""The state of KEKs in KMS: of all that rows and branch keys name, not only Terraform's."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dekctl.config.roles import Role
from dekctl.errors import KMSError
from dekctl.kek_id import foreign_region, is_alias, is_key_arn
from dekctl.kms.aws.spec import AWS
from dekctl.kms.deadline import deadline
from dekctl.kms.providers import provider_of
from dekctl.lifecycle.counting import Census
from dekctl.lifecycle.usage import count_uses
from dekctl.project import Project

ENABLED, PENDING_DELETION = "Enabled", "PendingDeletion"
NOT_FOUND = "NotFound"
"""KMS knows no such key: it was deleted, or the row names a key of another account."""


@dataclass(frozen=True, slots=True)
class KeyState:
    """A KEK's state as KMS names it, or ``NotFound``; None with ``problem`` if KMS did not tell."""

    kek_id: str
    state: str | None
    deletion_date: datetime | None = None
    problem: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The fields that `status` adds to a KEK."""
        gone = f"{self.deletion_date:%Y-%m-%dT%H:%M:%SZ}" if self.deletion_date else None
        return {
            "state": self.state,
            "deletion_date": gone,
            "state_problem": self.problem,
            "hint": self.rescue,
        }

    @property
    def rescue(self) -> str | None:
        """The command that keeps a key which is pending deletion."""
        if self.state != PENDING_DELETION:
            return None
        region = f" --region {self.kek_id.split(':')[3]}" if is_key_arn(self.kek_id) else ""
        return f"aws kms cancel-key-deletion --key-id {self.kek_id}{region}"


def key_state(project: Project, kek: str) -> KeyState:
    """Ask KMS for a KEK's state.

    Raises:
        KMSError: KMS refused or cannot be reached.
    """
    kms = project.aws(Role.AUDITOR, region=foreign_region(kek, project.region))
    try:
        metadata = kms.describe(kek)
    except KMSError as error:
        if error.code != "NotFoundException":
            raise
        return KeyState(kek, NOT_FOUND)
    finally:
        kms.close()
    gone = metadata.get("DeletionDate")
    return KeyState(
        str(metadata["Arn"]),
        str(metadata["KeyState"]),
        gone.astimezone(UTC) if isinstance(gone, datetime) else None,
    )


def key_states(project: Project, keks: Iterable[str], seconds: float) -> dict[str, KeyState]:
    """The states of some KEKs by name, as far as KMS tells them within ``seconds``; never raises.

    KEKs of other providers and aliases are left out: an alias may have moved since.
    """
    states: dict[str, KeyState] = {}
    problem: str | None = None
    with deadline(time.monotonic() + seconds):
        for kek in keks:
            if not _is_aws_key(kek):
                continue
            if problem is None:
                try:
                    states[kek] = key_state(project, kek)
                    continue
                except KMSError as error:
                    # A refusal may be about this key alone, in another account, say.
                    states[kek] = KeyState(kek, None, problem=error.message)
                    problem = None if error.code else error.message
            else:
                states[kek] = KeyState(kek, None, problem=problem)
    return states


def stored_keks(census: Census) -> list[str]:
    """The AWS keys that rows or branch keys of any configured table name.

    Raises:
        RefusedError: a managed table is gone or is not configured.
        DatabaseError: the database refused or cannot be reached.
    """
    named = {use.kek_id for use in count_uses(census) if use.kek_id is not None}
    return sorted(kek for kek in named if _is_aws_key(kek))


def _is_aws_key(kek: str) -> bool:
    return provider_of(kek) is AWS and not is_alias(kek)
