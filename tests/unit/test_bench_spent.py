"""The benchmark names what holds a shape below its database's limit."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bench.shapes import Found
from bench.spent import Costs, Spent, spending

LIMIT = Spent(clock=0.010, client=0.003, server=0.006)


def found(run: Spent, limit: Spent = LIMIT, fixed: Spent | None = None) -> Found:
    costs = Costs([run], [fixed or Spent()], [limit])
    return Found(1_000, [1_000 / run.clock], [1_000 / limit.clock], costs)


@pytest.mark.parametrize(
    ("run", "fixed", "held_by"),
    [
        (Spent(clock=0.016, client=0.012, server=0.007), Spent(), ""),  # more than 0.6 of it
        (Spent(clock=0.030, client=0.020, server=0.010), Spent(), "client"),
        (Spent(clock=0.030, client=0.008, server=0.020), Spent(), "server"),
        (Spent(clock=0.030, client=0.005, server=0.007), Spent(), "waiting"),
        (Spent(clock=0.030, client=0.009, server=0.007), Spent(0.015, 0.005), "fixed cost"),
    ],
)
def test_what_is_most_beyond_the_limit_holds_a_shape(
    run: Spent, fixed: Spent, held_by: str
) -> None:
    assert found(run, fixed=fixed).held_by == held_by


def test_waiting_for_other_programs_holds_nothing() -> None:
    limit = Spent(clock=0.040, client=0.004, server=0.006)  # three quarters of it is waiting
    run = Spent(clock=0.080, client=0.012, server=0.008)
    assert found(run, limit).held_by == "client"


def test_a_server_is_charged_with_its_children() -> None:
    work = "import time\nwhile time.process_time() < 0.2: pass"
    with spending(os.getpid()) as spent:
        subprocess.run([sys.executable, "-c", work], check=True)
    assert spent.server - spent.client > 0.15  # here the client is the server, too
