"""What client and stand-in can do: the fast client, in batches, with nothing of the database."""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from dekctl.kms import AWSKMS
from dekctl.kms.context import row_context
from dekctl.kms.interface import WrapRequest

BATCH = 1000
WITH_KMS = 3


def main() -> None:
    """Wrap so many keys (first argument) with so many calls in flight (second)."""
    rows, concurrency = int(sys.argv[1]), int(sys.argv[2])
    kms = AWSKMS(os.environ["BENCH_KEK"], concurrency=concurrency)
    key = os.urandom(32)

    def wrap(first: int) -> None:
        kms.wrap_many(
            [
                WrapRequest(key, row_context("encrypted_files", (first + i,)))
                for i in range(min(BATCH, rows - first))
            ]
        )

    started = time.monotonic()
    with ThreadPoolExecutor(WITH_KMS) as pool:
        list(pool.map(wrap, range(0, rows, BATCH)))
    sys.stdout.write(json.dumps({"seconds": time.monotonic() - started}) + "\n")
    kms.close()


if __name__ == "__main__":
    main()
