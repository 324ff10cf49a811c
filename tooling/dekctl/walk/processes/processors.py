"""Whether more processes can pay: said before a run, and lowered to what this machine has."""

from __future__ import annotations

import contextlib
import math
import os
from dataclasses import replace
from pathlib import Path

from dekctl.errors import UsageError
from dekctl.operations.base import Notify
from dekctl.project import Project
from dekctl.walk.options import RowOptions

VARIABLE = "DEKCTL_PROCESSORS"
CALLS_OF_ONE_PROCESS = 8_000
"""KMS calls per second that one process makes for certain, where it has a processor."""
_CGROUPS = Path("/sys/fs/cgroup")


def worthwhile(
    project: Project, options: RowOptions, rate: float | None, notify: Notify
) -> RowOptions:
    """Lower ``workers`` to what this machine has processors for; ``notify`` is told why.

    A process needs a whole processor while KMS does not hold it up, and so does a database server
    on the same machine: more processes would only take time from each other. Where one process can
    make all calls of ``rate`` (KMS calls per second, if limited), ``notify`` is told so.

    Raises:
        UsageError: DEKCTL_PROCESSORS is not a number.
    """
    if options.workers == 1 or options.cluster:
        return options
    processors = usable_processors()
    shared = project.database.is_server_here
    room = max(1, math.floor(processors) - shared)
    if options.workers > room:
        have = f"{processors:g} processor{'s are' if processors != 1 else ' is'} usable here"
        needs = " and the database server, on this machine too, needs one" if shared else ""
        notify(
            f"--workers {options.workers} is lowered to {room}: {have}{needs}; more processes "
            f"would be slower (if that is wrong: export {VARIABLE}=N)"
        )
        return replace(options, workers=room)
    if project.uses_aws and rate and rate <= CALLS_OF_ONE_PROCESS:
        milliseconds = 1000 * options.concurrency / rate
        notify(
            f"one process can make {rate:,.0f} KMS calls per second while KMS answers within "
            f"{milliseconds:,.0f} ms; {options.workers} workers will not be faster at this rate"
        )
    return options


def usable_processors() -> float:
    """The processors that this process may use: its affinity, and the quota of its cgroup.

    Raises:
        UsageError: DEKCTL_PROCESSORS, which overrides both, is not a number above 0.
    """
    if text := os.environ.get(VARIABLE):
        with contextlib.suppress(ValueError):
            if (named := float(text)) > 0:
                return named
        raise UsageError(
            f"{VARIABLE} is not a number above 0: {text!r}", hint=f"correct it: unset {VARIABLE}"
        )
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        allowed = os.cpu_count() or 1
    return min([allowed, *_quotas()])


def _quotas() -> list[float]:
    """Processors that each of the process's cgroups allows, of both versions."""
    found = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                found += _limits(_CGROUPS, path, ("cpu.max",))
            elif "cpu" in controllers.split(","):
                names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                found += _limits(_CGROUPS / "cpu", path, names)
    return found


def _limits(root: Path, path: str, names: tuple[str, ...]) -> list[float]:
    found = []
    inner = Path(path.lstrip("/"))
    for folder in (inner, *inner.parents):
        with contextlib.suppress(OSError, ValueError):  # another namespace's path, or no limit
            text = " ".join((root / folder / name).read_text() for name in names)
            quota, period = map(int, text.split())
            if quota > 0:
                found.append(quota / period)
    return found
