"""For applications: read a row's data key, and issue one for a new row.

::

    keys = RowKeys(set_kms_provider("aws", key_id="alias/app-dek"))
    dek = keys.read(file)            # wrapped_key first, encryption_key where there is none yet
    session.add(file); session.flush()
    dek = keys.issue(file)           # sets wrapped_key, wrapped_key_version and kek_id

``row`` is an instance of a SQLAlchemy model, or any object with the columns as attributes, or a
mapping. A plaintext that is still there is never touched by :meth:`RowKeys.read`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import NoInspectionAvailable
from sqlalchemy.orm import Mapper, object_session
from sqlalchemy.orm.attributes import flag_modified

from dekctl.config import Config, TableConfig
from dekctl.db.branches import BranchTable, RunTransaction
from dekctl.db.plaintext import decode_plaintext
from dekctl.errors import DekctlError, RefusedError, RowRejectedError, UsageError
from dekctl.keks.identity import names
from dekctl.kms.aws import AWSKMS, is_key_arn
from dekctl.kms.branch import BranchKeys
from dekctl.kms.context import V2, V3, context_for_version, row_context
from dekctl.kms.interface import KMSInterface, UnwrapRequest
from dekctl.kms.registry import get_kms_provider
from dekctl.outputs import load_outputs


class RowKeys:
    """Reads and issues the data keys of one table's rows."""

    def __init__(
        self,
        provider: KMSInterface | None = None,
        table: TableConfig | None = None,
        *,
        accepted: Sequence[str] | None = None,
        engine: sa.Engine | None = None,
        first: TableConfig | None = None,
    ) -> None:
        """Prepare.

        Args:
            provider: the key provider; by default the one of :func:`set_kms_provider`.
            table: names of table and columns; by default the seed's.
            accepted: the KEKs (ARNs) that may have wrapped a row; by default all. Once a roll is
                complete, a blob of an older KEK is a copy that somebody kept.
            engine: the database that holds the branch keys of V3 rows; by default the one of the
                row's session.
            first: the first table of the configuration, whose schema the branch keys are in; by
                default ``table``.
        """
        self._provider = provider
        self._engine = engine
        self._branches: BranchKeys | None = None
        self.table = table or TableConfig()
        self._first = first or self.table
        self.accepted = accepted

    @classmethod
    def of(cls, config: Config, table: str | None = None) -> RowKeys:
        """Make the reader of a ``dekctl.toml``, for AWS KMS and the identity of the process.

        It wraps under the active KEK, and refuses rows older than ``min_generation``.

        Args:
            config: from :func:`dekctl.config.load_config`.
            table: the table's name, where there are several.

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
        if env.min_generation is not None and not chosen[0].keks:
            if outputs is None:
                raise UsageError(
                    f"min_generation in [env.{env.name}] needs the Terraform outputs",
                    hint="add terraform or terraform_outputs to it",
                )
            accepted = [generation.arn for generation in outputs.since(env.min_generation)]
        provider = AWSKMS(
            kek,
            region=env.region or (outputs.region if outputs else None),
            endpoint_url=env.endpoint_url,
            known_keks=[*known, *own],
        )
        return cls(provider, chosen[0], accepted=accepted, first=config.table)

    @property
    def provider(self) -> KMSInterface:
        """The key provider in use."""
        return self._provider or get_kms_provider()

    def read(self, row: Any) -> bytes:
        """Return a row's data key: from ``wrapped_key``, else from ``encryption_key``.

        Raises:
            RowRejectedError: the wrapped key does not open for this row, or the row has no key.
            RefusedError: a KEK wrapped it that is not accepted any more.
            KMSError: the provider refused or cannot be reached.
        """
        table = self.table
        wrapped = _get(row, table.wrapped_column)
        if wrapped is not None:
            version = _get(row, table.version_column)
            context = context_for_version(version, table.context_name, self._primary_key(row))
            kek_id = _get(row, table.kek_column)
            request = UnwrapRequest(bytes(wrapped), kek_id, context)
            if version == V3:
                # Its branch key knows its KEK better: that moves before the rows do.
                answer = self._branch_keys(row).unwrap_many([request])[0]
            else:
                if kek_id is not None and is_key_arn(kek_id):
                    self._refuse_old(kek_id)  # no need to ask KMS
                answer = self.provider.unwrap_many([request])[0]
            if isinstance(answer, RowRejectedError):
                raise answer
            self._refuse_old(answer.kek_id)
            return answer.plaintext
        plaintext = _get(row, table.plaintext_column)
        if plaintext is None:
            raise RowRejectedError("the row has neither a wrapped key nor a plaintext")
        if not isinstance(plaintext, str):
            plaintext = bytes(plaintext)
        return decode_plaintext(plaintext, table.plaintext_encoding, table.dek_bytes)

    def issue(self, row: Any, size: int = 32) -> bytes:
        """Make a new data key for a row and store it wrapped. Returns the key, ``size`` bytes.

        The primary key is part of what the wrapped key is bound to, so it must be set: flush a
        new row first. A plaintext in the row is removed, as it would be another key.

        Raises:
            DekctlError: the primary key is not set yet.
            KMSError: the provider refused or cannot be reached.
        """
        table = self.table
        key = self._primary_key(row)
        if any(part is None for part in key):
            raise DekctlError(
                "the row has no primary key yet, and its data key is bound to it",
                hint="call session.flush() before issue()",
            )
        opened, wrapped = self.provider.generate(
            size, row_context(table.context_name, key), self._kek_for(row)
        )
        _set(row, table.wrapped_column, wrapped.blob)
        _set(row, table.version_column, V2)
        _set(row, table.kek_column, wrapped.kek_id)
        if table.wrapped_at_column:
            _set(row, table.wrapped_at_column, _now(row, table.wrapped_at_column))
        self._drop_plaintext(row)
        return opened.plaintext

    def _drop_plaintext(self, row: Any) -> None:
        """Remove the old key: beside the new one it would look like the truth to ``wrap --stale``.

        A model may have dropped the attribute while the database still has the column; a session
        is then asked to clear it in the same transaction.
        """
        column = self.table.plaintext_column
        if _has(row, column):
            _set(row, column, None)
            return
        session = object_session(row) if _mapper(row) is not None else None
        if session is None:
            return
        connection = session.connection(bind_arguments={"mapper": _mapper(row)})
        found = sa.inspect(connection).get_columns(self.table.bare_name, schema=self.table.schema)
        if any(known["name"] == column for known in found):
            target = sa.table(
                self.table.bare_name,
                sa.column(column),
                *(sa.column(name) for name in self.table.primary_key),
                schema=self.table.schema,
            )
            keys = zip(self.table.primary_key, self._primary_key(row), strict=True)
            connection.execute(
                target.update().where(*(target.c[name] == value for name, value in keys)),
                {column: None},
            )

    def _branch_keys(self, row: Any) -> BranchKeys:
        """The branch keys of V3 rows; those in use stay in memory for a while."""
        if self._branches is None:
            engine = self._engine
            session = object_session(row) if _mapper(row) is not None else None
            if engine is None and session is not None:
                bind = session.get_bind(_mapper(row))
                engine = bind.engine
            if engine is None:
                raise UsageError(
                    "a row of version V3 needs the database of its branch key",
                    hint="pass it: RowKeys(provider, engine=…)",
                )
            store = BranchTable(_transactions(engine), self._first.schema)
            self._branches = BranchKeys(self.provider, store)
        return self._branches

    def _refuse_old(self, kek_id: str) -> None:
        if self.accepted is None or any(names(kek_id, kek) for kek in self.accepted):
            return
        raise RefusedError(
            f"the row's key is wrapped by {kek_id}, which is older than min_generation allows",
            hint="where does the row come from? If from a backup: dekctl rewrap",
        )

    def _kek_for(self, row: Any) -> str | None:
        """The KEK for a new key of this row; None for the provider's own."""
        table = self.table
        if table.kek_by is None:
            return table.kek
        kek = table.kek_by.kek_of(_get(row, table.kek_by.column))
        if kek is None:
            raise RowRejectedError(
                f"its {table.kek_by.column} has no KEK in kek_by",
                hint="add it to [table], or add '*' for all others",
            )
        return kek

    def _primary_key(self, row: Any) -> tuple[Any, ...]:
        return tuple(_stored(row, column) for column in self.table.primary_key)


def _transactions(engine: sa.Engine) -> RunTransaction:
    def run(work: Callable[[sa.Connection], Any], *, write: bool = False) -> Any:  # noqa: ARG001
        with engine.begin() as connection:
            return work(connection)

    return run


def _mapper(row: Any) -> Mapper[Any] | None:
    try:
        return sa.inspect(type(row)) if not isinstance(row, Mapping) else None
    except NoInspectionAvailable:
        return None


def _attribute(row: Any, column: str) -> str:
    """The model attribute of a column: it may be called otherwise."""
    mapper = _mapper(row)
    if mapper is not None and column in mapper.local_table.c:
        return mapper.get_property_by_column(mapper.local_table.c[column]).key
    return column


def _get(row: Any, column: str) -> Any:
    if isinstance(row, Mapping):
        return row.get(column)
    return getattr(row, _attribute(row, column), None)


def _has(row: Any, column: str) -> bool:
    return column in row if isinstance(row, Mapping) else hasattr(row, _attribute(row, column))


def _set(row: Any, column: str, value: Any) -> None:
    if isinstance(row, MutableMapping):
        row[column] = value
    else:
        attribute = _attribute(row, column)
        setattr(row, attribute, value)
        if _mapper(row) is not None:
            # SQLAlchemy writes net changes only. Another writer may have changed this column since
            # the row was read: what belongs to the new key is written together or not at all.
            flag_modified(row, attribute)


def _now(row: Any, column: str) -> datetime:
    """The time now in UTC, with a zone where the column has one."""
    mapper = _mapper(row)
    zone = mapper is not None and column in mapper.local_table.c
    zone = zone and getattr(mapper.local_table.c[column].type, "timezone", False)  # type: ignore[union-attr]
    moment = datetime.now(UTC)
    return moment if zone else moment.replace(tzinfo=None)


def _stored(row: Any, column: str) -> Any:
    """A primary-key value as the database stores it.

    SQLAlchemy's Uuid is a ``uuid.UUID`` in the model but 32 hexadecimal digits in SQLite, say.
    dekctl reads what is stored, and both must come to the same encryption context.
    """
    value = _get(row, column)
    mapper = _mapper(row)
    session = object_session(row) if mapper is not None else None
    if value is None or mapper is None or session is None or column not in mapper.local_table.c:
        return value
    dialect = session.get_bind(mapper).dialect
    process = mapper.local_table.c[column].type.dialect_impl(dialect).bind_processor(dialect)
    return process(value) if process else value
