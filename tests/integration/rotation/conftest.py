"""Rows wrapped by the first generation of a KEK on the strict KMS."""

from __future__ import annotations

from typing import Any

import pytest

from support.app import AppDatabase, Application
from support.cli import Dekctl
from support.generations import Generations
from support.rotation import ROWS


@pytest.fixture
def app(
    sqlite_database: AppDatabase, make_app: Any, generations: Generations, dekctl: Dekctl
) -> Application:
    """Rows wrapped by g1, without plaintext."""
    made: Application = make_app(
        sqlite_database, rows=ROWS, env=generations.env, wrapped_at_column="wrapped_at"
    )
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    return made
