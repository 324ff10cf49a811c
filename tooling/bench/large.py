"""The commands that look at a whole table, on a large one: ``python -m bench.large [ROWS]``."""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from bench.lab import Lab
from sandbox.mariadb import MariaDBServer

BEGIN, END = "<!-- large:begin -->", "<!-- large:end -->"
LARGE = 10_000_000
CHUNKS = 10
"""The table is filled in so many statements; the rows of the first are under another KEK."""
TIMES = 2


@dataclass(frozen=True)
class Kind:
    """A database, and its SQL for a table of wrapped keys, of which no two are the same."""

    name: str
    database: Callable[[Lab], contextlib.AbstractContextManager[str]]
    columns: str
    fill: str
    analyze: str


@contextlib.contextmanager
def _postgresql(lab: Lab) -> Iterator[str]:
    yield lab.postgres.create_database("large")
    lab.postgres.sql("DROP DATABASE large WITH (FORCE)")


@contextlib.contextmanager
def _mariadb(_lab: Lab) -> Iterator[str]:
    with MariaDBServer.start() as server:
        yield server.create_database("large")


@contextlib.contextmanager
def _sqlite(lab: Lab) -> Iterator[str]:
    file = lab.folder / "large.db"
    file.touch()
    yield f"sqlite:///{file}"
    for path in Path(lab.folder).glob("large.db*"):
        path.unlink()


INSERT = (
    "INSERT INTO encrypted_files "
    "(id, filename, size, wrapped_key, wrapped_key_version, kek_id) SELECT "
)
KINDS = (
    Kind(
        "PostgreSQL",
        _postgresql,
        "id bigint PRIMARY KEY, filename text, size bigint, encryption_key bytea",
        f"{INSERT} i, 'file-' || i || '.bin', i, decode(repeat(md5(i\\:\\:text), 11), 'hex'), 'V2',"
        " '{kek}' FROM generate_series({first}, {last}) AS i",
        "VACUUM ANALYZE encrypted_files",
    ),
    Kind(
        "MariaDB",
        _mariadb,
        "id bigint PRIMARY KEY, filename varchar(100), size bigint, encryption_key varbinary(64)",
        f"{INSERT} seq, CONCAT('file-', seq, '.bin'), seq, REPEAT(UNHEX(MD5(seq)), 11), 'V2', "
        "'{kek}' FROM seq_{first}_to_{last}",
        "ANALYZE TABLE encrypted_files",
    ),
    Kind(
        "SQLite",
        _sqlite,
        "id INTEGER PRIMARY KEY, filename TEXT, size INTEGER, encryption_key BLOB",
        f"{INSERT} i, 'file-' || i || '.bin', i, randomblob(176), 'V2', '{{kek}}' FROM ("
        "WITH RECURSIVE s(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM s WHERE i < {last}) "
        "SELECT i FROM s)",
        "ANALYZE",
    ),
)


def measure(rows: int) -> str:
    """Seconds of each command, the process included; a Markdown table."""
    lines = [
        "| database | command | rows | seconds | processor seconds of the client |",
        "|---|---|---:|---:|---:|",
    ]
    with Lab(0.005) as lab:
        for kind in KINDS:
            with kind.database(lab) as lab.url:
                lab.write_config("V2")
                lines += _of(kind, lab, rows)
    return "\n".join(lines)


def _of(kind: Kind, lab: Lab, rows: int) -> Iterator[str]:
    old = lab.kms.create_key()
    engine = sa.create_engine(lab.url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)

    def execute(statement: str) -> None:
        with engine.connect() as connection:
            connection.execute(sa.text(statement))

    execute(f"CREATE TABLE encrypted_files ({kind.columns})")
    _run(lab, "schema", "expand")
    for chunk in range(CHUNKS):
        first, last = (rows * (chunk + i) // CHUNKS for i in range(2))
        kek = lab.kek if chunk else old
        execute(kind.fill.format(first=first + 1, last=last, kek=kek))
    execute(kind.analyze)
    for arguments, of_what, expect in (
        (("status",), "", (0,)),
        (("doctor",), "", (0, 4)),
        (("retire", old), " (a KEK in use)", (3,)),
        (("retire", lab.kms.create_key()), " (a KEK of no row)", (0, 3)),
    ):
        seconds, processor = min(_run(lab, *arguments, expect=expect) for _ in range(TIMES))
        name = arguments[0] + of_what
        yield f"| {kind.name} | {name} | {rows:,} | {seconds:.1f} | {processor:.1f} |"


def _run(lab: Lab, *arguments: str, expect: tuple[int, ...] = (0,)) -> tuple[float, float]:
    """Run a command; its seconds, and those of the processor that its process took."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        lab.dekctl(*arguments),
        env=lab.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in expect:
        raise RuntimeError(done.stdout + done.stderr)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, processor


if __name__ == "__main__":
    sys.stdout.write(measure(int(sys.argv[1]) if sys.argv[1:] else LARGE) + "\n")
