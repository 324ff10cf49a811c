"""For applications: read a row's data key, and issue a new one.

::

    keys = RowKeys.from_config(load_config())
    dek = keys.read(file)            # wrapped_key first, encryption_key where there is none yet
    session.add(file); session.flush()
    dek = keys.issue(file)           # sets wrapped_key, wrapped_key_version and kek_id

``row`` is an instance of a SQLAlchemy model, or any object with the columns as attributes, or a
mapping. :meth:`RowKeys.read` changes nothing, not even a plaintext that is still there.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from dekctl.branch_keys.table import BranchTable
from dekctl.config.model import OTHERS, Config, TableConfig
from dekctl.config.outputs import load_outputs
from dekctl.db.plaintext import decode_plaintext
from dekctl.errors import DekctlError, RefusedError, RowRejectedError, UsageError
from dekctl.kek_id import is_key_arn, is_same_kek
from dekctl.kms.aws.provider import AWSKMS
from dekctl.kms.aws.retry import APPLICATION, RetryPolicy
from dekctl.kms.branch.keys import BranchKeys
from dekctl.kms.context import V2, V3, context_for_version, row_context
from dekctl.kms.interface import Context, KMSInterface, Unwrapped, UnwrapRequest
from dekctl.kms.registry import get_kms_provider
from dekctl.reader.connection import BorrowedConnection
from dekctl.reader.model import ModelRows, mapper_of


class RowKeys:
    """Reads and issues the data keys of one table's rows."""

    def __init__(
        self,
        provider: KMSInterface | None = None,
        table: TableConfig | None = None,
        *,
        accepted: Sequence[str] | None = None,
        engine: sa.Engine | None = None,
        ledger_table: TableConfig | None = None,
    ) -> None:
        """Prepare.

        Args:
            provider: the key provider; by default the one of :func:`set_kms_provider`.
            table: names of the table and its columns; by default those of an earlier script.
            accepted: the KEKs (ARNs) that may have wrapped a row; by default all. Once a roll is
                complete, nothing but an old copy of a row is still wrapped by an older KEK.
            engine: the database of the table, for rows without a session: it holds the branch
                keys of V3 rows, and tells how a UUID is stored. Default: the database of the
                first row with a session.
            ledger_table: the first table of the configuration, whose schema holds the branch
                keys; by default ``table``.
        """
        self._provider = provider
        self.table = table or TableConfig()
        self.accepted = accepted
        self._rows = ModelRows(self.table, engine)
        self._connection = BorrowedConnection(lambda: self._rows.engine)
        self._branch_table = BranchTable(self._connection.run, (ledger_table or self.table).schema)
        self._branches: BranchKeys | None = None

    @classmethod
    def from_config(
        cls, config: Config, table: str | None = None, *, retry: RetryPolicy = APPLICATION
    ) -> RowKeys:
        """Make the reader that ``dekctl.toml`` describes, with the AWS identity of the process.

        It wraps under the active KEK, and refuses rows older than ``min_generation``.

        Args:
            config: from :func:`dekctl.config.load_config`.
            table: the table's name, where there are several.
            retry: how long failed KMS calls are retried; by default a few seconds.

        Raises:
            UsageError: the configuration or the Terraform outputs are missing or wrong.
        """
        env, outputs = config.env, load_outputs(config.env)
        chosen = [t for t in config.tables if table in (None, t.name, t.context_name)]
        kek = outputs.kek_arn if outputs else env.kek
        if not chosen or env.provider != "aws" or kek is None:
            raise UsageError(
                f"[env.{env.name}] is not set up for AWS KMS, or has no table {table!r}",
                hint="see: dekctl doctor",
            )
        accepted: list[str] | None = None
        known = outputs.kek_arns() if outputs else []
        own = [name for t in config.tables for name in t.keks]
        if env.min_generation is not None:
            if chosen[0].keks:
                raise UsageError(
                    f"min_generation in [env.{env.name}] orders the generations of one KEK, and "
                    f"{chosen[0].name} names KEKs of its own",
                    hint="remove min_generation, or move such tables to an [env.NAME] without it",
                )
            if outputs is None:
                raise UsageError(
                    f"min_generation in [env.{env.name}] needs the Terraform outputs",
                    hint=f"add terraform or terraform_outputs to [env.{env.name}]",
                )
            accepted = [generation.arn for generation in outputs.since(env.min_generation)]
        provider = AWSKMS(
            kek,
            region=env.region or (outputs.region if outputs else None),
            endpoint_url=env.endpoint_url,
            known_keks=[*known, *own],
            retry=retry,
        )
        return cls(provider, chosen[0], accepted=accepted, ledger_table=config.table)

    @property
    def provider(self) -> KMSInterface:
        """The key provider in use."""
        return self._provider or get_kms_provider()

    def read(self, row: Any) -> bytes:
        """Return a row's data key: from ``wrapped_key``, else from ``encryption_key``.

        Raises:
            RowRejectedError: the wrapped key cannot be decrypted for this row, or the row has none.
            RefusedError: the KEK that wrapped it is no longer accepted.
            UsageError: the primary key is missing, or of a type that dekctl does not take.
            KMSError: the provider refused or cannot be reached.
            DatabaseError: the branch key of a V3 row cannot be read.
        """
        table, rows = self.table, self._rows
        wrapped = rows.get(row, table.wrapped_column)
        if wrapped is not None:
            return self._open(row, bytes(wrapped))
        plaintext = rows.get(row, table.plaintext_column)
        if plaintext is None:
            raise RowRejectedError("the row has neither a wrapped key nor a plaintext")
        if not isinstance(plaintext, str):
            plaintext = bytes(plaintext)
        return decode_plaintext(plaintext, table.plaintext_encoding, table.dek_bytes)

    def _open(self, row: Any, wrapped: bytes) -> bytes:
        context = self._context(row, self._rows.primary_key(row))
        try:
            return self._unwrap(row, wrapped, context)
        except RowRejectedError as rejected:
            # The database may store a key other than the session wrote it: padded, or truncated.
            # Asking costs a statement, so it is done only where decryption failed.
            try:
                if self._rows.shares_database(row):
                    stored = self._context(row, self._rows.ask(row).primary_key)
                else:
                    stored = self._context(row, self._rows.other_key(row))
            except DekctlError:
                raise rejected from None
            if stored == context:
                raise
        return self._unwrap(row, wrapped, stored)

    def _context(self, row: Any, primary_key: Sequence[Any]) -> Context | None:
        version = self._rows.get(row, self.table.version_column)
        return context_for_version(version, self.table.context_name, primary_key)

    def _unwrap(self, row: Any, wrapped: bytes, context: Context | None) -> bytes:
        kek_id = self._rows.get(row, self.table.kek_column)
        request = UnwrapRequest(wrapped, kek_id, context)
        if self._rows.get(row, self.table.version_column) == V3:
            # Its branch key has the current KEK: branch keys are rewrapped before rows are.
            shared = self._rows.shares_database(row)
            with self._connection.of((lambda: self._rows.connection(row)) if shared else None):
                branches = self._branch_keys()
                answer = branches.unwrap_many([request])[0]
                if isinstance(answer, Unwrapped) and not self._accepts(answer.kek_id):
                    branches.forget(
                        request.wrapped
                    )  # it may have been rewrapped since it was opened
                    answer = branches.unwrap_many([request])[0]
        else:
            if kek_id is not None and is_key_arn(kek_id):
                self._refuse_old(kek_id)  # no need to ask KMS
            answer = self.provider.unwrap_many([request])[0]
        if isinstance(answer, RowRejectedError):
            raise answer
        self._refuse_old(answer.kek_id)
        return answer.plaintext

    def issue(self, row: Any, size: int = 32) -> bytes:
        """Make a new data key for a row and store it wrapped. Returns the key, ``size`` bytes.

        The key is bound to the primary key as the database stores it. So a model's instance must
        be flushed first, and is asked for in the database with one small statement; a mapping has
        to hold its key as it will be stored. KMS wraps the key itself (V2), whatever ``wrapping``
        says: a later ``dekctl rewrap`` may put it under a branch key. A plaintext in the row is
        removed, as it would be another key.

        Raises:
            UsageError: ``dek_bytes`` does not allow the size; the primary key is of a type that
                dekctl does not take; or how the database stores it is not known.
            DekctlError: the row has not been flushed, or its primary key is not set.
            RowRejectedError: ``kek_by`` has no KEK for this row.
            KMSError: the provider refused or cannot be reached.
            DatabaseError: the database refused.
        """
        table, rows = self.table, self._rows
        if size not in table.dek_bytes:
            raise UsageError(
                f"a data key of {size} bytes is not allowed; dek_bytes allows "
                f"{', '.join(map(str, table.dek_bytes))}",
                hint="issue a key of an allowed size, or add this size to dek_bytes in [table]",
            )
        if any(rows.get(row, column) is None for column in table.primary_key):
            raise DekctlError(
                "the row has no primary key yet; its data key is bound to the primary key",
                hint="call session.flush() before issue(row)",
            )
        if mapper_of(row) is None:
            key, kek = rows.written_key(row), self._kek_of_unstored(row)
        else:
            stored = rows.ask(row)
            key, kek = stored.primary_key, self._kek_of(stored.owner)
        opened, wrapped = self.provider.generate(size, row_context(table.context_name, key), kek)
        rows.set(row, table.wrapped_column, wrapped.blob)
        rows.set(row, table.version_column, V2)
        rows.set(row, table.kek_column, wrapped.kek_id)
        if table.wrapped_at_column:
            rows.set(row, table.wrapped_at_column, rows.now(row, table.wrapped_at_column))
        rows.drop_plaintext(row)
        return opened.plaintext

    def _branch_keys(self) -> BranchKeys:
        """The branch keys of V3 rows; opened ones stay in memory for a while."""
        if self._branches is None:
            self._branches = BranchKeys(self.provider, self._branch_table)
        return self._branches

    def _accepts(self, kek_id: str) -> bool:
        return self.accepted is None or any(is_same_kek(kek_id, kek) for kek in self.accepted)

    def _refuse_old(self, kek_id: str) -> None:
        if self._accepts(kek_id):
            return
        raise RefusedError(
            f"the row's key is wrapped by {kek_id}, which is older than min_generation allows",
            hint="if the row was restored from a backup, run: dekctl rewrap",
        )

    def _kek_of(self, owner: Any) -> str | None:
        """The KEK for a new key of this owner's row; None for the provider's own."""
        table = self.table
        if table.kek_by is None:
            return table.kek
        kek = table.kek_by.kek_of(owner)
        if kek is None:
            raise RowRejectedError(
                f"kek_by has no KEK for the row's {table.kek_by.column}",
                hint="add its value to kek_by in [table], or add '*' for all other values",
            )
        return kek

    def _kek_of_unstored(self, row: Any) -> str | None:
        """The KEK for a row that is not looked up in the database."""
        kek_by = self.table.kek_by
        owner = self._rows.get(row, kek_by.column) if kek_by else None
        listed = [value for value, _ in kek_by.keks if value != OTHERS] if kek_by else []
        if owner is not None and str(owner) not in listed:
            near = [value for value in listed if _alike(value) == _alike(str(owner))]
            if near:
                raise RowRejectedError(
                    f"the row's {kek_by.column if kek_by else ''} resembles {near[0]!r} of kek_by; "
                    "only the database can tell whether it compares equal",
                    hint="spell it as in kek_by, or flush a model's instance and issue for that",
                )
        return self._kek_of(owner)


def _alike(text: str) -> str:
    """Text without what a collation may ignore: case, accents and padding."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in letters if not unicodedata.combining(c)).rstrip()
