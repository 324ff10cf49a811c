"""What a careful engineer writes by hand: pages, boto3 in 64 threads, one UPDATE a page."""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import boto3
import psycopg
from botocore.config import Config
from sqlalchemy import make_url

THREADS = 64
PAGE = 1000


def main() -> None:
    """Wrap every row, bound to its primary key."""
    kek = os.environ["BENCH_KEK"]
    kms = boto3.client("kms", config=Config(max_pool_connections=THREADS))
    url = make_url(os.environ["BENCH_DATABASE_URL"]).set(drivername="postgresql")

    def wrap(row: tuple[int, bytes]) -> tuple[int, bytes]:
        context = {"dekctl:table": "encrypted_files", "dekctl:pk": str(row[0])}
        answer = kms.encrypt(KeyId=kek, Plaintext=row[1], EncryptionContext=context)
        return row[0], answer["CiphertextBlob"]

    started = time.monotonic()
    with (
        psycopg.connect(url.render_as_string(hide_password=False)) as connection,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        after = calls = 0
        while page := connection.execute(
            "SELECT id, encryption_key FROM encrypted_files WHERE id > %s ORDER BY id LIMIT %s",
            (after, PAGE),
        ).fetchall():
            after = page[-1][0]
            wrapped = list(pool.map(wrap, page))
            calls += len(wrapped)
            connection.execute(
                "UPDATE encrypted_files AS t SET wrapped_key = n.blob, "
                "wrapped_key_version = 'V2', kek_id = %s "
                "FROM unnest(%s::bigint[], %s::bytea[]) AS n (id, blob) WHERE t.id = n.id",
                (kek, [pk for pk, _ in wrapped], [blob for _, blob in wrapped]),
            )
            connection.commit()
    result = {"seconds": time.monotonic() - started, "kms_calls": {"Encrypt": calls}}
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
