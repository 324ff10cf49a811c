"""One file per database: what its schema steps need beyond Alembic."""

from __future__ import annotations

from importlib import import_module

from dekctl.db.database import Database
from dekctl.schema.dialects.base import SchemaDialect


def schema_dialect(database: Database) -> SchemaDialect:
    """The schema dialect of a database: ``DIALECT`` in the file here of its dialect's name."""
    module = import_module(f"{__name__}.{database.dialect.name}")
    found: SchemaDialect = module.DIALECT
    return found
