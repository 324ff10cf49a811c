"""What ``dekctl.toml`` says, as typed values: the tables, and one environment."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from dekctl.errors import UsageError

Encoding = Literal["raw", "base64", "hex", "hex-upper"]
Wrapping = Literal["V2", "V3"]

ROWS_PER_BRANCH_KEY = 10_000
MOST_ROWS_PER_BRANCH_KEY = 10_000_000
"""What one leaked branch key would open has a limit, whatever the configuration says."""


OTHERS = "*"
"""In ``kek_by``: every value that is not listed."""


@dataclass(frozen=True, slots=True)
class KekBy:
    """One KEK per value of a column: ``keks`` are (value, KEK) pairs, ``*`` for all others."""

    column: str
    keks: tuple[tuple[str, str], ...]

    def kek_of(self, value: object) -> str | None:
        """The KEK for a value of the column, as configured; None where it has none."""
        named = dict(self.keks)
        return named.get(str(value), named.get(OTHERS)) if value is not None else named.get(OTHERS)


@dataclass(frozen=True, slots=True)
class TableConfig:
    """A table that holds data keys; the defaults are the seed's names.

    ``name`` may carry a schema (``app.encrypted_files``). ``dek_bytes`` are the sizes a key may
    have, in bytes; any other is quarantined. ``wrapped_at_column``, when named, keeps the time at
    which each key was wrapped. ``kek`` wraps this table instead of the environment's KEK; with
    ``kek_by`` there is one KEK per value of a column.

    ``wrapping`` is how ``wrap`` and ``rewrap`` wrap keys: ``V2``, each by KMS, or ``V3``, under a
    branch key that KMS wraps once for ``rows_per_branch_key`` rows. An application's new keys are
    always ``V2``.
    """

    name: str = "encrypted_files"
    primary_key: tuple[str, ...] = ("id",)
    plaintext_column: str = "encryption_key"
    plaintext_encoding: Encoding = "raw"
    wrapped_column: str = "wrapped_key"
    version_column: str = "wrapped_key_version"
    kek_column: str = "kek_id"
    context_name: str = "encrypted_files"
    dek_bytes: tuple[int, ...] = (16, 24, 32)
    wrapped_at_column: str | None = None
    wrapping: Wrapping = "V2"
    rows_per_branch_key: int = ROWS_PER_BRANCH_KEY
    kek: str | None = None
    kek_by: KekBy | None = None

    @property
    def keks(self) -> tuple[str, ...]:
        """The KEKs that the table names, as configured; none where the environment's serves."""
        if self.kek_by is not None:
            return tuple(dict.fromkeys(kek for _, kek in self.kek_by.keks))
        return (self.kek,) if self.kek else ()

    @property
    def version_table(self) -> str:
        """Name of Alembic's version table for this table."""
        slug = re.sub(r"[^a-z0-9]+", "_", self.context_name.lower()).strip("_")
        return f"dekctl_version_{slug}"[:60]

    @property
    def schema(self) -> str | None:
        """The schema part of ``name``, or None."""
        return self.name.rpartition(".")[0] or None

    @property
    def bare_name(self) -> str:
        """``name`` without its schema."""
        return self.name.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class EnvConfig:
    """One ``[env.NAME]``: a database, a provider, a KEK. Its ``repr`` hides the database URL."""

    name: str
    database_url: str = field(default="", repr=False)
    provider: str = "aws"
    region: str | None = None
    endpoint_url: str | None = None
    kek: str | None = None
    terraform: Path | None = None
    terraform_outputs: Path | None = None
    external_id: str | None = None
    backup_retention_days: int = 0
    min_generation: str | None = None
    lock_timeout_seconds: float = 3.0
    statement_timeout_seconds: float = 60.0
    hold_back_query: str | None = None
    hold_back_above: float = 0.0

    def url(self) -> URL:
        """The database URL.

        Raises:
            UsageError: it is missing or cannot be parsed. The message never shows it.
        """
        if not self.database_url:
            raise UsageError(
                f"[env.{self.name}] has no database_url",
                hint='add database_url = "env:DATABASE_URL" to it and set that variable',
            )
        try:
            return make_url(self.database_url)
        except ArgumentError:
            raise UsageError(
                f"database_url of [env.{self.name}] is not an SQLAlchemy URL",
                hint="write it as dialect+driver://user:password@host:port/database, "
                "for example postgresql+psycopg://app@db/app or sqlite:///app.db",
            ) from None


@dataclass(frozen=True, slots=True)
class Config:
    """The parsed file: the tables, and the environment that was picked."""

    path: Path
    tables: tuple[TableConfig, ...]
    env: EnvConfig

    @property
    def table(self) -> TableConfig:
        """The first table: where the ledger lives, and the only one in most projects."""
        return self.tables[0]
