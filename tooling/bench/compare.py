"""What became slower from one run of the shapes to another, by more than their noise.

Compared is dekctl's part of what the database alone did in the same repetition, as that hardly
depends on what else the machine does: each line of the table, and all shapes of a database
together, which show a small change that is lost in the noise of one line.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.shapes import Found

FORMAT = "dekctl bench 1"
ERRORS = 3.0
"""A change counts from so many standard errors on: chance makes one in 700 of those."""
Logs = Mapping[str, Sequence[float]]
"""Logarithms of dekctl's part of its limit in the repetitions, by ``database / shape / verb``."""
MEDIAN = math.sqrt(math.pi / 2)
"""The standard error of a median, in those of a mean."""
ALL = "all shapes"


class UnusableFileError(ValueError):
    """A file of figures cannot be compared; the message names it and says why."""


@dataclass(frozen=True)
class Run:
    """The figures of one run, and where they are from. ``load`` is the machine's before the run."""

    figures: Mapping[str, Found]
    rows: int
    when: str
    machine: str
    load: float

    @classmethod
    def now(cls, figures: Mapping[str, Found], rows: int, load: float) -> Run:
        """A run of this machine with ``rows`` rows in a usual table."""
        when = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(figures, rows, when, this_machine(), load)

    def save(self, file: Path) -> None:
        """Write it as JSON, for :meth:`load_from`."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1), encoding="utf-8")

    @classmethod
    def load_from(cls, file: Path) -> Run:
        """Read what :meth:`save` has written.

        Raises:
            UnusableFileError: it is missing, or something else.
        """
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UnusableFileError(
                f'{file} does not exist; ARGS="--quick --json {file}" writes it'
            ) from None
        except OSError as error:
            raise UnusableFileError(f"{file}: {error.strerror}") from None
        except ValueError as error:
            raise UnusableFileError(f"{file} is not JSON: {error}") from None
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise UnusableFileError(f'{file} is not from `make bench`: no "format": "{FORMAT}"')
        try:
            figures = {name: _found(one) for name, one in values["figures"].items()}
            for name in figures:
                _log_ratios(figures, name)
            return cls(
                figures,
                int(values["rows"]),
                str(values["when"]),
                str(values["machine"]),
                float(values["load"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UnusableFileError(
                f"{file} is damaged ({type(error).__name__}: {error})"
            ) from None


def this_machine() -> str:
    """Processors and Python, in words."""
    model = platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass  # not Linux
    return f"{os.cpu_count()} processors ({model}), Python {platform.python_version()}"


def refuse_other_rows(file: Path, before: Run, rows: int) -> None:
    """Refuse to compare tables of different sizes: a run has costs that do not grow with them.

    Raises:
        UnusableFileError: they differ.
    """
    if before.rows != rows:
        raise UnusableFileError(
            f"{file} was measured with {before.rows:,} rows in a table, this run has {rows:,}; "
            "--quick and --scale decide how many"
        )


def comparison(now: Run, before: Run) -> str:
    """What became slower, in Markdown, and what was not compared."""
    lines = [
        f"Compared with the run of {before.when} (load {before.load:.1f}, now {now.load:.1f})."
    ]
    if now.machine != before.machine:
        lines.append(f"It was another machine: {before.machine}; now {now.machine}.")
    tables = [{name.rpartition(" / ")[0] for name in run.figures} for run in (now, before)]
    if tables[0] ^ tables[1]:
        lines.append(f"Only one of the two runs has: {', '.join(sorted(tables[0] ^ tables[1]))}.")
    changes = changes_of(now.figures, before.figures)
    if not changes:
        return " ".join([*lines, "Nothing can be compared."])
    noise = {
        whole: statistics.median(c.noise for c in changes if (f" / {ALL} / " in c.name) == whole)
        for whole in (True, False)
    }
    lines.append(
        f"Noise: {_percent(-noise[False])} in a usual line, {_percent(-noise[True])} over {ALL}."
    )
    slower = [change for change in changes if change.is_slower]
    if not slower:
        return " ".join([*lines, "Nothing became slower by more than that."])
    return "\n".join(
        [
            " ".join([*lines, "Slower by more than that:"]),
            "",
            "| database | shape | verb | of its limit before | now | change | noise |",
            "|---|---|---|---:|---:|---:|---:|",
            *(
                f"| {c.name.replace(' / ', ' | ')} | {math.exp(c.before):.2f} "
                f"| {math.exp(c.now):.2f} | {_percent(c.now - c.before)} | {_percent(-c.noise)} |"
                for c in slower
            ),
        ]
    )


@dataclass(frozen=True)
class Change:
    """One line, or all shapes of a database together. All numbers are logarithms."""

    name: str
    """``database / shape / verb``."""
    before: float
    now: float
    noise: float
    """How much lower chance may well make it."""

    @property
    def is_slower(self) -> bool:
        """Whether it became slower by more than the noise."""
        return self.now - self.before < -self.noise


def changes_of(now: Mapping[str, Found], before: Mapping[str, Found]) -> list[Change]:
    """What changed over all shapes of a database and verb, and in each line that both runs have."""
    common = [name for name in now if name in before]
    logs = [{name: _log_ratios(run, name) for name in common} for run in (now, before)]
    lines = _changes(logs[0], logs[1])
    return [*_changes(_over_all(logs[0]), _over_all(logs[1])), *lines]


def _changes(now: Logs, before: Logs) -> list[Change]:
    errors = [_standard_errors(logs) for logs in (now, before)]
    return [
        Change(
            name,
            before=statistics.median(before[name]),
            now=statistics.median(now[name]),
            noise=ERRORS * math.hypot(errors[0][name], errors[1][name]),
        )
        for name in now
    ]


def _log_ratios(run: Mapping[str, Found], name: str) -> list[float]:
    """dekctl's part of the limit in each repetition.

    ``verify`` writes nothing and has no limit: that of ``wrap`` tells how fast the machine was.
    """
    limits = run[name].limits or run[f"{name.rpartition(' / ')[0]} / wrap"].limits
    return [math.log(rate / limit) for rate, limit in zip(run[name].rates, limits, strict=True)]


def _over_all(logs: Logs) -> Logs:
    """The mean over all shapes of each repetition, by database and verb.

    In a repetition the shapes follow each other, so that what slows one down slows the others too:
    as many measurements, but not as many that are independent.
    """
    together: dict[str, list[Sequence[float]]] = {}
    for name, values in logs.items():
        database, _, verb = name.split(" / ")
        together.setdefault(f"{database} / {ALL} / {verb}", []).append(values)
    return {
        name: [statistics.fmean(one) for one in zip(*values, strict=True)]
        for name, values in together.items()
    }


def _standard_errors(logs: Logs) -> dict[str, float]:
    """Of each median: from its own spread, or from the run's if that is larger.

    Two or three repetitions may lie close together by chance.
    """
    if not logs:
        return {}
    spreads = {name: statistics.stdev(values) for name, values in logs.items()}
    usual = math.sqrt(statistics.fmean(spread**2 for spread in spreads.values()))
    return {
        name: MEDIAN * max(usual, spreads[name]) / math.sqrt(len(values))
        for name, values in logs.items()
    }


def _found(values: dict[str, Any]) -> Found:
    """Read one line's figures.

    Raises:
        ValueError, KeyError, TypeError: they are something else.
    """
    rates, limits = ([float(rate) for rate in values[name]] for name in ("rates", "limits"))
    found = Found(int(values["rows"]), rates, limits)
    figures = [*found.rates, *found.limits]
    if len(found.rates) < 2 or len(found.limits) not in (0, len(found.rates)):
        raise ValueError("a line needs two repetitions or more, each with its limit")
    if not all(math.isfinite(figure) and figure > 0 for figure in figures):
        raise ValueError("a figure is not above 0")
    return found


def _percent(log: float) -> str:
    """A change, from its logarithm."""
    return f"{math.expm1(log):+.0%}"
