"""What every row's key must be, whoever wrote it last, and the application that writes rows.

The oracle never looks at dekctl. It holds the key that each row was given, and says of a row as it
stands in the database whether that key can still be had, and no other.
"""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import sqlalchemy as sa

from dekctl.config import TableConfig
from dekctl.kms.context import V2, V3, context_for_version, row_context
from dekctl.kms.interface import KMSInterface, Unwrapped, UnwrapRequest
from support.branches import Branches, Unwrap

TABLE = "encrypted_files"


def opener(provider: KMSInterface) -> Unwrap:
    """Open wrapped keys with a provider that knows all KEKs."""

    def unwrap(blob: bytes, kek: str | None, context: Mapping[str, str] | None) -> bytes | None:
        answer = provider.unwrap_many([UnwrapRequest(blob, kek, context)])[0]
        return answer.plaintext if isinstance(answer, Unwrapped) else None

    return unwrap


@dataclass
class Oracle:
    """The keys of a table's rows.

    ``legacy`` are rows whose plaintext was written after their wrapped key, by an application that
    knows nothing of wrapped keys. Until ``wrap --stale`` their plaintext alone is right.
    """

    deks: dict[int, bytes] = field(default_factory=dict, repr=False)
    names: dict[int, str] = field(default_factory=dict)
    legacy: set[int] = field(default_factory=set)
    poison: set[int] = field(default_factory=set)
    config: TableConfig = field(default_factory=TableConfig)
    branches: Branches | None = field(default=None, repr=False)
    _opened: dict[tuple[int, bytes], bytes | None] = field(default_factory=dict, repr=False)

    def copy(self) -> Oracle:
        """What is known now."""
        return Oracle(dict(self.deks), dict(self.names), set(self.legacy), set(self.poison))

    def become(self, other: Oracle) -> None:
        """Know what ``other`` knew: a fail-over has undone what was written since."""
        known = other.copy()
        self.deks, self.names = known.deks, known.names
        self.legacy, self.poison = known.legacy, known.poison

    def check(self, rows: Mapping[int, Mapping[str, Any]], unwrap: Unwrap) -> None:
        """Fail where a row's key is lost, or is another one, or a row is missing or changed."""
        if self.branches is not None:
            self.branches.read()
        assert set(rows) == set(self.deks), "rows are missing, or there are too many"
        for number, row in rows.items():
            problem = self.problem(number, row, unwrap)
            assert problem is None, f"row {number}: {problem}"

    def problem(self, number: int, row: Mapping[str, Any], unwrap: Unwrap) -> str | None:
        """What is wrong with a row; None where its key can be had. Shows no key."""
        dek = self.deks[number]
        if row["filename"] != self.names[number] or row.get("touched") not in (None, "then"):
            return "a column that is not dekctl's was changed"
        plaintext, wrapped = row.get("encryption_key"), row.get("wrapped_key")
        if plaintext is not None and bytes(plaintext) != dek:
            return "its plaintext is another key"
        if wrapped is None:
            if row.get("kek_id") is not None or row.get("wrapped_key_version") is not None:
                return "it is left half-way: a KEK or a version without a wrapped key"
            return "it has no key at all" if plaintext is None else None
        if plaintext is not None and number in self.legacy:
            return None
        opened = self.open(number, row, unwrap)
        if opened is None:
            return "its wrapped key does not open"
        if opened != dek:
            return "its wrapped key opens to another key"
        return None

    def open(self, number: int, row: Mapping[str, Any], unwrap: Unwrap) -> bytes | None:
        """Open a row's wrapped key; what KMS opened once is remembered."""
        blob, version = bytes(row["wrapped_key"]), row["wrapped_key_version"]
        context = context_for_version(version, self.config.context_name, (number,))
        if version == V3:  # not remembered: its branch key may be gone
            return self._opener(version, unwrap)(blob, row["kek_id"], context)
        if (number, blob) not in self._opened:
            self._opened[number, blob] = unwrap(blob, row["kek_id"], context)
        return self._opened[number, blob]

    def _opener(self, version: str, unwrap: Unwrap) -> Unwrap:
        if version != V3:
            return unwrap
        assert self.branches is not None, "this story was to have no V3 rows"
        return self.branches.opener(unwrap)

    def check_exchange(self, rows: Mapping[int, Mapping[str, Any]], unwrap: Unwrap) -> int:
        """Put each row's wrapped key into its neighbour's place: it must not open there.

        Returns how many exchanges were tried.
        """
        numbers = [
            n
            for n, row in rows.items()
            if row.get("wrapped_key") is not None and row["wrapped_key_version"] in (V2, V3)
        ]
        for mine, other in pairwise(numbers):
            row = rows[mine]
            context = row_context(self.config.context_name, (other,))
            opener = self._opener(row["wrapped_key_version"], unwrap)
            assert opener(bytes(row["wrapped_key"]), row["kek_id"], context) is None, (
                f"the wrapped key of row {mine} opens in the place of row {other}"
            )
        return max(0, len(numbers) - 1)


class Writer:
    """The application: inserts, re-keys and deletes rows, the old way and through the library."""

    def __init__(self, engine: sa.Engine, oracle: Oracle, *, seed: int = 0) -> None:
        self.engine = engine
        self.oracle = oracle
        self.provider: KMSInterface | None = None
        self.random = random.Random(seed)  # noqa: S311 - which row, not which key
        self.lock = threading.Lock()
        self.writes = 0
        self._next = 1

    def create_table(self) -> None:
        """Make the table as it was before dekctl, after removing what a story before left."""
        with self.engine.begin() as connection:
            for name in sa.inspect(connection).get_table_names():
                connection.exec_driver_sql(f"DROP TABLE {name}")
            blob = {"mysql": "VARBINARY(64)", "mariadb": "VARBINARY(64)", "postgresql": "BYTEA"}
            kind = connection.dialect.name
            touched = "touched VARCHAR(20) DEFAULT 'then'"
            if kind in ("mysql", "mariadb"):
                # What an application often has, and what no write of dekctl's may set off.
                touched += ", at TIMESTAMP NULL DEFAULT NULL ON UPDATE CURRENT_TIMESTAMP"
            connection.exec_driver_sql(
                f"CREATE TABLE {TABLE} (id INTEGER PRIMARY KEY, filename VARCHAR(50) NOT NULL, "
                f"{touched}, encryption_key {blob.get(kind, 'BLOB')} NOT NULL)"
            )

    def columns(self, connection: sa.Connection) -> set[str]:
        """The table's columns now."""
        return {c["name"] for c in sa.inspect(connection).get_columns(TABLE)}

    def rows(self) -> dict[int, dict[str, Any]]:
        """Every row by its number."""
        with self.engine.connect() as connection:
            found = connection.execute(sa.text(f"SELECT * FROM {TABLE} ORDER BY id")).mappings()
            return {row["id"]: dict(row) for row in found}

    def insert(self, count: int = 1, *, size: int = 32, poison: bool = False) -> None:
        """Upload files the old way: a plaintext. A poison row's key has a size that no key has."""
        with self.lock:
            numbers = range(self._next, self._next + count)
            self._next += count
            keys = {n: os.urandom(5 if poison else size) for n in numbers}
            with self.engine.begin() as connection:
                connection.execute(
                    sa.text(
                        f"INSERT INTO {TABLE} (id, filename, encryption_key) VALUES (:id, :f, :k)"
                    ),
                    [{"id": n, "f": f"file {n}", "k": k} for n, k in keys.items()],
                )
            for n, key in keys.items():
                self.oracle.deks[n], self.oracle.names[n] = key, f"file {n}"
            if poison:
                self.oracle.poison.update(numbers)
            self.writes += count

    def rekey(self) -> bool:
        """Give some row a new key the old way, whatever else is in it."""
        with self.lock:
            number = self._some(set(self.oracle.deks))
            if number is None:
                return False
            key = os.urandom(self.random.choice((16, 24, 32)))
            with self.engine.begin() as connection:
                self._set(connection, number, {"encryption_key": key})
            self.oracle.deks[number] = key
            self.oracle.legacy.add(number)
            self.oracle.poison.discard(number)
            self.writes += 1
            return True

    def issue(self, *, new: bool = False) -> bool:
        """Give a new or some old row a key through the library: wrapped, and no plaintext."""
        assert self.provider is not None
        with self.lock:
            number = self._next if new else self._some(set(self.oracle.deks))
            if number is None:
                return False
            self._next += 1 if new else 0
            opened, wrapped = self.provider.generate(
                32, row_context(self.oracle.config.context_name, (number,))
            )
            values = {
                "wrapped_key": wrapped.blob,
                "wrapped_key_version": V2,
                "kek_id": wrapped.kek_id,
            }
            with self.engine.begin() as connection:
                if "encryption_key" in self.columns(connection):
                    values["encryption_key"] = None  # type: ignore[assignment]
                if new:
                    values |= {"id": number, "filename": f"file {number}"}  # type: ignore[dict-item]
                    names = ", ".join(values)
                    marks = ", ".join(f":{name}" for name in values)
                    connection.execute(
                        sa.text(f"INSERT INTO {TABLE} ({names}) VALUES ({marks})"), values
                    )
                else:
                    self._set(connection, number, values)
            self.oracle.deks[number] = opened.plaintext
            self.oracle.names.setdefault(number, f"file {number}")
            self.oracle.legacy.discard(number)
            self.oracle.poison.discard(number)
            self.writes += 1
            return True

    def delete(self, *, poison: bool = False) -> bool:
        """Remove some row, or some poison row."""
        with self.lock:
            number = self._some(self.oracle.poison if poison else set(self.oracle.deks))
            if number is None:
                return False
            with self.engine.begin() as connection:
                connection.execute(sa.text(f"DELETE FROM {TABLE} WHERE id = :id"), {"id": number})
            for known in (self.oracle.deks, self.oracle.names):
                known.pop(number)
            self.oracle.legacy.discard(number)
            self.oracle.poison.discard(number)
            self.writes += 1
            return True

    def _some(self, numbers: set[int]) -> int | None:
        return self.random.choice(sorted(numbers)) if numbers else None

    def _set(self, connection: sa.Connection, number: int, values: dict[str, Any]) -> None:
        sets = ", ".join(f"{name} = :{name}" for name in values)
        touched = ", at = at" if connection.dialect.name in ("mysql", "mariadb") else ""
        connection.execute(
            sa.text(f"UPDATE {TABLE} SET {sets}{touched} WHERE id = :id"), {**values, "id": number}
        )


def dump(oracle: Oracle) -> str:
    """An oracle as one line, for another process."""
    return json.dumps(
        {
            "deks": {n: key.hex() for n, key in oracle.deks.items()},
            "names": oracle.names,
            "legacy": sorted(oracle.legacy),
        }
    )


def load(line: str) -> Oracle:
    """The inverse of :func:`dump`."""
    data = json.loads(line)
    return Oracle(
        {int(n): bytes.fromhex(key) for n, key in data["deks"].items()},
        {int(n): name for n, name in data["names"].items()},
        set(data["legacy"]),
    )
