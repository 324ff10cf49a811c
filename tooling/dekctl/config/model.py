"""What ``dekctl.toml`` may say: the tables and one environment, each setting once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from dekctl.config.settings import resolve_env, setting
from dekctl.errors import UsageError

Encoding = Literal["raw", "base64", "base64url", "base64url-unpadded", "hex", "hex-upper", "text"]
Wrapping = Literal["V2", "V3"]
PlaintextUse = Literal["write", "read", "refuse"]
"""What the application still does with the plaintext column."""

ROWS_PER_BRANCH_KEY = 10_000

OTHERS = "*"
TRIGGER_PREFIX = "zz_dekctl_"
"""PostgreSQL runs triggers in the order of their names; ours must see what the others made."""
"""In ``kek_by``: all values that are not listed."""


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
    """A table that holds data keys; the defaults are the names that an earlier script used."""

    name: str = setting(
        "encrypted_files",
        "the table, with its schema if it has one (`app.files`)",
        is_name=True,
    )
    primary_key: tuple[str, ...] = setting(
        ("id",),
        "its primary key: one or more columns of integers, text, UUIDs, dates or binary",
        is_name=True,
    )
    plaintext_column: str = setting("encryption_key", "column that holds the raw DEK", is_name=True)
    plaintext_encoding: Encoding = setting(
        "raw",
        "how it is stored: `raw` bytes; `base64`, `base64url` (Fernet) or `base64url-unpadded` "
        "(`token_urlsafe`); `hex`, or `hex-upper` in capitals; `text` where the text itself is the "
        "key",
    )
    wrapped_column: str = setting(
        "wrapped_key", "column for the wrapped key; `schema expand` adds it", is_name=True
    )
    version_column: str = setting(
        "wrapped_key_version",
        "column for its format, V1 to V3; `schema expand` adds it",
        is_name=True,
    )
    kek_column: str = setting(
        "kek_id", "column for the KEK's ARN; `schema expand` adds it", is_name=True
    )
    context_name: str = setting(
        "encrypted_files",
        "part of every encryption context; must differ wherever tables share a KEK, and must not "
        "change when the table is renamed (see [rebind](rebind.md))",
    )
    dek_bytes: tuple[int, ...] = setting(
        (16, 24, 32),
        "sizes in bytes that a DEK may have; any other is quarantined",
        minimum=1,
        maximum=4096,
    )
    wrapped_at_column: str | None = setting(
        None, "column for the time of each wrap, if you want one", is_name=True
    )
    wrapping: Wrapping = setting(
        "V2",
        "`V2`: KMS wraps each key; `V3`: `wrap` and `rewrap` use branch keys, with far fewer KMS "
        "calls (see [performance](performance.md)). `RowKeys.issue` always writes `V2`",
    )
    rows_per_branch_key: int = setting(
        ROWS_PER_BRANCH_KEY,
        "rows that share one branch key (V3), and that one leaked branch key would expose",
        minimum=1,
        maximum=10_000_000,
    )
    kek: str | None = setting(None, "KEK for this table instead of the environment's", is_kek=True)
    kek_by: KekBy | None = setting(
        None,
        "one KEK per value of a column, for example "
        '`{ column = "tenant", keks = { acme = "alias/acme" } }` (see [rotation](rotation.md))',
    )
    plaintext: PlaintextUse | None = setting(
        None,
        "what the application still does with the plaintext column: `write` it beside the wrapped "
        "key (while old versions run), `read` it where there is no wrapped key, or `refuse` it "
        "(needed before `schema contract`). Readers take `write` where it is not set",
    )

    context_name_given: bool = False
    """Whether the file says it. The default is the same in every project, so it separates none."""
    plaintext_column_given: bool = False
    """Whether the file says it, so that an error can tell what was left to the default."""

    @property
    def keks(self) -> tuple[str, ...]:
        """The KEKs that the table names, as configured; none if the environment's is used."""
        if self.kek_by is not None:
            return tuple(dict.fromkeys(kek for _, kek in self.kek_by.keks))
        return (self.kek,) if self.kek else ()

    @property
    def version_table(self) -> str:
        """Name of Alembic's version table for this table."""
        return f"dekctl_version_{self._slug}"[:60]

    @property
    def trigger(self) -> str:
        """Name of the table's row trigger, and of its function on PostgreSQL."""
        return f"{TRIGGER_PREFIX}{self._slug}"[:60]

    @property
    def _slug(self) -> str:
        return re.sub(r"[^a-z0-9]+", "_", self.context_name.lower()).strip("_")

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
    database_url: str = setting(
        "", 'an SQLAlchemy URL; best as `"env:DATABASE_URL"`', secret=True, late=True
    )
    provider: str = setting(
        "aws", "`aws`; `env`: a KEK in the variable `DEKCTL_KEK`; or `memory`: for tests only"
    )
    region: str | None = setting(None, "AWS Region (default: Terraform's, then boto3's)")
    endpoint_url: str | None = setting(
        None, "endpoint for all AWS calls, for an emulator. It is never guessed"
    )
    allow_plain_http: bool = setting(
        False,
        "accept an `http://` endpoint of KMS or STS beyond this machine, whether it is set here, "
        "in `AWS_ENDPOINT_URL…` or in the AWS configuration: **data keys cross the network in "
        "clear text**",
    )
    kek: str | None = setting(
        None, "the KEK: ARN, key id or alias, where no Terraform outputs name it", is_kek=True
    )
    terraform: Path | None = setting(
        None, "a Terraform root; dekctl runs `terraform output -json` there"
    )
    terraform_outputs: Path | None = setting(
        None, "a file with the output of `terraform output -json`"
    )
    external_id: str | None = setting(
        None, "sent with every AssumeRole, for roles whose trust policy asks for one"
    )
    source_identity: bool | None = setting(
        None,
        "whether the id of a run is also sent as the source identity of its sessions (default: as "
        "Terraform's outputs say). Set `false` if your own identity may not set one, or bears one",
    )
    backup_retention_days: int = setting(
        0, "how long `retire` waits after the last row has left a KEK"
    )
    min_generation: str | None = setting(
        None,
        "the oldest KEK generation that readers accept; does not apply to tables with `kek` or "
        "`kek_by`",
    )
    lock_timeout_seconds: float = setting(
        3.0,
        "how long a statement may wait for a lock "
        "(see [reliability](reliability.md#while-it-runs))",
        above_zero=True,
    )
    statement_timeout_seconds: float = setting(
        60.0, "how long a statement may run", above_zero=True
    )
    administrators: tuple[str, ...] = setting(
        (),
        "ARNs of principals that may change KEKs, the trail and the roles beside the role "
        "`key_admin`, such as the role that runs Terraform; `audit` reports what others change",
    )
    accepted_findings: Path | None = setting(
        None, "the file of findings of `audit` that were accepted (see [audit](audit.md))"
    )
    hot_row_factor: float = setting(
        50.0,
        "`audit` reports a row that the application decrypted so many times as often as the "
        "average row; 0 turns this off",
    )
    hold_back_query: str | None = setting(
        None, "SQL, for example a replica's lag; the run pauses while it returns true"
    )
    hold_back_above: float = setting(0.0, "the run pauses while the query returns more than this")

    def url(self) -> URL:
        """The database URL.

        Raises:
            UsageError: it is missing or cannot be parsed. The message never shows it.
        """
        if not self.database_url:
            raise UsageError(
                f"[env.{self.name}] has no database_url",
                hint='add database_url = "env:DATABASE_URL" to it, and set that variable',
            )
        where = f"[env.{self.name}]"
        url = resolve_env("database_url", self.database_url, where, {})  # it was not set
        try:
            return make_url(url)
        except ArgumentError:
            raise UsageError(
                f"database_url of [env.{self.name}] is not an SQLAlchemy URL",
                hint="write it as dialect+driver://user:password@host:port/database, "
                "for example postgresql+psycopg://app@db/app or sqlite:///app.db",
            ) from None


def shown_url(url: URL) -> str:
    """A database URL without its password and its query, which may hold a password too."""
    return url.set(query={}).render_as_string(hide_password=True)


@dataclass(frozen=True, slots=True)
class Config:
    """The parsed file: the tables, and the chosen environment."""

    path: Path
    tables: tuple[TableConfig, ...]
    env: EnvConfig

    @property
    def table(self) -> TableConfig:
        """The first table, and the only one in most projects; the ledger is in its schema."""
        return self.tables[0]
