"""An application as it was before: a table with a raw data key in every row.

The files are really encrypted, so that a lost or exchanged key shows.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import sqlalchemy as sa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dekctl.config import Encoding, TableConfig
from dekctl.kms import KMSInterface
from dekctl.reader import RowKeys
from support.waiting import wait_until

Kind = Literal["sqlite", "postgresql", "mariadb"]
KeyShape = Literal["integer", "bigint", "uuid", "text", "composite"]
Storage = Literal["binary", "text"]

_NONCE = bytes(12)  # one message for each key


@dataclass
class AppDatabase:
    """A database of the application's own, made for one test."""

    kind: Kind
    url: str
    engine: sa.Engine = field(repr=False)

    def sql(self, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run one statement as the application would, and commit. Returns its rows, if any."""
        with self.engine.begin() as connection:
            result = connection.execute(sa.text(statement), parameters)
            return [tuple(row) for row in result] if result.returns_rows else []

    def wait_for_run(self) -> None:
        """Wait until a command has entered its run into the ledger."""
        wait_until(lambda: self.sql("SELECT 1 FROM dekctl_runs WHERE state = 'running'"))

    @contextmanager
    def past_the_trigger(self) -> Iterator[sa.Connection]:
        """A transaction in which the row trigger leaves the wrapped columns alone."""
        with self.engine.begin() as connection:
            found: list[tuple[str, str]] = []
            if self.kind == "postgresql":
                connection.exec_driver_sql("SET LOCAL dekctl.own_write = 'on'")
            elif self.kind == "mariadb":
                connection.exec_driver_sql("SET @dekctl_own_write = 1")
            else:
                mine = connection.exec_driver_sql(
                    "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' "
                    "AND name LIKE 'zz_dekctl_%'"
                )
                found = [(row.name, row.sql) for row in mine]
            for name, _ in found:
                connection.exec_driver_sql(f"DROP TRIGGER {name}")
            yield connection
            for _, sql in found:
                connection.exec_driver_sql(sql)
            if self.kind == "mariadb":
                connection.exec_driver_sql("SET @dekctl_own_write = NULL")

    def script(self, text: str, before: Callable[[str], None] = lambda _: None) -> None:
        """Run the statements of a script one by one, as an administrator's client does.

        ``before`` is called with each statement that is about to run.
        """
        raw = self.engine.raw_connection()
        try:
            cursor = raw.cursor()
            for statement in split_script(text):
                before(statement)
                cursor.execute(statement)
            raw.commit()
        finally:
            raw.close()


def split_script(text: str) -> Iterator[str]:
    """The statements of a script; semicolons inside are those of triggers and functions only."""
    # Neither comments nor what is said to SQLite's client alone.
    text = text.replace(" //\n", ";\n")
    unsaid = ("--", ".", "DELIMITER")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith(unsaid)]
    statement = ""
    for part in "\n".join(lines).split(";"):
        statement += part
        body = re.search("BEGIN UPDATE | THEN SET ", statement) and not re.search(
            r"END( IF)?\s*$", part
        )
        if body or statement.count("$dekctl$") == 1:
            statement += ";"
        elif statement.strip():
            yield statement.strip()
            statement = ""


@dataclass
class Application:
    """One table of keys in an :class:`AppDatabase`; the defaults are the seed's."""

    database: AppDatabase
    config: TableConfig = field(default_factory=TableConfig)
    key: KeyShape = "integer"
    storage: Storage = "binary"
    deks: dict[tuple[Any, ...], bytes] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.table = self._describe()

    # -- the legacy schema ---------------------------------------------------------------------

    def _describe(self) -> sa.Table:
        length = {"raw": 32, "hex": 64, "base64": 44}[self.config.plaintext_encoding]
        plaintext: sa.types.TypeEngine[Any] = sa.String(64)
        if self.storage == "binary":
            plaintext = sa.LargeBinary().with_variant(sa.VARBINARY(length), "mysql", "mariadb")
        return sa.Table(
            self.config.bare_name,
            sa.MetaData(),
            *self._key_columns(),
            sa.Column("filename", sa.String(100), nullable=False, index=True),
            sa.Column("size", sa.Integer, nullable=False, server_default="0"),
            sa.Column(self.config.plaintext_column, plaintext, nullable=False),
            sa.Column("ciphertext", sa.LargeBinary, nullable=False),
            schema=self.config.schema,
        )

    def _key_columns(self) -> list[sa.Column[Any]]:
        types: dict[str, list[sa.types.TypeEngine[Any]]] = {
            "integer": [sa.Integer()],
            "bigint": [sa.BigInteger()],
            "uuid": [sa.Uuid()],
            "text": [sa.String(64)],
            "composite": [sa.String(20), sa.Integer()],
        }
        made = zip(self.config.primary_key, types[self.key], strict=True)
        return [sa.Column(name, kind, primary_key=True, autoincrement=False) for name, kind in made]

    def create(self, rows: int = 0) -> Application:
        """Make the table, with so many encrypted files in it."""
        if self.config.schema:
            self.database.sql(f"CREATE SCHEMA {self._quote(self.config.schema)}")
        self.table.metadata.create_all(self.database.engine)
        self.add(rows)
        return self

    def add(self, rows: int, *, size: int = 32) -> list[tuple[Any, ...]]:
        """Upload files the legacy way. Returns the new primary keys, as the database has them."""
        keys = [os.urandom(size) for _ in range(rows)]
        return self._insert([(dek, self.encode(dek)) for dek in keys]) if keys else []

    def add_dek(self, dek: bytes, stored: bytes | str | None = None) -> tuple[Any, ...]:
        """Upload one file under this key; ``stored`` is what goes into the key column instead."""
        [pk] = self._insert([(dek, self.encode(dek) if stored is None else stored)])
        return pk

    def _insert(self, keys: Sequence[tuple[bytes, bytes | str]]) -> list[tuple[Any, ...]]:
        values = []
        added = []
        for dek, stored in keys:
            number = len(self.deks) + 1
            pk = self._primary_key(number)
            text = f"file {number}".encode()
            # A key of impossible size encrypts nothing.
            usable = len(dek) in (16, 24, 32)
            values.append(
                {
                    **dict(zip(self.config.primary_key, pk, strict=True)),
                    "filename": f"file {number}",
                    "size": len(text),
                    self.config.plaintext_column: stored,
                    "ciphertext": AESGCM(dek).encrypt(_NONCE, text, None) if usable else text,
                }
            )
            self.deks[pk] = dek
            added.append(pk)
        with self.database.engine.begin() as connection:
            connection.execute(self.table.insert(), values)
        return added

    def _primary_key(self, number: int) -> tuple[Any, ...]:
        match self.key:
            case "integer":
                return (number,)
            case "bigint":
                return (number * 10**12,)
            case "uuid":
                return (uuid.UUID(bytes=hashlib.sha256(b"%d" % number).digest()[:16], version=4),)
            case "text":
                return (f"Datei-{number:05d} ä'\"%:;",)
            case "composite":
                return (f"tenant-{number % 3}", number)

    def encode(self, dek: bytes) -> bytes | str:
        """A key as the application's column holds it."""
        encoding: Encoding = self.config.plaintext_encoding
        if encoding == "raw":
            return dek if self.storage == "binary" else dek.decode()
        text = dek.hex() if encoding == "hex" else base64.b64encode(dek).decode()
        return text if self.storage == "text" else text.encode()

    # -- what a test asks ----------------------------------------------------------------------

    def now(self) -> sa.Table:
        """The table as it is at the moment."""
        return sa.Table(
            self.config.bare_name,
            sa.MetaData(),
            *self._key_columns(),  # with the application's types
            schema=self.config.schema,
            autoload_with=self.database.engine,
        )

    def rows(self) -> dict[tuple[Any, ...], dict[str, Any]]:
        """Every row by primary key."""
        table = self.now()
        with self.database.engine.connect() as connection:
            found = [dict(row) for row in connection.execute(sa.select(table)).mappings()]
        return {tuple(row[c] for c in self.config.primary_key): row for row in found}

    def set(self, *pks: tuple[Any, ...], **values: Any) -> None:
        """Change rows behind dekctl's back, and behind its trigger's.

        ``plaintext``, ``wrapped``, … name their columns.
        """
        columns = {getattr(self.config, f"{name}_column"): v for name, v in values.items()}
        keys = self._key_columns()
        # Not the table as it is: to ask the database for that takes longer than the change.
        table = sa.table(
            self.config.bare_name,
            *(sa.column(key.name, key.type) for key in keys),
            *map(sa.column, columns),
            schema=self.config.schema,
        )
        where = [table.c[key.name] == sa.bindparam(f"key_{key.name}") for key in keys]
        rows = [{f"key_{k.name}": v for k, v in zip(keys, pk, strict=True)} for pk in pks]
        with self.database.past_the_trigger() as connection:
            done = connection.execute(table.update().where(*where).values(columns), rows)
            assert done.rowcount == len(pks)

    def shape(self) -> list[tuple[str, str, bool | None]]:
        """The columns: name, type, and whether NULL is allowed."""
        return sorted((c.name, str(c.type), c.nullable) for c in self.now().c)

    def keks(self) -> AbstractSet[str]:
        """The KEKs that rows name."""
        return {row[self.config.kek_column] for row in self.rows().values()}

    def versions(self) -> AbstractSet[str]:
        """The forms of wrapped keys that rows have."""
        return {row[self.config.version_column] for row in self.rows().values()}

    def foreign_fingerprint(self) -> str:
        """SHA-256 over all that is not dekctl's: it must be the same at the end of every story."""
        config = self.config
        owned = {
            config.plaintext_column,
            config.wrapped_column,
            config.version_column,
            config.kek_column,
            config.wrapped_at_column,
        }
        digest = hashlib.sha256()
        rows = self.rows()
        for pk in sorted(rows, key=repr):
            digest.update(
                repr(sorted((k, v) for k, v in rows[pk].items() if k not in owned)).encode()
            )
        return digest.hexdigest()

    def assert_files_open(
        self, provider: KMSInterface | None = None, keks: Sequence[str] | None = None
    ) -> None:
        """Read every file as the application does: wrapped key first, else the plaintext.

        Without a provider only plaintexts can be read. ``keks`` are accepted besides its own.
        """
        accepted = None if keks is None or provider is None else [*provider.keks, *keks]
        keys = RowKeys(provider, self.config, keks=accepted, engine=self.database.engine)
        rows = self.rows()
        config = self.config  # the application's model has the columns that expand will add
        columns = dict.fromkeys((config.wrapped_column, config.version_column, config.kek_column))
        assert set(rows) == set(self.deks), "a row is missing, or there is one too many"
        for pk, row in rows.items():
            dek = keys.read({**columns, **self._as_stored(row)})
            assert dek == self.deks[pk], f"row {pk} opens to another key"
            number = row["filename"].encode()
            assert AESGCM(dek).decrypt(_NONCE, row["ciphertext"], None) == number

    def _as_stored(self, row: dict[str, Any]) -> dict[str, Any]:
        """Primary keys as the database stores them: a UUID is text where there is no such type."""
        if self.key != "uuid" or self.database.kind == "postgresql":
            return row
        text = str if self.database.kind == "mariadb" else (lambda value: value.hex)
        return {**row, **{name: text(row[name]) for name in self.config.primary_key}}

    def counts(self) -> dict[str, int]:
        """Rows by what they hold, counted without dekctl."""
        found = dict.fromkeys(("plaintext_only", "both", "wrapped_only", "no_key"), 0)
        for row in self.rows().values():
            plaintext = row.get(self.config.plaintext_column) is not None
            wrapped = row.get(self.config.wrapped_column) is not None
            state = (
                ("both" if wrapped else "plaintext_only")
                if plaintext
                else ("wrapped_only" if wrapped else "no_key")
            )
            found[state] += 1
        return found

    def _quote(self, name: str) -> str:
        return str(self.database.engine.dialect.identifier_preparer.quote(name))
