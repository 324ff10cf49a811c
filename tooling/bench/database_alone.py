"""What the database can do: the same reading and writing without any KMS, and nothing of dekctl.

Pages are read and written in turn by two connections, a reader and a writer in a thread, with the
fastest statements we know: binary COPY into a temporary table, an UPDATE join bounded by the key.
"""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor

import psycopg
from sqlalchemy import make_url

BLOB_BYTES = int(os.environ.get("BENCH_BLOB_BYTES", "184"))
PAGE = int(os.environ.get("BENCH_PAGE", "2000"))


def main() -> None:
    """Write a blob into every row."""
    url = make_url(os.environ["BENCH_DATABASE_URL"]).set(drivername="postgresql")
    dsn = url.render_as_string(hide_password=False)
    kek, blob = os.environ["BENCH_KEK"], bytes(BLOB_BYTES)

    started = time.monotonic()
    with (
        psycopg.connect(dsn) as reader,
        psycopg.connect(dsn) as writer,
        ThreadPoolExecutor(1) as thread,
    ):
        writer.execute(
            "CREATE TEMPORARY TABLE changes (id bigint, blob bytea, version text, kek text) "
            "ON COMMIT DELETE ROWS"
        )
        writer.commit()

        def write(keys: list[int]) -> None:
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

        after, writing = 0, None
        while page := reader.execute(
            "SELECT id, encryption_key FROM encrypted_files WHERE id > %s ORDER BY id LIMIT %s",
            (after, PAGE),
            binary=True,
        ).fetchall():
            reader.commit()
            after = page[-1][0]
            before: Future[None] | None = writing
            writing = thread.submit(write, [row[0] for row in page])
            if before is not None:
                before.result()
        if writing is not None:
            writing.result()
    sys.stdout.write(json.dumps({"seconds": time.monotonic() - started}) + "\n")


if __name__ == "__main__":
    main()
