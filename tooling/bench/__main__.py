"""``make bench``: measures everything side by side and writes the tables of docs/performance.md.

``--quick`` prints the table of shapes after less than two minutes. ``--compare OLD`` shows what
became slower than in the run that wrote OLD (``--json``), by more than the noise; with a second
file, in that run, and nothing is measured. ``--only NAME`` measures and writes one part.
``--largest 10000000`` measures the growth up to ten million rows, which takes a while: with V2
every row is a call.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench import (
    audit,
    beside,
    compare,
    large,
    library,
    processes,
    quota,
    report,
    shapes,
    start,
)
from bench.lab import Lab
from bench.measure import Measurement, run

TIMES = 3
"""How often what the targets are about is measured: other work on the machine comes and goes."""
SEED = "the seed's loop"
BOTO = "boto3, 64 threads"
DATABASE = "database alone, one writer (read, COPY, UPDATE join)"
DATABASE_2 = "database alone, two writers"
SWAP = "database alone, one writer, compare-and-swap"
SWAP_2 = "database alone, two writers, compare-and-swap"
KMS = "fast client and stand-in alone"
DATABASE_LIMITS = (SWAP, SWAP_2, DATABASE, DATABASE_2)
DOCUMENT = Path(__file__).parents[2] / "docs" / "performance.md"
JSON = Path(".dekctl", "bench.json")
COMPARED = JSON.with_name("bench-compared.json")
"""For the figures of a run that is compared with :data:`JSON`, which stays what it is."""
CHART = DOCUMENT.with_name("performance.svg")


class Bench:
    """The contestants, one after the other, each on a fresh table."""

    def __init__(self, lab: Lab, scale: float) -> None:
        self.lab = lab
        self.scale = scale

    def rows(self, rows: int) -> int:
        """So many rows, scaled."""
        return max(200, int(rows * self.scale))

    def table(self, rows: int) -> None:
        """A fresh table with room for wrapped keys."""
        self.lab.new_table(rows)
        run("expand", self.lab.dekctl("schema", "expand"), rows, self.lab.environment())

    def measure(
        self,
        name: str,
        rows: int,
        command: list[str],
        environ: Mapping[str, str] | None = None,
    ) -> Measurement:
        """Run one contestant on the table that was made last."""
        environment = {**self.lab.environment(), **(environ or {})}
        result = run(name, command, rows, environment)
        sys.stderr.write(f"{name}: {result.rate:,.0f} rows/s\n")
        return result

    def median(
        self,
        name: str,
        rows: int,
        command: list[str],
        environ: Mapping[str, str] | None = None,
    ) -> Measurement:
        """Run one contestant :data:`TIMES`, each on a fresh table; the one in the middle counts.

        The last table is left as the contestant left it.
        """
        found = []
        for _ in range(TIMES):
            self.table(rows)
            found.append(self.measure(name, rows, command, environ))
        return sorted(found, key=lambda measurement: measurement.rate)[TIMES // 2]

    def dekctl(self, name: str, rows: int, *arguments: str) -> Measurement:
        """Run dekctl on the table that was made last."""
        return self.measure(name, rows, self.lab.dekctl(*arguments))

    # -- the groups ----------------------------------------------------------------------------

    def before(self) -> list[Measurement]:
        """What there was before dekctl."""
        found = []
        for name, module, rows in (
            (SEED, "bench.seed_loop", self.rows(1_500)),
            (BOTO, "bench.boto3_threads", self.rows(6_000)),
        ):
            found.append(self.median(name, rows, self.lab.python("-m", module)))
        return found

    def limits(self) -> list[Measurement]:
        """What the client and the database can do, each without the other."""
        rows = self.rows(60_000)
        alone = self.lab.python("-m", "bench.kms_alone", str(rows), "128")
        found = [self.measure(KMS, rows, alone)]
        rows = self.rows(300_000)
        command = self.lab.python("-m", "bench.database_alone")
        for name, writers, swap in (
            (DATABASE, "1", ""),
            (DATABASE_2, "2", ""),
            (SWAP, "1", "1"),
            (SWAP_2, "2", "1"),
        ):
            environ = {"BENCH_WRITERS": writers, "BENCH_COMPARE": swap}
            found.append(self.median(name, rows, command, environ))
        return found

    def each_by_kms(self) -> list[Measurement]:
        """V2: every row is a KMS call."""
        rows = self.rows(100_000)
        found = [self.median("dekctl wrap", rows, self.lab.dekctl("wrap"))]
        found.append(self.dekctl("dekctl verify", rows, "verify"))
        target = self.lab.kms.create_key()
        found.append(self.dekctl("dekctl rewrap", rows, "rewrap", "--to", target))
        found.append(self.dekctl("dekctl scrub", rows, "scrub", "--yes"))
        return found

    def under_branch_keys(self) -> list[Measurement]:
        """V3: a KMS call for 10,000 rows."""
        rows = self.rows(300_000)
        wrap = self.lab.dekctl("wrap", "--hierarchical")
        found = [self.median("dekctl wrap (V3)", rows, wrap)]
        found.append(self.dekctl("dekctl verify (V3)", rows, "verify"))
        target = self.lab.kms.create_key()
        found.append(
            self.dekctl("dekctl rewrap (V3)", rows, "rewrap", "--hierarchical", "--to", target)
        )
        found.append(self.dekctl("dekctl scrub (V3)", rows, "scrub", "--yes"))
        return found

    def growing(self, largest: int) -> list[Measurement]:
        """The same command on larger and larger tables."""
        found = []
        rows = 10_000
        while rows <= largest:
            self.table(rows)
            found.append(self.dekctl("wrap (V2)", rows, "wrap"))
            self.table(rows)
            found.append(self.dekctl("wrap (V3)", rows, "wrap", "--hierarchical"))
            found.append(self.dekctl("status, with the census", rows, "status"))
            rows *= 10
        return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the table and the chart."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--latency", type=float, default=0.005, help="response time of KMS, in seconds"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="factor for the numbers of rows")
    parser.add_argument("--largest", type=int, default=1_000_000, help="rows of the largest table")
    parser.add_argument("--print", action="store_true", help="print only; write no page")
    parser.add_argument("--quick", action="store_true", help="only the shapes, small; no page")
    parser.add_argument("--only", choices=list(PARTS), action="append", help="only this part")
    parser.add_argument(
        "--json", type=Path, help=f"where the shapes' figures go ({JSON}; {COMPARED} beside it)"
    )
    parser.add_argument(
        "--compare", type=Path, nargs="+", metavar=("OLD", "NEW"), help="figures of earlier runs"
    )
    options = parser.parse_args(arguments)
    if options.quick or options.compare:
        if options.only not in (None, ["shapes"]):
            parser.error("--quick and --compare measure the shapes, no other part (--only)")
        options.only = ["shapes"]
    if options.compare and len(options.compare) > 2:
        parser.error("--compare takes one file or two")
    try:
        _measure(options)
    except compare.UnusableFileError as error:
        parser.error(str(error))


def _measure(options: argparse.Namespace) -> None:
    for name in options.only or PARTS:
        begin, end, measure = PARTS[name]
        text = measure(options)
        sys.stdout.write(f"{text}\n\n")
        if not (options.print or options.quick or options.compare):
            document = DOCUMENT.read_text(encoding="utf-8")
            DOCUMENT.write_text(
                report.put_between_marks(document, text, begin, end), encoding="utf-8"
            )


def _shapes(options: argparse.Namespace) -> str:
    quick = options.quick
    rows = shapes.QUICK_ROWS if quick else max(1000, int(shapes.ROWS * options.scale))
    runs = [compare.Run.load_from(file) for file in options.compare or []]
    if len(runs) == 2:
        compare.refuse_other_rows(options.compare[0], runs[0], runs[1].rows)
        return compare.comparison(runs[1], runs[0])
    if runs:  # before minutes are spent
        compare.refuse_other_rows(options.compare[0], runs[0], rows)
    old = [file.resolve() for file in options.compare or []]
    file = options.json or (JSON if JSON.resolve() not in old else COMPARED)
    machine, load = report.machine(None), os.getloadavg()[0]
    found = shapes.measure(rows, shapes.QUICK_REPEATS if quick else shapes.REPEATS)
    now = compare.Run.now(found, rows, load)
    now.save(file)
    sys.stderr.write(f"figures: {file}\n")
    text = f"{machine}\n\n{shapes.table(found)}"
    return f"{text}\n\n{compare.comparison(now, runs[0])}" if runs else text


def _speed(options: argparse.Namespace) -> str:
    machine = report.machine(options.latency)
    with Lab(options.latency) as lab:
        bench = Bench(lab, options.scale)
        groups = [
            ("Before", bench.before()),
            ("Limits", bench.limits()),
            ("dekctl, each key by KMS (V2)", bench.each_by_kms()),
            ("dekctl, under branch keys (V3)", bench.under_branch_keys()),
        ]
        grown = bench.growing(options.largest)
    found = {m.name: m for _, measurements in groups for m in measurements}
    v2, v3 = found["dekctl wrap"], found["dekctl wrap (V3)"]
    kinds = ("before", "limit", "dekctl", "dekctl")
    bars = [
        (m.name, m.rate, kind)
        for kind, (_, measurements) in zip(kinds, groups, strict=True)
        for m in measurements
    ]
    if not options.print:
        CHART.write_text(
            report.chart(bars, "Rows per second, one machine (logarithmic)"), encoding="utf-8"
        )
    return "\n\n".join(
        [
            machine,
            report.table(groups, SEED, BOTO),
            targets(found),
            "### How it grows\n\n" + report.growth(grown),
            "On paper, from these figures:\n\n" + report.on_paper(v2.rate, v3.rate),
        ]
    )


def _processes(options: argparse.Namespace) -> str:
    table = processes.measure(options.latency, options.scale)
    return f"{report.machine(options.latency)}\n\n{table}"


def _start(_: argparse.Namespace) -> str:
    return f"{report.machine(None)}\n\n{start.measure()}"


def _library(options: argparse.Namespace) -> str:
    return library.measure(options.latency, max(1000, int(5000 * options.scale)))


def _audit(options: argparse.Namespace) -> str:
    return audit.measure(max(100_000, int(1_000_000 * options.scale)))


def _quota(options: argparse.Namespace) -> str:
    seconds = max(10.0, quota.SECONDS * options.scale)
    return quota.measure(None if options.print else quota.CHART, seconds)


def _large(options: argparse.Namespace) -> str:
    machine = report.machine(None)
    return f"{machine}\n\n{large.measure(max(100_000, int(large.LARGE * options.scale)))}"


def _beside(options: argparse.Namespace) -> str:
    measured = beside.measure(max(10_000, int(beside.ROWS_OF_TABLE * options.scale)))
    return f"{report.machine(None)}\n\n{measured}"


PARTS: dict[str, tuple[str, str, Callable[[argparse.Namespace], str]]] = {
    "speed": (report.BEGIN, report.END, _speed),
    "processes": (processes.BEGIN, processes.END, _processes),
    "start": (start.BEGIN, start.END, _start),
    "shapes": (shapes.BEGIN, shapes.END, _shapes),
    "quota": (quota.BEGIN, quota.END, _quota),
    "beside": (beside.BEGIN, beside.END, _beside),
    "large": (large.BEGIN, large.END, _large),
    "library": (library.BEGIN, library.END, _library),
    "audit": (audit.BEGIN, audit.END, _audit),
}
"""The marks of each part in the page, and what measures it."""


def targets(found: dict[str, Measurement]) -> str:
    """The targets and what was measured."""
    wrap, v3 = found["dekctl wrap"], found["dekctl wrap (V3)"]
    seed, boto = found[SEED], found[BOTO]

    def share(limit: str) -> float:
        return v3.rate / found[limit].rate

    lines = [
        ("wrap, times the seed's loop", 75, wrap.rate / seed.rate),
        ("wrap, times boto3 in 64 threads", 12, wrap.rate / boto.rate),
        ("wrap, rows per CPU-second of the client", 8_000, wrap.per_cpu_second),
        ("V3, times the seed's loop", 400, v3.rate / seed.rate),
        *((f"V3, part of: {limit}", 0.6, share(limit)) for limit in DATABASE_LIMITS),
    ]
    table = ["| target | wanted | measured |", "|---|---:|---:|"]
    table += [f"| {name} | {wanted:,} | {value:,.2f} |" for name, wanted, value in lines]
    return "\n".join(table)


if __name__ == "__main__":
    main()
