"""``--metrics FILE``: a command's figures as Prometheus text, for a textfile collector.

The file is replaced as a whole, so that a collector never reads half of one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dekctl.errors import DekctlError, UsageError
from dekctl.ledger import parse_time
from dekctl.ledger.history import last_verified
from dekctl.project import Project
from dekctl.walk.progress import Moment

Sample = tuple[str, Mapping[str, str], float]
"""A metric's name, its labels and its value."""

HELP = {
    "dekctl_rows": "Rows of a table by the keys that they hold.",
    "dekctl_rows_by_kek": "Wrapped rows of a table by KEK and version.",
    "dekctl_rows_waiting": "Rows that wait for a command.",
    "dekctl_quarantined_rows": "Rows of a table in quarantine.",
    "dekctl_runs": "Runs that are at work, or whose process died before the end.",
    "dekctl_last_verify_age_seconds": "Seconds since the last complete verify; +Inf without one.",
    "dekctl_run_active": "Whether the command is at work.",
    "dekctl_run_rows": "Rows of a run by what was done with them.",
    "dekctl_run_rows_left": "Rows that the run has yet to read; an estimate for large tables.",
    "dekctl_run_kms_calls": "KMS calls of a run by API name.",
    "dekctl_run_kms_seconds": "Seconds that KMS takes to answer a call.",
    "dekctl_run_errors": "What went wrong in a run, by kind.",
    "dekctl_updated_timestamp_seconds": "When the file was written.",
}


def write(path: Path, samples: Iterable[Sample]) -> None:
    """Replace the file by these samples.

    Raises:
        UsageError: it cannot be written.
    """
    by_name: dict[str, list[str]] = {}
    for name, labels, value in (*samples, ("dekctl_updated_timestamp_seconds", {}, time.time())):
        listed = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        number = "+Inf" if math.isinf(value) else f"{value:.10g}" if value < 1e6 else f"{value:.0f}"
        by_name.setdefault(name, []).append(
            f"{name}{{{listed}}} {number}" if listed else f"{name} {number}"
        )
    lines: list[str] = []
    for name, found in by_name.items():
        lines += [f"# HELP {name} {HELP[name]}", f"# TYPE {name} gauge", *found]
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise UsageError(
            f"cannot write the metrics {path}: {error.strerror}",
            hint="name a file in an existing folder: --metrics FILE",
        ) from None


def of_status(value: dict[str, Any], ages: Mapping[str, float]) -> list[Sample]:
    """The samples of what `dekctl status` found; ``ages`` are those of the last verify."""
    samples: list[Sample] = []
    for entry in value.get("tables", [value]):
        labels = {"env": value["env"], "table": entry["table"]}
        for state in ("plaintext_only", "both", "wrapped_only", "no_key"):
            samples.append(("dekctl_rows", {**labels, "state": state}, entry[state]))
        waiting = {
            "wrap": entry["plaintext_only"],
            "scrub": entry["both"],
            "rewrap": sum(k["rows"] for k in entry["keks"] if k["generation_state"] in LEFT_BEHIND),
        }
        for command, rows in waiting.items():
            samples.append(("dekctl_rows_waiting", {**labels, "for": command}, rows))
        for kek in entry["keks"]:
            where = {"kek": kek["kek_id"] or "", "version": kek["version"] or ""}
            samples.append(("dekctl_rows_by_kek", {**labels, **where}, kek["rows"]))
        samples.append(("dekctl_quarantined_rows", labels, entry["quarantined"]))
        for state in ("running", "abandoned"):
            runs = sum(run["state"] == state for run in entry["unfinished"])
            samples.append(("dekctl_runs", {**labels, "state": state}, runs))
        age = ages.get(entry["table"], math.inf)
        samples.append(("dekctl_last_verify_age_seconds", labels, age))
    return samples


LEFT_BEHIND = ("retired", "disabled")
"""States of a generation that no row should be under any more."""


def verify_ages(project: Project) -> dict[str, float]:
    """Seconds since the last complete verify of each table that ever had one."""
    ages: dict[str, float] = {}
    if not project.ledger.exists():
        return ages
    with project.database.transaction() as connection:
        now = project.database.now(connection)
    for config in project.config.tables:
        run = last_verified(project.ledger, config.context_name)
        ended = parse_time(run["ended_at"]) if run is not None else None
        if ended is not None:
            ages[config.name] = (now - ended).total_seconds()
    return ages


class RunMetrics:
    """The metrics of one run of a command over rows."""

    def __init__(self, path: Path, project: Project, operation: str) -> None:
        """Write the file once, so that a place that cannot be written is refused at the start.

        Raises:
            UsageError: it cannot be written.
        """
        self._path = path
        self._project = project
        self._labels = {"env": project.env.name, "operation": operation}
        self._moments: dict[str, Moment] = {}
        self._look()
        self.write(active=True)

    def _look(self) -> None:
        """Look when each table was verified last."""
        self._looked = time.monotonic()
        try:
            self._ages = verify_ages(self._project)
        except DekctlError:
            self._ages = {}  # the run reports it, if it matters to it

    def take(self, moment: Moment) -> None:
        """Take how far the run over a table is."""
        self._moments[moment.table] = moment

    def write(self, *, active: bool, failed: bool = False) -> None:
        """Write what is known.

        Raises:
            UsageError: it cannot be written.
        """
        samples: list[Sample] = [("dekctl_run_active", self._labels, float(active))]
        errors = {"failed": float(failed), "throttled": 0.0}
        for table, moment in list(self._moments.items()):  # the run adds tables meanwhile
            labels, counts = {**self._labels, "table": table}, moment.counts
            what = {"read": counts.scanned, "verified": counts.proved, **counts.as_json()}
            del what["scanned"]
            for name, rows in what.items():
                samples.append(("dekctl_run_rows", {**labels, "what": name}, rows))
            samples.append(("dekctl_run_rows_left", labels, moment.total - moment.done))
            for api, calls in moment.kms_calls.items():
                samples.append(("dekctl_run_kms_calls", {**labels, "api": api}, calls))
            if moment.latency is not None:
                samples.append(("dekctl_run_kms_seconds", labels, moment.latency))
            errors["throttled"] = moment.throttles
            errors["quarantined"] = errors.get("quarantined", 0.0) + counts.quarantined
        for kind, count in errors.items():
            samples.append(("dekctl_run_errors", {**self._labels, "kind": kind}, count))
        if not active:
            self._look()
        since = time.monotonic() - self._looked
        for config in self._project.config.tables:
            labels = {"env": self._labels["env"], "table": config.name}
            age = self._ages.get(config.name, math.inf) + since
            samples.append(("dekctl_last_verify_age_seconds", labels, age))
        write(self._path, samples)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
