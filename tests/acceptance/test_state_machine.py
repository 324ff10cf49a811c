"""Everything at once, in random order: the application, every command, kills, KMS's faults.

After every step each row's key can be had and is the one it was given, and no wrapped key opens in
another row's place. See docs/reliability.md for the size of the runs by hand::

    DEKCTL_PROOF_EXAMPLES=200 DEKCTL_PROOF_STEPS=50 \\
        make test TEST_PROCESSES=0 ARGS=tests/acceptance/test_state_machine.py
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from support.app import AppDatabase
from support.kms_standin import KmsStandin
from support.story import Story
from support.turmoil import Surroundings

EXAMPLES = int(os.environ.get("DEKCTL_PROOF_EXAMPLES", "4"))
STEPS = int(os.environ.get("DEKCTL_PROOF_STEPS", "20"))
BIG = "DEKCTL_PROOF_EXAMPLES" in os.environ


def play(database: AppDatabase, standin: KmsStandin, folder: Path) -> Counter[str]:
    """Play the stories on one database. Returns the counts."""
    around = Surroundings(database, standin, folder)

    class Played(Story):
        pass

    Played.around = around
    run_state_machine_as_test(
        Played,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=not BIG,
            database=None,
            print_blob=False,
            phases=(Phase.generate,),  # the last steps are in the message; shrinking takes minutes
            suppress_health_check=list(HealthCheck),
        ),
    )
    return around.counts


def test_no_key_is_lost_or_exchanged_whatever_happens_in_whatever_order(
    app_database: AppDatabase,
    kms_standin: KmsStandin,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    counts = play(app_database, kms_standin, tmp_path)
    assert counts["stories"] >= EXAMPLES
    assert counts["checks"] > 0
    with capsys.disabled():
        if BIG:
            print(f"\n{app_database.kind}: {dict(counts)}")  # noqa: T201 - the report of a big run
