"""Dates and times that PostgreSQL has and Python has not: ``infinity``, years BC or after 9999."""

from __future__ import annotations

from typing import Any

from dekctl.kms.context import Unbindable


def read_every_date(connection: Any) -> None:
    """Have a psycopg connection read such a value as :class:`Unbindable` instead of failing."""
    from psycopg import DataError, pq  # noqa: PLC0415 - psycopg is optional

    def tolerant(kind: Any) -> Any:
        class Tolerant:  # not a subclass: the driver's C code would not ask it
            format = pq.Format.TEXT

            def __init__(self, oid: int, context: Any = None) -> None:
                self._load = kind(oid, context).load

            def load(self, data: Any) -> Any:
                try:
                    return self._load(data)
                except DataError:
                    return Unbindable(bytes(data).decode())

        return Tolerant

    for name in ("date", "time", "timetz", "timestamp", "timestamptz"):
        oid = connection.adapters.types[name].oid
        usual = connection.adapters.get_loader(oid, pq.Format.TEXT)
        connection.adapters.register_loader(oid, tolerant(usual))
