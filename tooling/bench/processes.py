"""Several processes, and a cluster, beside one process.

All are measured in turn, each on a new table, so that what else the machine does hardly shows in
their ratios. On two processors, four processes are as on a machine with room for them only where
each has little to do at a time: there KMS answers late, and few calls are in flight.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from bench.lab import Lab
from bench.measure import Measurement, run
from support.dask_cluster import Cluster, cluster

BEGIN, END = "<!-- processes:begin -->", "<!-- processes:end -->"
TIMES = 3
ROWS = 200_000
HELD_LATENCY = 0.1
HELD_IN_FLIGHT = 32
HELD_ROWS = 15_000
"""Rows of each process: it takes 50 seconds, so that its start hardly counts."""
ONE, TWO = "one process", "--workers 2, where there is no room for two"
CLUSTER = "--cluster, one worker, TLS"
HELD, HELD_4 = "one process, held up by KMS", "--workers 4, each held up by KMS"
TARGETS = {TWO: 0.9, CLUSTER: 0.9, HELD_4: 3.2}
"""Rows per second, times those of one process."""


def measure(latency: float, scale: float) -> str:
    """Measure, with a response time of KMS in seconds; a Markdown table."""
    rows = max(1000, int(ROWS * scale))
    with Lab(latency) as lab:
        found = _in_turn(
            {
                ONE: lambda: _wrap(lab, ONE, rows),
                TWO: lambda: _wrap(lab, TWO, rows, "--workers", "2"),
                **({CLUSTER: lambda: _on_a_cluster(lab, rows)} if find_spec("distributed") else {}),
            },
            TIMES,
        )
        lab.kms.set_latency(HELD_LATENCY)
        rows = max(1000, int(HELD_ROWS * scale))
        few = ("--concurrency", str(HELD_IN_FLIGHT))
        found += _in_turn(
            {
                HELD: lambda: _wrap(lab, HELD, rows, *few),
                HELD_4: lambda: _wrap(lab, HELD_4, 4 * rows, "--workers", "4", *few, processors=5),
            },
            1,
        )
    return "\n".join(
        [
            "| | rows | rows/s | rows/CPU-s | times one process | wanted |",
            "|---|---:|---:|---:|---:|---:|",
            *found,
        ]
    )


def _in_turn(kinds: Mapping[str, Callable[[], Measurement]], times: int) -> list[str]:
    """Measure each kind in turn, several times. Returns the lines of the table.

    The first kind is one process; ratios are medians of those within each turn.
    """
    turns = [{name: measure() for name, measure in kinds.items()} for _ in range(times)]
    one = next(iter(kinds))
    lines = []
    for name in kinds:
        runs = [turn[name] for turn in turns]
        ratio = statistics.median(turn[name].rate / turn[one].rate for turn in turns)
        wanted = f"{TARGETS[name]:g}" if name in TARGETS else ""
        lines.append(
            f"| {name} | {runs[0].rows:,} | {statistics.median(m.rate for m in runs):,.0f} "
            f"| {statistics.median(m.per_cpu_second for m in runs):,.0f} | {ratio:.2f} | {wanted} |"
        )
    return lines


def _new_table(lab: Lab, rows: int) -> None:
    lab.new_table(rows)
    run("expand", lab.dekctl("schema", "expand"), rows, lab.environment())


def _wrap(lab: Lab, name: str, rows: int, *options: str, processors: int = 0) -> Measurement:
    """Wrap a new table; ``processors`` is how many dekctl believes in, 0 for those it finds."""
    _new_table(lab, rows)
    environ = lab.environment() | ({"DEKCTL_PROCESSORS": str(processors)} if processors else {})
    return _told(run(name, lab.dekctl("wrap", *options), rows, environ))


def _on_a_cluster(lab: Lab, rows: int) -> Measurement:
    """Wrap a new table on a cluster that has done something before."""
    _new_table(lab, rows)
    environ = lab.environment()
    with (
        tempfile.TemporaryDirectory(dir=lab.folder) as folder,
        cluster(Path(folder), environ, 1, tls=True) as dask,
    ):
        options = ("--cluster", dask.address)
        run("dry run", lab.dekctl("wrap", "--dry-run", *options), rows, environ)
        before = _cpu_seconds(dask)
        done = run(CLUSTER, lab.dekctl("wrap", *options), rows, environ)
        used = done.cpu_seconds + _cpu_seconds(dask) - before
    return _told(replace(done, cpu_seconds=used))


def _cpu_seconds(dask: Cluster) -> float:
    """User and system seconds of scheduler and workers, from Linux's /proc."""
    ticks = 0
    for process in (dask.scheduler, *dask.workers):
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _told(done: Measurement) -> Measurement:
    sys.stderr.write(f"{done.name}: {done.rate:,.0f} rows/s\n")
    return done
