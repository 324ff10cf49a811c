"""What a run spends: time on the clock, and processor time of the client and of the server."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Spent:
    """Seconds of one run: on the clock, and of processors."""

    clock: float = 0.0
    client: float = 0.0
    server: float = 0.0


@dataclass(frozen=True, slots=True)
class Parts:
    """Microseconds of a row. ``fixed`` is its share of what a run without rows takes.

    Beyond that ``client`` and ``server`` are processor time, at the same time in part, and
    ``waiting`` is when neither had a processor.
    """

    fixed: float
    client: float
    server: float
    waiting: float

    def __str__(self) -> str:
        return f"{self.client:.1f} / {self.server:.1f} / {self.waiting:.1f}"

    def largest_beyond(self, limit: Parts) -> str:
        """The part that exceeds the limit's the most.

        What waits because other programs have the processors waits in proportion to its own work:
        only more than that counts as waiting.
        """
        work = (self.client + self.server) / max(limit.client + limit.server, 0.1)
        beyond = {
            "fixed cost": self.fixed,
            "client": self.client - limit.client,
            "server": self.server - limit.server,
            "waiting": self.waiting - limit.waiting * work,
        }
        return max(beyond, key=lambda part: beyond[part])


@contextmanager
def spending(server: int | None) -> Iterator[Spent]:
    """Measure a block. ``server`` is the process id of the database server, None for none."""
    spent = Spent()
    clock, client, served = time.monotonic(), time.process_time(), _processor_time(server)
    yield spent
    spent.clock = time.monotonic() - clock
    spent.client = time.process_time() - client
    spent.server = _processor_time(server) - served


@dataclass
class Costs:
    """What one verb spent on one shape in each repetition: dekctl, and its limit if it has one.

    ``fixed`` is what dekctl spent on the same table without rows.
    """

    ours: list[Spent] = field(default_factory=list)
    fixed: list[Spent] = field(default_factory=list)
    limit: list[Spent] = field(default_factory=list)

    @property
    def least_fixed(self) -> Spent:
        """The least of each repetition: what else a run without rows waited for is not its own."""
        clock, client, server = (
            min(getattr(run, part) for run in self.fixed) for part in ("clock", "client", "server")
        )
        return Spent(clock, client, server)

    def our_parts(self, rows: int) -> Parts:
        """Where the time of dekctl's rows went."""
        return _parts(self.ours, rows, self.least_fixed)

    def limit_parts(self, rows: int) -> Parts:
        """Where the time of the limit's rows went."""
        return _parts(self.limit, rows, Spent())

    def held_by(self, rows: int) -> str:
        """What takes longest beyond the limit's own."""
        return self.our_parts(rows).largest_beyond(self.limit_parts(rows))


def _parts(runs: Sequence[Spent], rows: int, fixed: Spent) -> Parts:
    """The parts of a row, given what a run without rows spends; medians of the runs."""
    client = [max(0.0, run.client - fixed.client) for run in runs]
    server = [max(0.0, run.server - fixed.server) for run in runs]
    waiting = [
        max(0.0, run.clock - fixed.clock - mine - its)
        for run, mine, its in zip(runs, client, server, strict=True)
    ]
    found = ([fixed.clock], client, server, waiting)
    return Parts(*(statistics.median(part) / rows * 1e6 for part in found))


def _processor_time(pid: int | None) -> float:
    """Seconds of a process and of its children, with those that have ended; 0 for None."""
    if pid is None:
        return 0.0
    try:
        # After the name, which may contain anything: utime, stime, cutime and cstime.
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has just ended: its parent has its time
        return 0.0
    return sum(map(int, ticks)) * TICK + sum(_processor_time(int(child)) for child in children)
