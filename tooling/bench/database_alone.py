"""What the database can do: the same reading and writing without any KMS, and nothing of dekctl.

The fastest we know: pages of 4,000 read by one connection and written by two others, with binary
COPY into a temporary table and an UPDATE join bounded by the key.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import psycopg
from psycopg.types.string import BytesBinaryDumper
from sqlalchemy import make_url

BLOB_BYTES = int(os.environ.get("BENCH_BLOB_BYTES", "184"))
PAGE = int(os.environ.get("BENCH_PAGE", "4000"))
WRITERS = int(os.environ.get("BENCH_WRITERS", "2"))
PAGES_AHEAD = 3


def new_writer(dsn: str) -> psycopg.Connection[Any]:
    """A connection with its temporary table."""
    writer = psycopg.connect(dsn)
    writer.adapters.register_dumper(bytes, BytesBinaryDumper)  # written in C
    writer.execute(
        "CREATE TEMPORARY TABLE changes (id bigint, blob bytea, version text, kek text) "
        "ON COMMIT DELETE ROWS"
    )
    writer.commit()
    return writer


def main() -> None:
    """Write a blob into every row."""
    url = make_url(os.environ["BENCH_DATABASE_URL"]).set(drivername="postgresql")
    dsn = url.render_as_string(hide_password=False)
    kek, blob = os.environ["BENCH_KEK"], bytes(BLOB_BYTES)
    free: SimpleQueue[psycopg.Connection[Any]] = SimpleQueue()

    def write(keys: list[int]) -> None:
        writer = free.get()
        cursor = writer.cursor()
        with cursor.copy("COPY changes FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int8", "bytea", "text", "text"])
            for key in keys:
                copy.write_row((key, blob, "V2", kek))
        cursor.execute(
            "UPDATE encrypted_files AS t SET wrapped_key = n.blob, wrapped_key_version = "
            "n.version, kek_id = n.kek FROM changes AS n WHERE t.id = n.id "
            "AND t.id BETWEEN %s AND %s AND t.wrapped_key IS NULL",
            (keys[0], keys[-1]),
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
            writing.append(threads.submit(write, [row[0] for row in page]))
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
