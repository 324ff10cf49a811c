"""Tables of many shapes on each database, each beside what that database alone can do.

A shape is data: its key, its further columns, and what is done to the table. Each repetition
measures dekctl and the raw driver of :mod:`bench.database_limits` in turn, each on a fresh copy of
the same rows, so that their ratio hardly depends on what else the machine does. What a command
costs without rows is measured too, so that the table can say what holds a shape. Keys are wrapped
by a KEK in this process: KMS would be the limit otherwise, and hide the table.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from bench.database_limits import limit
from bench.spent import Costs, Spent, spending
from dekctl.config import load_config
from dekctl.operations.base import Verb
from dekctl.operations.scrub import Scrub
from dekctl.operations.verify import Verify
from dekctl.operations.wrap import Wrap
from dekctl.project import Project
from dekctl.walk.options import RowOptions
from dekctl.walk.run import run_rows
from dekctl.workflows.schema import run_step
from sandbox.mariadb import MariaDBServer
from sandbox.postgres import PostgresServer

PARTS = """Where the time of a row goes beyond a command's fixed cost, in µs: *client / server /
waiting*. The first two are processor time; *waiting* is when neither had a processor."""
TARGET = 0.6
"""The part of its limit that each shape should reach."""
BEGIN, END = "<!-- shapes:begin -->", "<!-- shapes:end -->"
QUICK_ROWS, QUICK_REPEATS = 2_000, 3
ROWS, REPEATS = 40_000, 3
VERBS = {"wrap": Wrap(), "verify": Verify(), "scrub": Scrub()}
TYPES = {
    "postgresql": {"integer": "bigint", "uuid": "uuid", "text": "varchar(36)", "blob": "bytea"},
    "mysql": {"integer": "bigint", "uuid": "binary(16)", "text": "varchar(36)", "blob": "longblob"},
    "sqlite": {"integer": "INTEGER", "uuid": "BLOB", "text": "TEXT", "blob": "BLOB"},
}
KEY_TYPE = {"postgresql": "bytea", "mysql": "varbinary(64)", "sqlite": "BLOB"}
NAMES = {"postgresql": "PostgreSQL", "mysql": "MariaDB", "sqlite": "SQLite"}


def _uuid(i: int) -> UUID:
    return UUID(int=i * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)  # far apart, in no order


@dataclass(frozen=True)
class Shape:
    """A table, and how its rows are made."""

    name: str
    keys: Mapping[str, str] = field(default_factory=lambda: {"id": "integer"})
    make_key: Callable[[int], tuple[Any, ...]] = lambda i: (i,)
    payload: int = 0
    """Bytes of a further column."""
    indexes: int = 0
    """Further columns, each with an index."""
    suffix: Mapping[str, str] = field(default_factory=dict)
    """What stands after the columns, for each database that has it; empty: all have."""
    generations: int = 1
    """So many rows are inserted for each that is left."""
    trigger: bool = True
    """Whether it has the row trigger that ``schema expand`` makes."""
    part: float = 1.0
    """So many of the rows of other shapes."""


SHAPES = (
    Shape("integer keys"),
    Shape("random UUIDs", {"id": "uuid"}, lambda i: (_uuid(i),)),
    Shape("text UUIDs", {"id": "text"}, lambda i: (str(_uuid(i)),)),
    Shape("2 KB rows", payload=1800),
    Shape("five indexes", indexes=5),
    Shape(
        "composite keys", {"tenant": "integer", "name": "text"}, lambda i: (i // 100, f"file-{i}")
    ),
    Shape("100 KB rows", payload=100_000, part=0.05),
    Shape(
        "eight partitions",
        suffix=dict.fromkeys(("postgresql", "mysql"), "PARTITION BY HASH (id)"),
    ),
    Shape("bloated", generations=4),
    Shape("fillfactor 50", suffix={"postgresql": "WITH (fillfactor = 50)"}),
    Shape("no row trigger", trigger=False),
)


@dataclass
class Found:
    """Rows per second of one verb on one shape, each repetition: dekctl's and the limit's."""

    rows: int
    rates: list[float] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)
    costs: Costs = field(default_factory=Costs, compare=False)
    """What it was spent on; of an earlier run nothing is read but the rates."""

    @property
    def ratios(self) -> list[float]:
        """dekctl's part of the limit in each repetition; its rate where there is no limit."""
        if not self.limits:
            return self.rates
        return [rate / most for rate, most in zip(self.rates, self.limits, strict=True)]

    @property
    def held_by(self) -> str:
        """What keeps it below the target; empty where it is not."""
        return "" if statistics.median(self.ratios) >= TARGET else self.costs.held_by(self.rows)


class Table:
    """A table of one shape in a database of its own, filled again for each measurement."""

    def __init__(self, url: str, server: int | None, shape: Shape, rows: int, folder: Path) -> None:
        self.url, self.server, self.shape = url, server, shape
        self.rows = max(200, int(rows * shape.part))
        self.engine = sa.create_engine(url)
        self.kind = self.engine.dialect.name
        if self.kind == "sqlite":
            self._execute("PRAGMA journal_mode = WAL")
        self._create()
        config = folder / "dekctl.toml"
        key = json.dumps(list(shape.keys))
        context = shape.name.replace(" ", "_")  # MariaDB: another database has one of each name
        config.write_text(
            f"[table]\nprimary_key = {key}\ncontext_name = '{context}'\n[env.bench]\n"
            f"database_url = {json.dumps(url)}\nprovider = 'env'\n"
        )
        self.config = config
        with self.project() as project:
            run_step(project, "expand", trigger=shape.trigger)

    def project(self) -> Project:
        """dekctl's view of it."""
        return Project(load_config(self.config, "bench"))

    def _create(self) -> None:
        shape, types = self.shape, TYPES[self.kind]
        keys = [f"{name} {types[kind]}" for name, kind in shape.keys.items()]
        columns = ["filename varchar(100)", f"encryption_key {KEY_TYPE[self.kind]}"]
        columns += [f"payload {types['blob']}"] if shape.payload else []
        columns += [f"column{i} {types['integer']}" for i in range(shape.indexes)]
        names = ", ".join([*shape.keys, *(c.split()[0] for c in columns)])
        primary = (
            "id INTEGER PRIMARY KEY"
            if (self.kind, list(shape.keys.values())) == ("sqlite", ["integer"])
            else f"{', '.join(f'{key} NOT NULL' for key in keys)}, "
            f"PRIMARY KEY ({', '.join(shape.keys)})"
        )
        suffix = shape.suffix.get(self.kind, "")
        parted = suffix.startswith("PARTITION")
        if parted and self.kind == "mysql":
            suffix += " PARTITIONS 8"
        if not parted and self.kind == "postgresql":
            suffix = suffix.replace(")", ", autovacuum_enabled = off)") or (
                "WITH (autovacuum_enabled = off)"
            )
        self._execute(f"CREATE TABLE encrypted_files ({', '.join([*columns, primary])}) {suffix}")
        if parted and self.kind == "postgresql":
            for i in range(8):
                self._execute(
                    f"CREATE TABLE part{i} PARTITION OF encrypted_files FOR VALUES WITH "
                    f"(MODULUS 8, REMAINDER {i}) WITH (autovacuum_enabled = off)"
                )
        if shape.payload and self.kind == "postgresql":
            self._execute("ALTER TABLE encrypted_files ALTER payload SET STORAGE EXTERNAL")
        for i in range(shape.indexes):
            self._execute(f"CREATE INDEX index{i} ON encrypted_files (column{i})")
        self._names = names
        self._execute(f"CREATE TABLE template AS SELECT {names} FROM encrypted_files WHERE 1 = 0")
        table = sa.table("template", *map(sa.column, names.split(", ")))
        with self.engine.begin() as connection:
            for first in range(0, self.rows * shape.generations, 500):
                last = min(first + 500, self.rows * shape.generations)
                rows = [self._row(names.split(", "), i) for i in range(first, last)]
                connection.execute(table.insert(), rows)

    def _row(self, names: Sequence[str], i: int) -> dict[str, Any]:
        key = [
            part.bytes if isinstance(part, UUID) and self.kind != "postgresql" else part
            for part in self.shape.make_key(i)
        ]
        values: dict[str, Any] = dict(zip(self.shape.keys, key, strict=True))
        values |= {"filename": f"file-{i}", "encryption_key": os.urandom(32)}
        values["payload"] = os.urandom(100) * (self.shape.payload // 100)
        return {name: values.get(name, i * 7919 % 10_007) for name in names}

    def _execute(self, *statements: str) -> None:
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for statement in statements:
                connection.execute(sa.text(statement))

    def empty(self) -> None:
        """No rows."""
        empty = "DELETE FROM" if self.kind == "sqlite" else "TRUNCATE"
        self._execute(f"{empty} encrypted_files")

    def fill(self) -> None:
        """Only plaintexts, as before the migration."""
        self.empty()
        last = ", ".join(self.shape.keys)
        self._execute(
            f"INSERT INTO encrypted_files ({self._names}) SELECT {self._names} FROM template "
            f"ORDER BY {last}",
        )
        if self.shape.generations > 1:
            self._execute(f"DELETE FROM encrypted_files WHERE id % {self.shape.generations} <> 0")
        if self.kind == "postgresql":
            self._execute(
                "ANALYZE encrypted_files"
                if self.shape.generations > 1
                else "VACUUM ANALYZE encrypted_files"
            )
            self._execute("CHECKPOINT")
        elif self.kind == "mysql":
            self._execute("ANALYZE TABLE encrypted_files")

    def ours(self) -> tuple[Spent, dict[str, Spent]]:
        """What a verb spends without rows (the one with most guards), and each on all of them."""
        self.empty()
        fixed = self._run(VERBS["scrub"], 0)
        self.fill()
        return fixed, {name: self._run(verb, self.rows) for name, verb in VERBS.items()}

    def _run(self, verb: Verb, rows: int) -> Spent:
        with self.project() as project, spending(self.server) as spent:
            result = run_rows(project, verb, RowOptions())
        done = result.counts.changed + result.counts.proved
        assert done == rows, f"{self.shape.name}, {verb.name}: {result.as_json()}"
        return spent

    def limits(self) -> dict[str, Spent]:
        """What the database alone spends."""
        self.fill()
        found = {}
        for verb in ("wrap", "scrub"):
            with spending(self.server) as spent:
                seconds, written = limit(self.url, dict(self.shape.keys), verb)
            assert written == self.rows, f"{self.shape.name}: limit of {verb} wrote {written}"
            spent.clock = seconds  # without the time to connect
            found[verb] = spent
        return found


@contextlib.contextmanager
def databases(
    names: Sequence[str],
) -> Iterator[dict[str, tuple[Callable[[int], str], int | None]]]:
    """What makes an empty database, and the server's process id, for those this machine has."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        found: dict[str, tuple[Callable[[int], str], int | None]] = {}
        if "postgresql" in names and PostgresServer.find()[0]:
            postgres = stack.enter_context(PostgresServer.start())
            found["postgresql"] = lambda i: postgres.create_database(f"shape{i}"), postgres.pid
        if "mysql" in names and MariaDBServer.find()[0]:
            mariadb = stack.enter_context(MariaDBServer.start())
            found["mysql"] = lambda i: mariadb.create_database(f"shape{i}"), mariadb.pid
        if "sqlite" in names:

            def file(i: int) -> str:
                (folder / f"shape{i}.db").touch()
                return f"sqlite:///{folder / f'shape{i}.db'}"

            found["sqlite"] = file, None
        yield found


def measure(
    rows: int, repeats: int, names: Sequence[str] = tuple(NAMES), only: str = ""
) -> dict[str, Found]:
    """Measure every shape on every database; the keys are ``database / shape / verb``."""
    os.environ["DEKCTL_KEK"] = base64.b64encode(os.urandom(32)).decode()
    found: dict[str, Found] = {}
    gc.collect()
    gc.freeze()  # as the command line does
    gc.set_threshold(50_000, 20, 20)
    with databases(names) as makers, tempfile.TemporaryDirectory() as folder:
        tables: list[Table] = []
        for kind, (make, server) in makers.items():
            with _timed(f"{NAMES[kind]}: tables made"):
                for i, shape in enumerate(SHAPES):
                    if only in shape.name and (not shape.suffix or kind in shape.suffix):
                        own = Path(folder, f"{kind}{i}")
                        own.mkdir()
                        tables.append(Table(make(i), server, shape, rows, own))
        # Each pass over all tables is minutes from the next, so that the spread of a line's
        # repetitions has what else the machine did meanwhile.
        for number in range(1, repeats + 1):
            for kind in makers:
                with _timed(f"{NAMES[kind]}: measured, {number} of {repeats}"):
                    for each in tables:
                        if each.kind == kind:
                            _measure(each, found)
    return found


def _measure(table: Table, found: dict[str, Found]) -> None:
    (fixed, ours), limits = table.ours(), table.limits()
    table.engine.dispose()
    for verb, spent in ours.items():
        name = f"{NAMES[table.kind]} / {table.shape.name} / {verb}"
        one = found.setdefault(name, Found(table.rows))
        one.rates.append(table.rows / spent.clock)
        one.costs.fixed.append(fixed)
        one.costs.ours.append(spent)
        if verb in limits:
            one.limits.append(table.rows / limits[verb].clock)
            one.costs.limit.append(limits[verb])


@contextlib.contextmanager
def _timed(what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    sys.stderr.write(f"{what} in {time.monotonic() - began:.1f} s\n")


def table(found: Mapping[str, Found]) -> str:
    """Two Markdown tables with a line for each shape: rates, and where the time of a row goes."""
    rates = [
        "| database | shape | rows | wrap | of its limit | held by | verify "
        "| scrub | of its limit | held by |",
        "|---|---|---:|---:|---:|---|---:|---:|---:|---|",
    ]
    times = [
        "| database | shape | fixed, ms | wrap | its limit | scrub | its limit |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for name in dict.fromkeys(name.rpartition(" / ")[0] for name in found):
        wrap, verify, scrub = (found[f"{name} / {verb}"] for verb in VERBS)
        head = f"| {name.replace(' / ', ' | ')} |"
        of = [
            f"{_rate(f)} | {statistics.median(f.ratios):.2f} | {f.held_by}" for f in (wrap, scrub)
        ]
        rates.append(f"{head} {wrap.rows:,} | {of[0]} | {_rate(verify)} | {of[1]} |")
        fixed = scrub.costs.least_fixed.clock * 1000
        of = [f"{f.costs.our_parts(f.rows)} | {f.costs.limit_parts(f.rows)}" for f in (wrap, scrub)]
        times.append(f"{head} {fixed:.0f} | {of[0]} | {of[1]} |")
    return "\n".join([*rates, "", PARTS, "", *times])


def _rate(found: Found) -> str:
    return f"{statistics.median(found.rates):,.0f}"
