"""The library beside what applications do without it: boto3, the Encryption SDK, plaintexts.

``python -m bench.library`` measures reads and issues of data keys against the KMS stand-in, and
writes the table of ``docs/performance.md``. ``--print`` writes no file. The Encryption SDK takes
part where it is installed: ``pip install "dekctl[bench]"``.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import sqlalchemy as sa
from botocore.config import Config
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from bench import report
from dekctl.kms import AWSKMS
from dekctl.reader import KeyCache, KeyColumns, RowKeys
from support.kms_standin import KmsStandin
from support.v3_rows import v3_rows

DOCUMENT = Path(__file__).parents[2] / "docs" / "performance.md"
BEGIN, END = "<!-- library:begin -->", "<!-- library:end -->"
TIMES = 5
TIMES_IN_MEMORY = 50
"""What takes milliseconds is measured more often: on a busy machine, one try in many is quiet."""
THREADS = 64
DEADLINE = 60.0

PLAIN, BOTO, BOTO_THREADS = "plaintext column", "boto3, one by one", f"boto3, {THREADS} threads"
SDK = "Encryption SDK, caching"
V2, V2_MANY, V2_CACHED = "read, V2", "read_many, V2", "read, V2, KeyCache"
V3_MAPPING, V3_MODEL = "read, V3, mapping", "read, V3, instance in a session"
ISSUE, ISSUE_MANY = "issue", "issue_many"
READER, OTHERS = "import dekctl.reader", "import sqlalchemy.orm, boto3"


class Base(DeclarativeBase):
    pass


class File(KeyColumns, Base):
    """The model of the application."""

    __tablename__ = "encrypted_files"
    id: Mapped[int] = mapped_column(primary_key=True)


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds for each key: on the clock, and of this process's processor time."""

    name: str
    keys: int
    wall: float
    cpu: float


def timed(name: str, keys: int, work: Callable[[], object], times: int = 1) -> Timed:
    """The best of some times: other work on the machine only ever adds."""
    found = []
    for _ in range(times):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        found.append((time.perf_counter() - wall, time.process_time() - cpu))
    made = Timed(name, keys, min(w for w, _ in found) / keys, min(c for _, c in found) / keys)
    sys.stderr.write(f"{name}: {made.wall * 1e6:,.1f} us\n")
    return made


def each(read: Callable[[Any], object], rows: Sequence[Any]) -> Callable[[], None]:
    """Reads rows one by one."""

    def work() -> None:
        for row in rows:
            read(row)

    return work


class Library:
    """The contestants, each on rows of its own kind."""

    def __init__(self, standin: KmsStandin, folder: Path, rows: int) -> None:
        self.kek = standin.create_key()
        self.kms = AWSKMS(self.kek)
        self.keys = RowKeys(self.kms, deadline=DEADLINE)
        self.rows = rows
        self.engine = sa.create_engine(f"sqlite:///{folder / 'bench.db'}")
        Base.metadata.create_all(self.engine)
        self.v2: list[dict[str, Any]] = [{"id": number} for number in range(rows)]
        self.keys.issue_many(self.v2)

    def by_kms(self) -> list[Timed]:
        """Reads of which each is a call."""
        few = self.v2[: self.rows // 10]
        kms = boto3.client("kms", config=Config(max_pool_connections=THREADS))

        def decrypt(row: dict[str, Any]) -> Any:
            context = {"dekctl:table": "encrypted_files", "dekctl:pk": str(row["id"])}
            blob = row["wrapped_key"]
            return kms.decrypt(KeyId=self.kek, CiphertextBlob=blob, EncryptionContext=context)

        with ThreadPoolExecutor(THREADS) as pool:
            threads = timed(BOTO_THREADS, self.rows, lambda: list(pool.map(decrypt, self.v2)))
        return [
            timed(BOTO, len(few), each(decrypt, few)),
            threads,
            timed(V2, len(few), each(self.keys.read, few), 2),
            timed(V2_MANY, self.rows, lambda: self.keys.read_many(self.v2), TIMES),
        ]

    def in_memory(self) -> list[Timed]:
        """Reads that ask nobody."""
        many = self.v2[:1000]
        plain = timed(
            PLAIN, len(many), each(lambda row: row["encryption_key"], many), TIMES_IN_MEMORY
        )
        cached = RowKeys(
            self.kms, deadline=DEADLINE, cache=KeyCache(max_age=3600, max_entries=self.rows)
        )
        cached.read_many(many)
        found = [plain, timed(V2_CACHED, len(many), each(cached.read, many), TIMES_IN_MEMORY)]
        made = v3_rows(self.engine, self.kms, range(1000), rows_per_key=1000)
        mappings = [row for _, row in made.values()]
        keys = RowKeys(self.kms, engine=self.engine, deadline=DEADLINE)
        keys.read(mappings[0])
        found.append(timed(V3_MAPPING, len(many), each(keys.read, mappings), TIMES_IN_MEMORY))
        with Session(self.engine) as session:
            session.add_all([File(**row) for row in mappings])
            session.flush()
            files = session.scalars(sa.select(File)).all()
            keys = RowKeys(self.kms, deadline=DEADLINE)
            keys.read(files[0])
            found.append(timed(V3_MODEL, len(files), each(keys.read, files), TIMES_IN_MEMORY))
        return found

    def issuing(self) -> list[Timed]:
        """New keys for rows of a session."""
        count = min(1000, self.rows)
        with Session(self.engine) as session:
            files = [File(id=10_000 + number) for number in range(count + count // 10)]
            session.add_all(files)
            session.flush()
            few, many = files[: count // 10], files[count // 10 :]
            return [
                timed(ISSUE, len(few), each(self.keys.issue, few)),
                timed(ISSUE_MANY, len(many), lambda: self.keys.issue_many(many)),
            ]

    def encryption_sdk(self) -> list[Timed]:
        """The same key material from a message of the SDK, its data key in its cache."""
        if importlib.util.find_spec("aws_encryption_sdk") is None:
            return []
        sdk: Any = importlib.import_module("aws_encryption_sdk")
        client = sdk.EncryptionSDKClient()
        provider = sdk.StrictAwsKmsMasterKeyProvider(key_ids=[self.kek])
        manager = sdk.CachingCryptoMaterialsManager(
            master_key_provider=provider,
            cache=sdk.LocalCryptoMaterialsCache(1000),
            max_age=3600.0,
            max_messages_encrypted=10_000,
        )
        context = {"dekctl:table": "encrypted_files"}
        message, _ = client.encrypt(
            source=os.urandom(32), materials_manager=manager, encryption_context=context
        )
        messages = [message] * 200

        def read(source: bytes) -> Any:
            return client.decrypt(source=source, materials_manager=manager)

        read(message)
        return [timed(SDK, len(messages), each(read, messages), TIMES)]


def imports() -> list[Timed]:
    """What it takes to import, in a new process whose modules are compiled."""
    found = []
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as bytecode:
        environ["PYTHONPYCACHEPREFIX"] = bytecode
        for name in (READER, OTHERS):
            code = f"import time; b = time.process_time(); {name}; print(time.process_time() - b)"
            command = [sys.executable, "-c", code]
            seconds = [
                float(subprocess.check_output(command, env=environ, text=True))
                for _ in range(TIMES + 1)
            ]
            cpu = statistics.median(seconds[1:])
            found.append(Timed(name, 1, cpu, cpu))
    return found


def table(found: Sequence[Timed]) -> str:
    """The figures, for people."""
    lines = ["| | keys | time per key | processor time |", "|---|---:|---:|---:|"]
    lines += [f"| {m.name} | {m.keys:,} | {_time(m.wall)} | {_time(m.cpu)} |" for m in found]
    return "\n".join(lines)


def _time(seconds: float) -> str:
    micros = seconds * 1e6
    return f"{micros / 1000:,.2f} ms" if micros >= 1000 else f"{micros:,.2f} µs"


def targets(found: Sequence[Timed]) -> str:
    """What was wanted, and what was measured."""
    by_name = {m.name: m for m in found}
    imported = {m.name: m.cpu for m in found if m.name in (READER, OTHERS)}
    lines = [
        (f"{V3_MAPPING}, µs at most", 12.0, by_name[V3_MAPPING].cpu * 1e6),
        (f"{V3_MODEL}, µs at most", 20.0, by_name[V3_MODEL].cpu * 1e6),
        (f"{V2_CACHED}, µs at most", 12.0, by_name[V2_CACHED].cpu * 1e6),
        (f"{V2_MANY}, times {V2}", 20.0, by_name[V2].wall / by_name[V2_MANY].wall),
        (f"{ISSUE_MANY}, times {ISSUE}", 20.0, by_name[ISSUE].wall / by_name[ISSUE_MANY].wall),
        (f"{READER}, part of: {OTHERS}, at most", 1.0, imported[READER] / imported[OTHERS]),
    ]
    text = ["| target | wanted | measured |", "|---|---:|---:|"]
    text += [f"| {name} | {wanted:,} | {value:,.2f} |" for name, wanted, value in lines]
    return "\n".join(text)


def measure(latency: float, rows: int) -> str:
    """Measure everything; return the text for the document."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        KmsStandin.start(tls=True, verify_signatures=False) as standin,
    ):
        os.environ |= standin.environment()
        library = Library(standin, Path(folder), rows)
        standin.set_latency(latency)
        found = library.by_kms() + library.issuing()
        found += library.in_memory() + library.encryption_sdk()
        library.kms.close()
        library.engine.dispose()
    found += imports()
    return "\n\n".join([report.machine(latency), table(found), targets(found)])


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.library", description=__doc__)
    parser.add_argument("--latency", type=float, default=0.005, help="response time of KMS")
    parser.add_argument("--rows", type=int, default=5000, help="rows that are read at once")
    parser.add_argument("--print", action="store_true", help="print only; write no file")
    options = parser.parse_args()
    text = measure(options.latency, options.rows)
    sys.stdout.write(text + "\n")
    if not options.print:
        document = DOCUMENT.read_text(encoding="utf-8")
        DOCUMENT.write_text(report.put_between_marks(document, text, BEGIN, END), encoding="utf-8")


if __name__ == "__main__":
    main()
