"""``schema/dialects/toy.py``: what the schema steps need."""

from __future__ import annotations

from collections.abc import Sequence

from alembic.ddl.impl import DefaultImpl

from dekctl.schema.dialects.base import SchemaDialect


class AlembicToy(DefaultImpl):
    """What Alembic needs to know of a database that it has never heard of."""

    __dialect__ = "toy"
    transactional_ddl = True


class ToySchema(SchemaDialect):
    """Every default will do."""

    def lock(self, table: str, others: Sequence[str]) -> list[str]:  # noqa: ARG002
        return []


DIALECT = ToySchema()
