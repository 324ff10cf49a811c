"""Odd tables: docs/odd-tables.md shows each, with what doctor says about it."""

from __future__ import annotations

from support.odd_tables import on_mariadb, on_postgresql, on_sqlite

ODD = {**on_postgresql.ODD, **on_mariadb.ODD, **on_sqlite.ODD}
