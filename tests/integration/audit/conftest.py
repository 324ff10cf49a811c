"""A trail and a ledger that agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.audit_world import AuditWorld


@pytest.fixture
def world(tmp_path: Path) -> AuditWorld:
    return AuditWorld(tmp_path / "world")
