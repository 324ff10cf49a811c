"""What tests of hierarchical wrapping (V3) share."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from dekctl.branch_keys.table import branch_keys_table
from support.app import AppDatabase, Application
from support.cli import Dekctl
from support.kms_standin import KmsStandin

ROWS = 25
ROWS_PER_KEY = 10
BRANCHES = 3


def branches(app: Application) -> list[dict[str, Any]]:
    """The stored branch keys."""
    table = branch_keys_table(app.config.schema)
    with app.database.engine.connect() as connection:
        return [dict(row) for row in connection.execute(sa.select(table)).mappings()]


def make(make_app: Any, database: AppDatabase, **env: Any) -> Application:
    """An application whose rows are to be wrapped by :data:`BRANCHES` branch keys."""
    app: Application = make_app(
        database, rows=ROWS, wrapping="V3", rows_per_branch_key=ROWS_PER_KEY, env=env
    )
    return app


def on_standin(
    make_app: Any, database: AppDatabase, dekctl: Dekctl, standin: KmsStandin
) -> Application:
    """The same under a KEK on the strict KMS."""
    dekctl.environ |= standin.environment()
    kek = standin.create_key()
    return make(make_app, database, provider="aws", kek=kek, region=standin.region)
