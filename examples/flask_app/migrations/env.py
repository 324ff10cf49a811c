"""The application's own Alembic history; dekctl's tables and columns are left to dekctl."""

from __future__ import annotations

import importlib
import os

import sqlalchemy as sa
from alembic import context

from dekctl.alembic import include_name, include_object

model = importlib.import_module(os.environ.get("APP_VERSION", "write"))
engine = sa.create_engine(os.environ["DATABASE_URL"], hide_parameters=True)
with engine.connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=model.Base.metadata,
        include_name=include_name,
        include_object=include_object,
    )
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
