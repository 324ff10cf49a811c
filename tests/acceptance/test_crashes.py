"""kill -9 at random moments of every command, beside an application that goes on writing.

Every few times the database fails over meanwhile, and what was committed last is lost: the rows of
dekctl and of the application, branch keys, the ledger. Afterwards no key is lost, no row is left
half-way, and every killed run is shown as abandoned. Other numbers of kills, and the figures, by
hand::

    DEKCTL_PROOF_KILLS=75 make test TEST_PROCESSES=0 ARGS=tests/acceptance/test_crashes.py
"""

from __future__ import annotations

import base64
import json
import os
import random
import secrets
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa

from dekctl.kms import EnvKMS
from support.app import AppDatabase
from support.branches import Branches
from support.oracle import TABLE, Oracle, opener
from support.secrets import assert_hidden
from support.waiting import PATIENCE_SECONDS
from support.writer import BusyWriter
from support.zygote import Ended, Zygote

KILLS = int(os.environ.get("DEKCTL_PROOF_KILLS", "25"))
"""On each database; 75 in all."""
BY_HAND = "DEKCTL_PROOF_KILLS" in os.environ
ROWS = 250
ROWS_PER_BRANCH_KEY = 40
LONGEST_SECONDS = 3600.0
KILLS_A_PHASE = 2
FAIL_OVERS = 0.25
"""The share of the walks that a fail-over befalls."""
SHORTEST_WAIT, LONGEST_WAIT = 0.15, 3.0


class Keks:
    """The KEKs of the story, newest first, as the environment of dekctl."""

    def __init__(self) -> None:
        self.keks: list[str] = []
        self.roll()

    def roll(self) -> None:
        self.keks.insert(0, base64.b64encode(secrets.token_bytes(32)).decode())

    @property
    def environ(self) -> dict[str, str]:
        return {"DEKCTL_KEK": self.keks[0], "DEKCTL_OLD_KEKS": ",".join(self.keks[1:])}


class Crashes:
    """Plays the story, with branch keys and without, until there were enough kills."""

    def __init__(self, database: AppDatabase, zygote: Zygote, writer: BusyWriter, keks: Keks):
        self.database = database
        self.zygote = zygote
        self.writer = writer
        self.keks = keks
        self.counts: Counter[str] = Counter()
        self.random = random.Random(KILLS)  # noqa: S311 - moments, not keys
        self.reach = 0.6
        self.said: list[str] = []

    def play(self) -> None:
        give_up = time.monotonic() + LONGEST_SECONDS
        while self.counts["kills"] < KILLS or self.counts["cycles"] < 2:
            assert time.monotonic() < give_up, f"too slow: {dict(self.counts)}"
            self.cycle()

    def cycle(self) -> None:
        """From the legacy schema to wrapped keys and a new KEK, and all the way back.

        Every other time under branch keys.
        """
        form = ("--hierarchical",) if self.counts["cycles"] % 2 else ()
        self.writer.mode("legacy")
        self.killed("schema", "expand")
        self.killed("wrap", *form)
        self.settle()
        # Scrub refuses to start while a row has only a plaintext: no old version may be left.
        self.writer.mode("current")
        self.killed("scrub", "--yes", allowed=(0, 4))
        self.writer.mode("modern")
        self.killed("verify", allowed=(0, 4))
        self.keks.roll()
        self.killed("rewrap", *form, allowed=(0, 4))
        self.killed("restore", "--yes", allowed=(0, 4))
        self.writer.mode("idle")
        self.run("restore", "--yes", allowed=(0, 4))
        self.settle()
        self.run("verify")
        self.check()
        self.killed("schema", "rollback", "--yes")
        self.check()
        self.counts["cycles"] += 1

    def settle(self) -> None:
        """What an operator does once the old version of the application is gone."""
        self.writer.mode("idle")
        self.run("wrap", "--stale", "--retry-quarantined")
        self.writer.settled()
        self.check()

    def killed(self, *command: str, allowed: tuple[int, ...] = (0,)) -> None:
        """Run a command, killing it a few times on the way, until it has ended by itself."""
        for _ in range(KILLS_A_PHASE):
            pid = self.start(*command)
            moment = self.random.uniform(0.0, self.reach)
            if command[0] != "schema" and self.random.random() < FAIL_OVERS:
                moment = self.fail_over(moment)
            ended = self.zygote.wait(pid, moment)
            if ended is None:
                os.kill(pid, signal.SIGKILL)
                ended = self.zygote.wait(pid)
                assert ended is not None
            if ended.code == -signal.SIGKILL:
                self.counts["kills"] += 1
                self.counts[f"kills of {command[0]}"] += 1
                self.reach = min(LONGEST_WAIT, self.reach * 1.15)
                self.hide(ended)
                continue
            self.reach = max(SHORTEST_WAIT, self.reach * 0.8)
            self.finished(command, ended, allowed)
            return
        self.run(*command, allowed=allowed)

    def fail_over(self, moment: float) -> float:
        """Lose what is committed in a part of the time; returns what is left of it."""
        first, lost = self.random.uniform(0, moment / 2), self.random.uniform(0, moment / 2)
        time.sleep(first)
        self.writer.standby()
        time.sleep(lost)
        self.counts["fail-overs"] += self.writer.fail_over()
        return moment - first - lost

    def run(self, *command: str, allowed: tuple[int, ...] = (0,)) -> None:
        """Run a command to its end."""
        ended = self.zygote.wait(self.start(*command), PATIENCE_SECONDS)
        assert ended is not None, f"{command} hangs"
        self.finished(command, ended, allowed)

    def start(self, *command: str) -> int:
        rows = () if command[0] == "schema" else ("--batch-size", "5")
        return self.zygote.start((*command, *rows), self.keks.environ)

    def finished(self, command: tuple[str, ...], ended: Ended, allowed: tuple[int, ...]) -> None:
        self.counts["commands"] += 1
        self.hide(ended)
        if "a fail-over lost its entry" not in ended.stderr:
            assert ended.code in allowed, f"{command} ended with {ended.code}: {ended.stderr}"

    def hide(self, ended: Ended) -> None:
        self.said.append(ended.stdout + ended.stderr)

    def check(self) -> Oracle:
        """Every row against the oracle, while the writer is idle."""
        self.writer.mode("idle")
        oracle = self.writer.oracle()
        oracle.branches = Branches(self.database.engine)
        with self.database.engine.connect() as connection:
            found = connection.execute(sa.text(f"SELECT * FROM {TABLE}")).mappings()
            rows = {row["id"]: dict(row) for row in found}
        unwrap = opener(EnvKMS(self.keks.environ))
        oracle.check(rows, unwrap)
        oracle.check_exchange(rows, unwrap)
        assert all(row.get("at") is None for row in rows.values())
        self.counts["rows checked"] += len(rows)
        assert_hidden("".join(self.said), oracle.deks.values(), "the output of a killed command")
        self.said.clear()
        return oracle

    def states(self) -> Counter[str]:
        """How the runs ended, as `dekctl runs` shows it: the last kill may have no run after it."""
        ended = self.zygote.wait(
            self.zygote.start(("runs", "--json", "--limit", "100000"), self.keks.environ),
            PATIENCE_SECONDS,
        )
        assert ended is not None, "runs hangs"
        assert ended.code == 0, ended.stderr
        return Counter(run["state"] for run in json.loads(ended.stdout)["runs"])


def test_a_process_that_is_killed_at_any_moment_loses_no_key_and_leaves_no_row_half_way(
    app_database: AppDatabase, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keks = Keks()
    config = tmp_path / "dekctl.toml"
    config.write_text(
        f"[table]\nrows_per_branch_key = {ROWS_PER_BRANCH_KEY}\n"
        f'[env.test]\ndatabase_url = "{app_database.url}"\nprovider = "env"\n'
    )
    with (
        BusyWriter(app_database.url, keks.environ, ROWS, seed=KILLS) as writer,
        Zygote(tmp_path) as zygote,
    ):
        crashes = Crashes(app_database, zygote, writer, keks)
        zygote.environ["DEKCTL_CONFIG"] = str(config)
        crashes.play()
        crashes.counts["writes"] = writer.mode("idle")
        states = crashes.states()
    assert states["running"] == 0, "a killed run is still shown as running"
    assert states["abandoned"] <= crashes.counts["kills"] + crashes.counts["fail-overs"]
    assert crashes.counts["fail-overs"], "nothing was lost"
    if BY_HAND:
        with capsys.disabled():
            report = {**crashes.counts, **{f"runs {k}": n for k, n in states.items()}}
            print(f"\n{app_database.kind}: {report}")  # noqa: T201 - the report of a big run
