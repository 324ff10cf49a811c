"""What a command works with: the configuration, the database and its tables, KMS, the ledger."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

from dekctl.branch_keys.table import BranchTable
from dekctl.config import Config, TableConfig
from dekctl.config.outputs import (
    Outputs,
    load_outputs,
    refuse_closed_tables,
    refuse_other_outputs,
)
from dekctl.config.roles import ROW_ROLES, Role
from dekctl.db.connect import database_of
from dekctl.db.database import Database
from dekctl.db.shape import Stage
from dekctl.db.table import DekTable
from dekctl.errors import KMSError, RefusedError, UsageError, of_table
from dekctl.kek_id import foreign_region, is_key_arn
from dekctl.kms.aws.region import ambient_region
from dekctl.kms.aws.spec import AWS, from_opening
from dekctl.kms.branch.keys import BranchKeys
from dekctl.kms.interface import DEFAULT_CONCURRENCY, KMSInterface
from dekctl.kms.limiter import RateLimiter
from dekctl.kms.providers import provider_named, provider_of
from dekctl.kms.router import RoutedKMS
from dekctl.kms.spec import Opening, ProviderSpec
from dekctl.ledger import Ledger
from dekctl.ledger.bindings import refuse_other_binding
from dekctl.ledger.elsewhere import refuse_ledger_elsewhere
from dekctl.ledger.managed_columns import refuse_other_columns, refuse_unknown_plaintext

if TYPE_CHECKING:  # slow to import; other providers do without
    import boto3

    from dekctl.kms.aws.provider import AWSKMS


class Project:
    """One environment of one configuration. Nothing is opened before it is needed."""

    def __init__(
        self,
        config: Config,
        *,
        assume_role: bool = True,
        cancel: threading.Event | None = None,
        give_up: threading.Event | None = None,
    ) -> None:
        """Prepare.

        Args:
            config: the parsed configuration.
            assume_role: act as the role that Terraform made for the work, where it names roles.
            cancel: when set, a run finishes the batches at work and ends.
            give_up: when set, it also stops waiting for KMS and the database.

        Raises:
            UsageError: the environment's provider does not exist.
        """
        self.config = config
        self.env = config.env
        self.provider = provider_named(self.env.provider, f"[env.{self.env.name}]")
        self.assume_role = assume_role
        self.cancel = cancel or threading.Event()
        self.give_up = give_up or threading.Event()
        self._database: Database | None = None
        self._ledger: Ledger | None = None

    def __enter__(self) -> Project:
        return self

    def __exit__(self, *_: object) -> None:
        if self._database is not None:
            self._database.__exit__()

    @cached_property
    def outputs(self) -> Outputs | None:
        """The Terraform outputs; None if the environment names none.

        Raises:
            UsageError: they cannot be read, or belong to another table or Region.
        """
        outputs = load_outputs(self.env)
        if outputs is not None:
            refuse_other_outputs(self.config, outputs)
        return outputs

    @property
    def uses_aws(self) -> bool:
        """Whether new keys are wrapped by AWS KMS: then there are roles, a quota and CloudTrail."""
        return self.provider is AWS

    @property
    def region(self) -> str | None:
        """The AWS Region: configured, Terraform's, or AWS_REGION; None leaves it to boto3."""
        named = self.env.region or (self.outputs.region if self.outputs else None)
        return named or ambient_region()

    @property
    def database(self) -> Database:
        """The database; no connection is opened yet."""
        if self._database is None:
            self._database = database_of(self.env, self.give_up)
        return self._database

    @property
    def ledger(self) -> Ledger:
        """The run ledger."""
        if self._ledger is None:
            self._ledger = Ledger(self.database, self.config.table.schema, self.env.name)
        return self._ledger

    def table_configs(self, name: str | None = None) -> list[TableConfig]:
        """The configured tables, or the one with this name or context name.

        Raises:
            UsageError: there is no such table.
        """
        found = [t for t in self.config.tables if name in (None, t.name, t.context_name)]
        if not found:
            raise UsageError(
                f"{self.config.path.name} has no table {name!r}",
                hint=f"choose one of: {', '.join(t.name for t in self.config.tables)}",
            )
        return found

    @property
    def has_several_tables(self) -> bool:
        """Whether an error has to say which table it is about."""
        return len(self.config.tables) > 1

    @property
    def branch_table(self) -> BranchTable:
        """The table of the branch keys (V3) of all tables, next to the ledger."""
        return BranchTable(self.database.run, self.config.table.schema)

    def table(self, config: TableConfig, *, known: bool = True) -> DekTable:
        """Inspect a table as it is now.

        Args:
            config: the table.
            known: refuse a table that the ledger knows as another one; not for the commands that
                bind rows anew or take a table over.

        Raises:
            UsageError: it is not as configured.
            RefusedError: it was expanded with other columns, its rows are bound to something else
                than [table] says, or whether it has plaintexts cannot be told.
            DatabaseError: the database refused or cannot be reached.
        """
        with of_table(config.name, several=self.has_several_tables):
            return self._table(config, known=known)

    def _table(self, config: TableConfig, *, known: bool) -> DekTable:
        ledger = self.ledger
        if not ledger.exists():
            refuse_ledger_elsewhere(self.database, self.config)
        metadata = ledger.table_metadata(config.context_name) if ledger.exists() else {}
        refuse_other_columns(config, metadata)
        table = DekTable(self.database, config)
        if known:
            if ledger.exists():
                refuse_other_binding(table, ledger, [t.context_name for t in self.config.tables])
            refuse_unknown_plaintext(table, metadata)
        if table.stage is Stage.CONTRACTED and metadata:
            kind = str(metadata.get("plaintext_type", "")).upper()
            named = any(word in kind for word in ("CHAR", "TEXT", "CLOB"))
            table.plaintext_is_text = bool(metadata.get("plaintext_is_text", named))
        return table

    def table_at(self, config: TableConfig, *stages: Stage) -> DekTable:
        """Inspect a table; refuse if it is at another stage than these.

        Raises:
            RefusedError: the stage is another, or the table is refused as in :meth:`table`.
        """
        table = self.table(config)
        refuse_other_stage(table, *stages)
        return table

    # -- KMS -----------------------------------------------------------------------------------

    def kms(
        self,
        *,
        to: str | None = None,
        concurrency: int = DEFAULT_CONCURRENCY,
        limiter: RateLimiter | None = None,
    ) -> RoutedKMS:
        """The key provider of this environment, opened role by role as it is used.

        Args:
            to: wrap under this KEK (ARN, alias, or generation name) instead of the active one.
            concurrency: maximum KMS calls in flight.
            limiter: shared limit on KMS calls per second.
        """

        def make(name: str, role: Role, region: str | None, run_id: str | None) -> KMSInterface:
            opening = self._opening(
                role, kek=to, region=region, concurrency=concurrency, limiter=limiter
            )
            opening = replace(opening, session=partial(self.session, run_id=run_id))
            spec = provider_named(name)
            return spec.open(replace(opening, wraps=spec is self.provider))

        kms = RoutedKMS(self.provider.name, make, self.region)
        if self.branch_table.exists():
            rows_per_key = {t.context_name: t.rows_per_branch_key for t in self.config.tables}
            kms.branches = BranchKeys(kms, self.branch_table, rows_per_key=rows_per_key)
        return kms

    def aws(self, role: Role, *, region: str | None = None) -> AWSKMS:
        """AWS KMS, acting as a role of the Terraform outputs, or with your own AWS identity.

        ``region`` is another Region than the environment's, for the keys of rows that come from it.
        """
        return from_opening(self._opening(role, region=region))

    def open_provider(self, spec: ProviderSpec) -> KMSInterface:
        """A provider of this environment, to ask it about its KEKs."""
        return spec.open(replace(self._opening(Role.VERIFIER), wraps=spec is self.provider))

    def _opening(
        self,
        role: Role,
        *,
        kek: str | None = None,
        region: str | None = None,
        concurrency: int = DEFAULT_CONCURRENCY,
        limiter: RateLimiter | None = None,
    ) -> Opening:
        return Opening(
            role=role,
            kek=self.resolve_kek(kek) if kek else None,
            region=region or self.region,
            endpoint_url=self.env.endpoint_url,
            allow_plain_http=self.env.allow_plain_http,
            configured_kek=self.kek,
            known_keks=self.known_keks,
            session=self.session,
            concurrency=concurrency,
            limiter=limiter,
            cancel=self.give_up,
        )

    @property
    def acts_in_roles(self) -> bool:
        """Whether commands act as the roles of the Terraform outputs, not with your own identity.

        Raises:
            UsageError: the outputs cannot be read.
        """
        return self.assume_role and self.outputs is not None

    def session(self, role: Role, run_id: str | None = None) -> boto3.Session:
        """A session that acts as a role of the Terraform outputs, or with your own AWS identity.

        The name of a role's session has ``run_id``, if it is for a run.

        Raises:
            UsageError: a configured table is one that the roles may not use.
            KMSError: there are no credentials to begin with.
        """
        from dekctl.kms.aws.assume_role import assumed_session, base_session  # noqa: PLC0415 - boto3

        outputs = self.outputs
        session = base_session(self.region)
        if outputs is None or not self.assume_role:
            return session
        if role in ROW_ROLES:
            refuse_closed_tables(self.config, outputs)
        return assumed_session(
            session,
            outputs.roles[role],
            region=self.region,
            endpoint_url=self.env.endpoint_url,
            external_id=self.env.external_id,
            run_id=run_id,
            source_identity=outputs.source_identity
            if self.env.source_identity is None
            else self.env.source_identity,
            allow_plain_http=self.env.allow_plain_http,
        )

    def kek(self) -> str:
        """The active KEK as configured: Terraform's active generation, or ``kek``.

        Raises:
            UsageError: the environment names none.
        """
        if self.outputs is not None:
            return self.outputs.kek_arn
        if self.env.kek is None:
            raise UsageError(
                f"[env.{self.env.name}] names no KEK",
                hint='add kek = "alias/…", or terraform = "terraform/environments/…" to it',
            )
        return self.env.kek

    def refuse_incomplete(self) -> None:
        """Check all settings that wrapping will need, before anything is changed.

        Raises:
            UsageError: something is missing or wrong.
        """
        if not self.uses_aws:
            self.open_provider(self.provider)
            return
        outputs = self.outputs
        if not all(table.keks for table in self.config.tables):
            self.kek()
        if outputs is not None and self.assume_role:
            refuse_closed_tables(self.config, outputs)

    def known_keks(self) -> list[str]:
        """Every KEK that may have wrapped a row: Terraform's generations, and those of tables."""
        generations = self.outputs.kek_arns() if self.outputs else []
        return [*generations, *(kek for table in self.config.tables for kek in table.keks)]

    def find_kek(self, name: str) -> str:
        """A KEK as rows name it: the name of a generation or an alias becomes an ARN.

        Raises:
            UsageError: this environment has no such KEK.
            KMSError: KMS cannot be asked what it means.
        """
        kek = self.resolve_kek(name)
        spec = provider_of(kek)
        if is_key_arn(kek) or (spec is not None and spec is not AWS):
            return kek
        if spec is None or not self.uses_aws:
            raise UsageError(
                f"this environment has no KEK {name}",
                hint="see the KEKs in use with: dekctl status",
            )
        return self.described_kek(kek)

    def described_kek(self, kek: str) -> str:
        """The ARN of a key that KMS knows.

        Raises:
            UsageError: KMS knows no such key.
            KMSError: KMS refused or cannot be reached.
        """
        # Rows that came from another Region name their KEK there.
        kms = self.aws(Role.AUDITOR, region=foreign_region(kek, self.region))
        try:
            return str(kms.describe(kek)["Arn"])
        except KMSError as error:
            if error.code not in {"NotFoundException", "ValidationException"}:
                raise
            raise UsageError(
                f"KMS knows no key {kek}", hint="see the KEKs in use with: dekctl status"
            ) from None
        finally:
            kms.close()

    def resolve_kek(self, name: str) -> str:
        """Turn a generation's name into its ARN; leave any other name of a KEK as it is."""
        for generation in self.outputs.all_generations if self.outputs else ():
            if generation.name == name:
                return generation.arn
        return name


def refuse_other_stage(table: DekTable, *stages: Stage) -> None:
    """Refuse a table that is at another stage than these.

    Raises:
        RefusedError: it is; the hint has the next command.
    """
    if table.stage not in stages:
        raise RefusedError(
            f"{table.config.name} is at stage {table.stage.value}; this needs "
            f"{' or '.join(stage.value for stage in stages)}",
            hint=_NEXT[table.stage],
        )


_NEXT = {
    Stage.LEGACY: "expand the schema first: dekctl migrate",
    Stage.EXPANDED: "see what is left to do with: dekctl status",
    Stage.CONTRACTED: "add the plaintext column again first: dekctl schema rollback",
}
