"""The commands that look at a whole table, on a large one: ``python -m bench.large [ROWS]``."""

from __future__ import annotations

import subprocess
import sys
import time

from bench.lab import Lab

BEGIN, END = "<!-- large:begin -->", "<!-- large:end -->"
LARGE = 10_000_000
WRAPPED = """INSERT INTO encrypted_files
    (id, filename, size, wrapped_key, wrapped_key_version, kek_id)
    SELECT i, 'file-' || i || '.bin', i, decode(repeat(md5(i::text), 11), 'hex'), 'V2', '{kek}'
    FROM generate_series({first}, {last}) AS i"""
AT_ONCE = 1_000_000
TIMES = 2


def measure(rows: int) -> str:
    """Seconds of each command, the process included; a Markdown table."""
    lines = ["| command | rows | seconds |", "|---|---:|---:|"]
    with Lab(0.005) as lab:
        lab.new_table(0)
        environment = lab.environment()

        def run(*arguments: str, expect: tuple[int, ...] = (0,)) -> float:
            began = time.monotonic()
            done = subprocess.run(
                lab.dekctl(*arguments),
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            seconds = time.monotonic() - began
            if done.returncode not in expect:
                raise RuntimeError(done.stdout + done.stderr)
            return seconds

        run("schema", "expand")
        database = lab.url.rpartition("/")[2]
        old = lab.kms.create_key()
        for first in range(1, rows + 1, AT_ONCE):
            last = min(rows, first + AT_ONCE - 1)
            kek = old if first == 1 else lab.kek
            lab.postgres.sql(WRAPPED.format(first=first, last=last, kek=kek), database)
        lab.postgres.sql("VACUUM ANALYZE encrypted_files", database)
        for command, expect in (
            (("status",), (0,)),
            (("doctor",), (0, 4)),
            (("retire", old), (3,)),
            (("retire", lab.kms.create_key()), (0, 3)),
        ):
            seconds = min(run(*command, expect=expect) for _ in range(TIMES))
            used = " (a KEK in use)" if command[-1] == old else ""
            name = command[0] + (used or (" (a KEK of no row)" if command[1:] else ""))
            lines.append(f"| {name} | {rows:,} | {seconds:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(measure(int(sys.argv[1]) if sys.argv[1:] else LARGE) + "\n")
