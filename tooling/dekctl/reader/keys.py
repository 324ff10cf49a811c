"""For applications: read a row's data key, and issue a new one.

::

    keys = RowKeys.from_config(load_config())
    dek = keys.read(file)            # wrapped_key first, encryption_key where there is none yet
    session.add(file); session.flush()
    dek = keys.issue(file)           # fills wrapped_key, wrapped_key_version and kek_id

With asyncio: ``await keys.aread(file)``, ``await keys.aissue(file)``. Many rows at once:
``keys.read_many(files)``, in a small part of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa

from dekctl.config.model import Config, PlaintextUse, TableConfig
from dekctl.errors import RowRejectedError, UsageError
from dekctl.kms.context import row_context
from dekctl.kms.dek import DEK, hides_keys
from dekctl.kms.interface import GenerateRequest, KMSInterface
from dekctl.kms.registry import get_kms_provider
from dekctl.reader import aio
from dekctl.reader.allowed import AllowedKEKs
from dekctl.reader.branch_opening import BranchOpener
from dekctl.reader.branches import BranchBlobs
from dekctl.reader.cache import BRANCH_LIMITS, KeyCache
from dekctl.reader.columns import check_database, check_model
from dekctl.reader.from_config import describe
from dekctl.reader.issuing import Issuer, NewKey
from dekctl.reader.memory import Memory
from dekctl.reader.opening import Answer, Opener
from dekctl.reader.patience import KMSCall, Patience
from dekctl.reader.rows import Row, RowClasses, may_ask
from dekctl.reader.stats import Counters, Stats
from dekctl.reader.steps import run
from dekctl.reader.stored import StoredRows

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

DEADLINE = 1.0
PING_PRIMARY_KEY = "dekctl ping"
"""Stands in the encryption context of a ping, where a row's primary key would."""
_USES = ("write", "read", "refuse")


class RowKeys:
    """Reads and issues the data keys of one table's rows. Safe to share between threads and tasks.

    A ``row`` is an instance of a mapped class, a ``Row`` or a mapping of a query, a dataclass or a
    named tuple. It needs the primary key and the columns of the wrapped key; a column that is not
    there or not loaded is a :class:`UsageError` that names it. Rows that are not a model's hold
    their primary key as the database stores it.

    What ``plaintext`` means, and which errors there are: :mod:`dekctl.reader`.

    No message, ``repr`` or frame of an error holds a key. A reader that was made before ``fork``
    makes its own connections in each worker.
    """

    def __init__(
        self,
        provider: KMSInterface | None = None,
        table: TableConfig | None = None,
        *,
        keks: Sequence[str] | None = None,
        plaintext: PlaintextUse | None = None,
        engine: sa.Engine | AsyncEngine | None = None,
        deadline: float = DEADLINE,
        cache: KeyCache | None = None,
        on_call: Callable[[KMSCall], None] | None = None,
        ledger_table: TableConfig | None = None,
        keks_are: str = "the KEKs of this reader",
    ) -> None:
        """Prepare; nothing is called yet.

        Args:
            provider: the key provider; by default the one of :func:`set_kms_provider`. It stays the
                caller's to close.
            table: names of the table and its columns; by default those of an earlier script.
            keks: the KEKs that may have wrapped a row: ARNs, or names of local KEKs. A row of any
                other KEK is rejected, whoever wrote it. By default those that the provider was
                given (its own, and ``known_keks``) and those of ``table``. An alias costs one
                DescribeKey.
            plaintext: what a plaintext still counts; by default what ``table`` says,
                else ``write``.
            engine: the database of the table, for rows without a session: it holds the branch keys
                of V3 rows, and tells how a UUID is stored. Default: the database of the first row
                with a session. New keys of rows in a session are always that session's matter.
            deadline: how long a call may wait for KMS, in seconds: the limiter, retries and the
                answer together. A batch has as much for each 200 keys. After three calls without
                an answer, calls fail at once, but for one at a time that tries whether KMS is back.
            cache: keeps data keys in memory; by default only the branch keys of V3 rows are kept,
                for an hour, at most 1,000.
            on_call: is told of every call to KMS when it has ended, in the thread that made it; for
                histograms.
            ledger_table: the first table of the configuration, whose schema holds the branch keys;
                by default ``table``.
            keks_are: how errors call ``keks``.

        Raises:
            UsageError: ``plaintext`` or ``deadline`` is none.
        """
        self.table = table or TableConfig()
        self.plaintext: PlaintextUse = plaintext or self.table.plaintext or "write"
        if self.plaintext not in _USES:
            raise UsageError(
                f"plaintext is {self.plaintext!r}", hint=f"choose one of: {', '.join(_USES)}"
            )
        if deadline <= 0:
            raise UsageError("the deadline must be above 0 seconds", hint="the default is 1.0")
        self._provider = provider
        self._owns_provider = False
        self._branches = cache.branches if cache else Memory(BRANCH_LIMITS)
        self._deks = cache.deks if cache else None
        self._stored = StoredRows(self.table, engine)
        self._patience = Patience(lambda: self.provider, deadline, on_call)
        self._counters = Counters()
        self._async = aio.Async(self._stored)
        allowed = AllowedKEKs(keks, lambda: self.provider, self.table.keks, keks_are)
        schema = (ledger_table or self.table).schema
        common: dict[str, Any] = {
            "classes": RowClasses(self.table),
            "stored": self._stored,
            "allowed": allowed,
            "patience": self._patience,
            "counters": self._counters,
        }
        branches = BranchOpener(
            BranchBlobs(self.table.context_name, schema),
            self._branches,
            allowed=allowed,
            patience=self._patience,
        )
        self._opener = Opener(
            self.table, self.plaintext, branches=branches, deks=self._deks, **common
        )
        self._issuer = Issuer(self.table, self.plaintext, **common)

    @classmethod
    def from_config(
        cls,
        config: Config,
        table: str | None = None,
        *,
        plaintext: PlaintextUse | None = None,
        engine: sa.Engine | AsyncEngine | None = None,
        transport: Literal["auto", "boto3", "curl"] = "auto",
        deadline: float = DEADLINE,
        cache: KeyCache | None = None,
        on_call: Callable[[KMSCall], None] | None = None,
    ) -> RowKeys:
        """Make the reader that ``dekctl.toml`` describes, with the AWS identity of the process.

        It takes every provider, and needs no database URL. It wraps under the active KEK, and
        accepts the KEKs that Terraform's outputs, ``kek`` and ``kek_by`` name, from
        ``min_generation`` on.

        Args:
            config: from :func:`dekctl.config.load_config`.
            table: the table's name, where there are several; by default the first.
            plaintext: overrides ``plaintext`` of ``[table]``; see :class:`RowKeys`.
            engine: as for :class:`RowKeys`.
            transport: how AWS KMS is called: ``curl``, ``boto3``, or ``auto`` for the faster one
                that can be had.
            deadline: as for :class:`RowKeys`, in seconds.
            cache: as for :class:`RowKeys`.
            on_call: as for :class:`RowKeys`.

        Raises:
            UsageError: the configuration or the Terraform outputs are missing or wrong.
        """
        found = describe(config, table, transport, deadline)
        made = cls(
            found.provider,
            found.table,
            keks=found.keks,
            plaintext=plaintext,
            engine=engine,
            deadline=deadline,
            cache=cache,
            on_call=on_call,
            ledger_table=config.table,
            keks_are=found.why,
        )
        made._owns_provider = True
        return made

    @property
    def provider(self) -> KMSInterface:
        """The key provider in use."""
        return self._provider or get_kms_provider()

    # -- reading -------------------------------------------------------------------------------

    @hides_keys
    def read(self, row: Row) -> DEK:
        """Return a row's data key: ``bytes`` whose ``repr`` shows nothing. The row is not changed.

        Raises:
            RowRejectedError: the wrapped key cannot be decrypted for this row, its KEK is none of
                ``keks``, or the row has no key that ``plaintext`` accepts.
            UsageError: a column is missing or not loaded, or the primary key is of a type that
                dekctl does not take.
            KMSUnavailableError: KMS did not answer within the deadline.
            KMSError: the provider refused.
            DatabaseError: the branch key of a V3 row cannot be read.
        """
        found = self._opener.at_hand(row)
        if isinstance(found, DEK):
            return found
        return _key(run(self._opener.open([found]), self._stored)[0])

    @hides_keys
    def read_many(self, rows: Iterable[Row]) -> list[DEK | RowRejectedError]:
        """Return the data keys of many rows, in their order, with as few calls as there can be.

        What is wrong with one row alone stands in its place, as an exception that was not raised.

        Raises:
            DekctlError: as :meth:`read`, for what concerns all rows.
        """
        return run(self._opener.read(rows), self._stored)

    @aio.hides_keys
    async def aread(self, row: Row) -> DEK:
        """:meth:`read` without blocking the event loop; rows of an AsyncSession must be loaded."""
        found = self._opener.at_hand(row)
        if isinstance(found, DEK):
            return found
        answers = await self._async.run(self._opener.open([found]))
        return _key(answers[0])

    @aio.hides_keys
    async def aread_many(self, rows: Iterable[Row]) -> list[DEK | RowRejectedError]:
        """:meth:`read_many` without blocking the event loop."""
        return await self._async.run(self._opener.read(rows))

    # -- issuing -------------------------------------------------------------------------------

    @hides_keys
    def issue(self, row: Row, size: int = 32, *, replace: bool = False) -> DEK:
        """Make a new data key for a row, store it in the row, and return it.

        The key is bound to the primary key as the database stores it. So a model's instance must
        have been flushed; its key is read back from the database, and the row stays locked until
        the transaction ends, so that of two workers one is refused. A mapping that is to be
        inserted holds its key as it will be stored. The row is written by the application: flush
        and commit, or execute the statement.

        It is of version V2, each wrapped by KMS, whatever the table's ``wrapping`` says; a later
        ``dekctl rewrap`` may put it under a branch key. With ``plaintext="write"`` the plaintext is
        stored too; otherwise an old one is removed.

        Args:
            row: a model's instance, a dict, or another object that can be changed.
            size: length of the key in bytes, one of ``dek_bytes``.
            replace: whether to give a row that has a key another one. What the old key encrypted
                is unreadable then.

        Raises:
            RefusedError: the row has a key already.
            UsageError: the size is not allowed; a column is missing; the primary key is of a type
                that dekctl does not take, or how the database stores it is not known; the model is
                of another table.
            DekctlError: the row has not been flushed, or its primary key is not set.
            RowRejectedError: ``kek_by`` has no KEK for this row.
            KMSError: the provider refused or cannot be reached.
            DatabaseError: the database refused.
        """
        return run(self._issuer.issue([row], size, replace=replace), self._stored)[0]

    @hides_keys
    def issue_many(
        self, rows: Sequence[Row], size: int = 32, *, replace: bool = False
    ) -> list[DEK]:
        """:meth:`issue` for many rows, with as few statements and calls as there can be.

        No row is changed where one gets no key.

        Raises:
            UsageError: a row is there twice.
            DekctlError: as :meth:`issue`.
        """
        return run(self._issuer.issue(rows, size, replace=replace), self._stored)

    @hides_keys
    def issue_for(self, primary_key: Any, size: int = 32, *, owner: Any = None) -> NewKey:
        """Make a new data key for a row that is not in the database yet, without a statement.

        Args:
            primary_key: the value as the database will store it, or a tuple of values.
            size: length of the key in bytes, one of ``dek_bytes``.
            owner: the row's value of the ``kek_by`` column, where the table has one.

        Returns:
            The key, and what to store: ``columns`` holds all of it by column name.

        Raises:
            DekctlError: as :meth:`issue`.
        """
        return run(self._issuer.issue_for(primary_key, size, owner), self._stored)

    @aio.hides_keys
    async def aissue(self, row: Row, size: int = 32, *, replace: bool = False) -> DEK:
        """:meth:`issue` without blocking the event loop, with an AsyncSession or without."""
        return (await self._async.run(self._issuer.issue([row], size, replace=replace)))[0]

    @aio.hides_keys
    async def aissue_many(
        self, rows: Sequence[Row], size: int = 32, *, replace: bool = False
    ) -> list[DEK]:
        """:meth:`issue_many` without blocking the event loop."""
        return await self._async.run(self._issuer.issue(rows, size, replace=replace))

    @aio.hides_keys
    async def aissue_for(self, primary_key: Any, size: int = 32, *, owner: Any = None) -> NewKey:
        """:meth:`issue_for` without blocking the event loop."""
        return await self._async.run(self._issuer.issue_for(primary_key, size, owner))

    # -- at start-up, for metrics, at the end ----------------------------------------------------

    def check(self, *models: type[Any]) -> None:
        """Check models at start-up; and the table, where an engine that can be asked was given.

        Raises:
            UsageError: a column is missing, or may not be NULL; the error names it.
            DatabaseError: the database refused or cannot be reached.
        """
        for model in models:
            check_model(model, self.table, self.plaintext)
        engine = self._stored.engine
        if engine is not None and may_ask(engine.dialect):
            check_database(engine, self.table, self.plaintext)

    @hides_keys
    def ping(self) -> float:
        """Ask KMS for a key that nobody uses. Returns the seconds that took; for readiness.

        Raises:
            KMSError: KMS refused, or did not answer within the deadline.
        """
        before = self._patience.waited
        context = row_context(self.table.context_name, (PING_PRIMARY_KEY,))
        request = GenerateRequest(32, context, self.table.kek)
        self._patience.generate([request], self._patience.deadline(1))
        return self._patience.waited - before

    def stats(self) -> Stats:
        """Totals since the reader was made. With a shared cache, its hits are all readers'."""
        deks, branches = self._deks, self._branches
        return Stats(
            reads={
                "kms": self._counters["kms"],
                "cache": deks.hits if deks is not None else 0,
                "branch": branches.hits,
                "stale": branches.stale_hits + (deks.stale_hits if deks is not None else 0),
                "plaintext": self._counters["plaintext"],
            },
            issued=self._counters["issued"],
            calls=dict(self.provider.calls),
            errors=dict(self._patience.errors),
            seconds=self._patience.waited,
            data_keys=len(deks) if deks is not None else 0,
            branch_keys=len(branches),
            kms_away=self._patience.breaker.is_open,
        )

    def close(self) -> None:
        """Drop the keys in memory, and end threads and connections of the reader's own."""
        self._branches.clear()
        if self._deks is not None:
            self._deks.clear()
        self._async.close()
        if self._owns_provider:
            self.provider.close()


def _key(answer: Answer) -> DEK:
    if isinstance(answer, RowRejectedError):
        raise answer
    return answer
