"""``dekctl audit`` over many events, beside ``json.loads`` alone on the same files.

``python -m bench.audit`` writes the table of ``docs/performance.md``. ``--print`` writes no file.
``--linked 10`` shows that ten million events take no more memory than one million.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench import report
from bench.measure import Measurement, run
from dekctl.audit.run import audit
from dekctl.config import load_config
from dekctl.project import Project
from support.audit_world import ACCOUNT, AuditWorld

DOCUMENT = Path(__file__).parents[2] / "docs" / "performance.md"
BEGIN, END = "<!-- audit:begin -->", "<!-- audit:end -->"
IN_A_FILE = 25_000
"""CloudTrail's files hold up to about 50 MB."""
ROWS = 100_000
PARSING, OURS, MIXED = "json.loads alone", "audit, all events", "audit, one event in ten"


def write_events(folder: Path, events: int, ours: int) -> AuditWorld:
    """A trail in which one event in ``ours`` is the application's, the others somebody else's."""
    world = AuditWorld(folder)
    others = {"bucketName": "photos", "key": "1.jpg"}
    alike = json.dumps(world.event(pk="PK"), separators=(",", ":"))
    other = json.dumps(
        world.record("s3", "GetBucketLocation", f"arn:aws:iam::{ACCOUNT}:role/web", others),
        separators=(",", ":"),
    )
    alike, other = (text.replace(f"{world.number:012d}", "NUMBER") for text in (alike, other))
    alike = alike.replace(f"{world.number - 1:012d}", "NUMBER")
    for first in range(0, events, IN_A_FILE):
        numbers = range(first, min(first + IN_A_FILE, events))
        text = ",".join(
            alike.replace("NUMBER", f"{n:012d}").replace('"PK"', f'"{n * 7919 % ROWS}"')
            if n % ours == 0
            else other.replace("NUMBER", f"{n:012d}")
            for n in numbers
        )
        file = world.write([], at=timedelta(minutes=10))
        file.write_bytes(gzip.compress(f'{{"Records":[{text}]}}'.encode(), 1))
    return world


def contest(folder: Path, *, parse: bool) -> None:
    """One contestant, in a process of its own: prints its seconds of processor time."""
    files = list((folder / "trail").rglob("*.json.gz"))
    seconds = 0.0
    if parse:
        for file in files:
            content = gzip.decompress(file.read_bytes())
            started = time.process_time()
            json.loads(content)
            seconds += time.process_time() - started
    else:
        project = Project(load_config(folder / "dekctl.toml"))
        started = time.process_time()
        result = audit(project, datetime.now(UTC) - timedelta(days=1), paths=[folder / "trail"])
        seconds = time.process_time() - started
        assert result.clean, result.matched.findings.kept
    sys.stdout.write(json.dumps({"seconds": seconds}) + "\n")


def memory(events: int, links: int) -> str:
    """The memory of an audit of ``events``, and of the same files under ``links`` names each.

    An event that comes again after so many others is judged again, as if it was another one.
    """
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        world = write_events(Path(folder), events, 1)
        files = list(world.trail.rglob("*.json.gz"))
        for number in (1, links):
            for file in files:
                head, _, tail = file.name.rpartition("_")
                for link in range(1, number):
                    os.link(file, file.with_name(f"{head}_{link}{tail}"))
            command = [sys.executable, "-m", "bench.audit", "--audit", folder]
            found = run(OURS, command, events * number, dict(os.environ))
            lines.append(f"{found.rows:,} events: {found.rate:,.0f}/s, {found.peak_mb:,.0f} MB")
    return "\n".join(lines)


def measure(largest: int) -> str:
    """The table, for trails of ``largest`` events and of a tenth of that."""
    found: list[tuple[int, Measurement]] = []
    environment = dict(os.environ)
    for events in (largest // 10, largest):
        for name, ours, option in (
            (PARSING, 1, "--parse"),
            (OURS, 1, "--audit"),
            (MIXED, 10, "--audit"),
        ):
            with tempfile.TemporaryDirectory() as folder:
                write_events(Path(folder), events, ours)
                command = [sys.executable, "-m", "bench.audit", option, folder]
                found.append((events, run(name, command, events, environment)))
    lines = ["| events | | events per second of one core | memory, MB |", "|---:|---|---:|---:|"]
    lines += [
        f"| {events:,} | {m.name} | {m.rate:,.0f} | {m.peak_mb:,.0f} |" for events, m in found
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.audit", description=__doc__)
    parser.add_argument(
        "--largest", type=int, default=1_000_000, help="events of the largest trail"
    )
    parser.add_argument(
        "--linked", type=int, metavar="N", help="print the memory for N times as many events"
    )
    parser.add_argument("--print", action="store_true", help="print only; write no file")
    parser.add_argument("--parse", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--audit", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.parse or options.audit:
        contest(options.parse or options.audit, parse=options.parse is not None)
        return
    if options.linked:
        sys.stdout.write(f"{memory(options.largest, options.linked)}\n")
        return
    text = measure(options.largest)
    sys.stdout.write(f"{text}\n")
    if not options.print:
        document = DOCUMENT.read_text(encoding="utf-8")
        DOCUMENT.write_text(report.put_between_marks(document, text, BEGIN, END), encoding="utf-8")


if __name__ == "__main__":
    main()
