"""The IAM roles that Terraform creates, one for each task."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """A role of the Terraform output ``dekctl``; its value is its name there."""

    APP = "app"
    """The application: Decrypt, and GenerateDataKey for new rows."""
    WRAPPER = "wrapper"
    """``wrap``: Encrypt, and GenerateDataKey for branch keys."""
    REWRAPPER = "rewrapper"
    """``rewrap``: ReEncrypt."""
    VERIFIER = "verifier"
    """``verify``, ``scrub``, ``restore``: Decrypt."""
    AUDITOR = "auditor"
    """``doctor``, ``retire``, ``audit``: reads key metadata and CloudTrail."""
    KEY_ADMIN = "key_admin"
    """Terraform: changes keys, uses none."""


ROW_ROLES = (Role.WRAPPER, Role.REWRAPPER, Role.VERIFIER)
"""The roles that commands assume to work on rows."""
