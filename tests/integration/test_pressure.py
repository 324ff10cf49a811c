"""The pace that changes while a run is on: control file, pause, busy database, throttling."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from dekctl.errors import UsageError
from dekctl.kms.limiter import RateLimiter
from dekctl.walk.pacing import HoldBack, Pace, Pacing, parse_control
from support.app import AppDatabase
from support.cli import Dekctl
from support.kms_standin import KmsStandin
from support.waiting import wait_until

# -- the control file ------------------------------------------------------------------------------


def test_a_rate_above_the_ceiling_is_cut_and_said(tmp_path: Path) -> None:
    notes: list[str] = []
    limiter = RateLimiter(100.0)
    file = tmp_path / "control.toml"
    pressure = Pacing(
        batch_size=10,
        rate=100.0,
        limiter=limiter,
        control=file,
        notify=notes.append,
        max_rate=100.0,
    )
    for text, rate in (("rate = 50", 50.0), ("rate = 20000", 100.0)):
        file.write_text(text)
        pressure.look()
        assert limiter.snapshot().ceiling == rate
    assert any("limits the rate to 100" in note for note in notes)


def test_the_control_file_overrides_the_command_line_key_by_key() -> None:
    base = Pace(rate=50, batch_size=1000, concurrency=8)
    assert parse_control("", base) == base
    assert parse_control("rate = 5.5\npause = true", base) == Pace(5.5, 1000, 8, True)
    assert parse_control("batch_size = 10\nconcurrency = 2", base) == Pace(50, 10, 2)


@pytest.mark.parametrize(
    "text",
    ["rate = 0", "rate = true", "batch_size = 1.5", "batch_size = 0", "concurrency = 99999",
     "pause = 1", "speed = 3", "rate ="],
)  # fmt: skip
def test_a_bad_control_file_is_a_note_and_the_values_before_it_stay(
    text: str, tmp_path: Path
) -> None:
    notes: list[str] = []
    file = tmp_path / "control.toml"
    file.write_text("batch_size = 10")
    pressure = Pacing(batch_size=1000, control=file, notify=notes.append)
    pressure.look()
    file.write_text(text)
    pressure.look()
    assert pressure.batch_size == 10
    assert "is ignored" in notes[-1]
    file.unlink()
    pressure.look()
    assert pressure.batch_size == 1000


def test_a_range_that_begins_after_the_file_is_gone_has_the_command_line_s_values(
    tmp_path: Path,
) -> None:
    """A worker keeps its limiter from range to range, and watches the file in each one."""
    limiter, widths = RateLimiter(50), list[int]()
    file = tmp_path / "control.toml"

    def a_range() -> Pacing:
        return Pacing(
            batch_size=10,
            rate=100,
            concurrency=8,
            limiter=limiter,
            set_concurrency=widths.append,
            control=file,
            rate_part=0.5,
        )

    file.write_text("rate = 5000\nconcurrency = 3\n")
    with a_range():
        assert limiter.snapshot().ceiling == 2500
    file.unlink()
    with a_range():
        assert limiter.snapshot().ceiling == 50
    assert widths[-1] == 8


def test_rate_concurrency_and_pause_reach_those_who_obey(tmp_path: Path) -> None:
    limiter, widths = RateLimiter(100), list[int]()
    file = tmp_path / "control.toml"
    pressure = Pacing(
        batch_size=10,
        rate=100,
        concurrency=8,
        limiter=limiter,
        set_concurrency=widths.append,
        control=file,
    )
    file.write_text("rate = 7\nconcurrency = 3")
    pressure.look()
    assert limiter.snapshot().ceiling == 7
    assert widths == [3]
    file.write_text("pause = true")
    pressure.look()
    assert limiter.snapshot().ceiling == 0
    file.unlink()
    pressure.look()
    assert limiter.snapshot().ceiling == 100
    assert widths == [3, 8]


def test_a_running_command_is_paused_and_goes_on(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(sqlite_database, rows=200)
    dekctl.json("schema", "expand")
    control = dekctl.folder / ".dekctl" / "test" / "control.toml"
    control.parent.mkdir(parents=True)
    control.write_text("pause = true\nbatch_size = 20")
    child = dekctl.start("--json", "wrap")
    dekctl.wait_until_said(child, "paused")
    assert app.counts()["both"] == 0, "rows were written during the pause"
    control.unlink()
    done = dekctl.finish(child).expect(0)
    assert done.json["changed"] == 200


def test_an_interrupted_pause_ends(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=20)
    dekctl.json("schema", "expand")
    control = dekctl.folder / "slow.toml"
    control.write_text("pause = true")
    child = dekctl.start("--json", "wrap", "--control", str(control))
    wait_until(lambda: sqlite_database.sql("SELECT count(*) FROM dekctl_runs")[0][0] == 1)
    child.terminate()
    assert dekctl.finish(child).expect(130).json["interrupted"] is True
    assert sqlite_database.sql("SELECT state FROM dekctl_runs") == [("interrupted",)]


# -- a busy database -------------------------------------------------------------------------------


def test_a_run_waits_while_the_database_says_busy(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=10, env={"hold_back_above": 5})
    app_database.sql("CREATE TABLE busy (lag INTEGER)")
    app_database.sql("INSERT INTO busy VALUES (6)")
    dekctl.json("schema", "expand")
    child = dekctl.start("--json", "wrap", "--hold-back", "SELECT max(lag) FROM busy")
    dekctl.wait_until_said(child, "waiting: the hold-back")
    assert app.counts()["both"] == 0
    app_database.sql("UPDATE busy SET lag = 5")
    dekctl.finish(child).expect(0)
    assert app.counts()["both"] == 10


def test_an_answer_that_is_no_number_is_a_wrong_setting(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=3)
    dekctl.json("schema", "expand")
    assert "one number" in dekctl("wrap", "--hold-back", "SELECT 'very'").expect(2).stderr
    assert dekctl("wrap", "--hold-back", "SELECT nothing").expect(6)


def test_null_false_and_small_numbers_are_not_busy(sqlite_database: AppDatabase) -> None:
    from sqlalchemy.engine import make_url  # noqa: PLC0415

    from dekctl.db.connect import open_database  # noqa: PLC0415
    from dekctl.db.dialect import Timeouts  # noqa: PLC0415

    sqlite_database.sql("CREATE TABLE there_is_a_file (id INTEGER)")
    with open_database(make_url(sqlite_database.url), Timeouts(1, 10)) as database:
        for quiet in ("SELECT NULL", "SELECT 3", "SELECT 2.5", "SELECT '%:x' = ':y'"):
            assert HoldBack(database, quiet, above=3).busy() is None
        assert HoldBack(database, "SELECT 4", above=3).busy() == "4"
        with pytest.raises(UsageError):
            HoldBack(database, "SELECT 'text'").busy()


def test_the_wait_ends_when_the_run_is_cancelled() -> None:
    cancel = threading.Event()
    cancel.set()
    Pacing(batch_size=1).wait(cancel)


# -- throttling ------------------------------------------------------------------------------------


def test_throttling_slows_a_run_down_and_fails_no_row(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, kms_standin: KmsStandin
) -> None:
    app = make_app(
        sqlite_database,
        rows=30,
        env={
            "provider": "aws",
            "kek": kms_standin.create_key(),
            "region": kms_standin.region,
            "endpoint_url": kms_standin.endpoint_url,
        },
    )
    dekctl.environ.update(kms_standin.environment())
    dekctl.json("schema", "expand")
    kms_standin.set_quota(5, burst=3)  # so little that the busiest machine exceeds it
    wrapped = dekctl.json("wrap", "--batch-size", "15")
    counters = kms_standin.counters()
    assert (wrapped["changed"], wrapped["quarantined"]) == (30, 0)
    assert counters.errors["ThrottlingException"] > 0, "the quota never struck"
    assert counters.succeeded["Encrypt"] == 30, "a call was made twice although it had succeeded"
    assert counters.errors["ThrottlingException"] < 300, "it hammered KMS instead of slowing down"
    kms_standin.set_quota(None)
    dekctl.json("verify")
    assert app.counts()["both"] == 30
