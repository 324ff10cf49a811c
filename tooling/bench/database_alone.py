"""What the database can do: the same reading and writing without any KMS, and nothing of dekctl.

The fastest we know: pages of 4,000 read by one connection and written by two others, with binary
COPY into a temporary table and an UPDATE join bounded by the key; what is the same in all rows is
named once. With ``BENCH_COMPARE`` a row is written only if its plaintext is still what was read, by
its SHA-256, as dekctl does; without, if it has no wrapped key yet.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from queue import SimpleQueue
from typing import Any

import psycopg
from psycopg.types.string import BytesBinaryDumper
from sqlalchemy import make_url

BLOB_BYTES = 77  # of a key of 32 bytes, under a branch key
PAGE = 4000
WRITERS = int(os.environ["BENCH_WRITERS"])
COMPARE = bool(os.environ["BENCH_COMPARE"])
PAGES_AHEAD = 3


def new_writer(dsn: str) -> psycopg.Connection[Any]:
    """A connection with its temporary table."""
    writer = psycopg.connect(dsn)
    writer.adapters.register_dumper(bytes, BytesBinaryDumper)  # written in C
    writer.execute(
        "CREATE TEMPORARY TABLE changes (id bigint, blob bytea, hash bytea) ON COMMIT DELETE ROWS"
    )
    writer.commit()
    return writer


def main() -> None:
    """Write a blob into every row."""
    url = make_url(os.environ["BENCH_DATABASE_URL"]).set(drivername="postgresql")
    dsn = url.render_as_string(hide_password=False)
    kek, blob = os.environ["BENCH_KEK"], bytes(BLOB_BYTES)
    free: SimpleQueue[psycopg.Connection[Any]] = SimpleQueue()

    same = "t.wrapped_key IS NULL"
    if COMPARE:  # not "=": the planner would hash by it, and compute each SHA-256 twice
        same += " AND NOT (sha256(t.encryption_key) IS DISTINCT FROM n.hash)"

    def write(page: list[tuple[int, bytes]]) -> None:
        writer = free.get()
        cursor = writer.cursor()
        with cursor.copy("COPY changes FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int8", "bytea", "bytea"])
            for key, plaintext in page:
                copy.write_row((key, blob, sha256(plaintext).digest() if COMPARE else None))
        cursor.execute(
            "UPDATE encrypted_files AS t SET wrapped_key = n.blob, wrapped_key_version = 'V2', "
            "kek_id = %s FROM changes AS n WHERE t.id = n.id "
            f"AND t.id BETWEEN %s AND %s AND {same}",
            (kek, page[0][0], page[-1][0]),
        )
        writer.commit()
        free.put(writer)

    started = time.monotonic()
    with psycopg.connect(dsn) as reader, ThreadPoolExecutor(WRITERS) as threads:
        for _ in range(WRITERS):
            free.put(new_writer(dsn))
        writing: deque[Future[None]] = deque()
        after = 0
        while page := reader.execute(
            "SELECT id, encryption_key FROM encrypted_files WHERE id > %s ORDER BY id LIMIT %s",
            (after, PAGE),
            binary=True,
        ).fetchall():
            reader.commit()
            after = page[-1][0]
            writing.append(threads.submit(write, page))
            if len(writing) > PAGES_AHEAD:
                writing.popleft().result()
        while writing:
            writing.popleft().result()
    seconds = time.monotonic() - started
    while not free.empty():
        free.get().close()
    sys.stdout.write(json.dumps({"seconds": seconds}) + "\n")


if __name__ == "__main__":
    main()
