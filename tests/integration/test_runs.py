"""What people see of runs: while they are on, after they were killed, in files and in lists."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from dekctl.cli.commands.status import run_line
from dekctl.config import load_config
from dekctl.ledger import heartbeat
from dekctl.operations.wrap import Wrap
from dekctl.project import Project
from dekctl.walk.options import RowOptions
from dekctl.walk.progress import Moment
from dekctl.walk.run import run_rows
from support.app import AppDatabase
from support.cli import Dekctl
from support.generations import Generations
from support.kms_standin import KmsStandin
from support.waiting import wait_until


def kill_last(database: AppDatabase, operation: str) -> None:
    """Make the last run of a command look as it does after kill -9 of its process."""
    database.sql(
        "UPDATE dekctl_runs SET state = 'running', ended_at = NULL, pid = 1, process_started = "
        "substr(process_started, 1, length(process_started) - 1) || 'x' "
        "WHERE operation = :name AND started_at = (SELECT max(started_at) FROM dekctl_runs "
        "WHERE operation = :name)",
        name=operation,
    )


def test_a_run_tells_the_ledger_what_it_did_while_it_is_on(
    sqlite_database: AppDatabase,
    dekctl: Dekctl,
    make_app: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_app(sqlite_database, rows=3)
    dekctl.json("schema", "expand")
    monkeypatch.setattr(heartbeat, "HEARTBEAT_SECONDS", 0.01)
    for name, value in dekctl.environ.items():
        monkeypatch.setenv(name, value)
    told: list[int] = []

    def stored() -> int:
        [(text,)] = sqlite_database.sql("SELECT result FROM dekctl_runs WHERE operation = 'wrap'")
        return int(json.loads(text).get("changed", 0))

    def progress(moment: Moment) -> None:
        if moment.counts.changed == 2 and not told:
            wait_until(lambda: stored() == 2)
            told.append(stored())

    with Project(load_config(dekctl.folder / "dekctl.toml")) as project:
        run_rows(project, Wrap(), RowOptions(batch_size=1), progress)
    assert told == [2]


def test_killed_runs_and_dry_runs_are_listed_as_what_they_were(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=4)
    assert dekctl.json("runs")["ledger"] is False
    dekctl.json("schema", "expand")
    dekctl.json("wrap", "--limit", "1")
    dekctl.json("wrap", "--dry-run")
    dekctl.json("verify")
    kill_last(sqlite_database, "wrap")  # the dry run
    assert dekctl.json("status")["unfinished"][0]["rehearsed"] is True
    dekctl.json("wrap", "--limit", "2")
    kill_last(sqlite_database, "wrap")

    [dead] = dekctl.json("status")["unfinished"]  # nobody misses the dry run
    assert (dead["state"], dead["rows"], dead["rehearsed"]) == ("abandoned", 2, False)
    shown = dekctl("status").expect(0).stdout
    assert "abandoned: wrap of " in shown
    assert "2 rows until its last heartbeat" in shown
    assert "to resume: dekctl wrap" in shown

    found = dekctl.json("runs")["runs"]
    assert [run["operation"] for run in found] == ["wrap", "verify", "wrap", "wrap"]
    assert [run["rehearsed"] for run in found] == [False, False, True, False]
    assert [run["rows"] for run in dekctl.json("runs", "--no-dry-runs")["runs"]] == [2, 1, 1]
    assert len(dekctl.json("runs", "--state", "abandoned")["runs"]) == 2
    assert dekctl.json("runs", "--state", "running")["runs"] == []
    assert len(dekctl.json("runs", "--operation", "wrap", "--limit", "2")["runs"]) == 2
    assert dekctl.json("runs", "--since", "2999-01-01")["runs"] == []
    listed = dekctl("runs", "--table", "encrypted_files").expect(0).stdout.splitlines()
    assert len(listed) == 4
    assert "wrap encrypted_files (dry run)" in listed[2]
    dekctl.json("wrap")  # the next run finishes what the dead one began
    assert dekctl.json("status")["unfinished"] == []


def test_a_run_at_work_is_named() -> None:
    run = {
        **{"state": "running", "operation": "wrap", "rehearsed": False, "shard": "1/2"},
        **{"who": "ann", "host": "db1", "started_at": "2026-01-02 03:04:05.000", "rows": 1},
        **{"heartbeat_at": "2026-01-02 03:05:06.000", "error": None},
    }
    assert run_line(run) == (
        "running: wrap 1/2 of ann@db1, started 2026-01-02 03:04:05 UTC, 1 row so far, last "
        "heartbeat 03:05:06"
    )


def test_status_names_rows_under_a_retired_kek_and_says_what_it_could_not_see(
    sqlite_database: AppDatabase, make_app: Any, kms_standin: KmsStandin, dekctl: Dekctl
) -> None:
    generations = Generations.begin(kms_standin, dekctl)
    make_app(sqlite_database, rows=3, env=generations.env)
    dekctl.json("migrate")
    generations.roll()
    [kek] = dekctl.json("status")["keks"]
    assert (kek["generation"], kek["generation_state"]) == ("g1", "retired")
    assert "dekctl rewrap --from g1" in dekctl("status").expect(0).stdout
    file = dekctl.folder / "metrics.prom"
    dekctl.json("status", "--metrics", str(file))
    assert (
        'dekctl_rows_waiting{env="test",table="encrypted_files",for="rewrap"} 3' in file.read_text()
    )
    text = (dekctl.folder / "dekctl.toml").read_text()
    dekctl.configure(text.replace(kms_standin.endpoint_url, "http://127.0.0.1:1"))
    dark = dekctl("status").expect(5)
    assert "KMS does not report its state" in dark.stdout
    assert "3 rows V2" in dark.stdout


def test_a_rollback_counts_the_calls_of_all_its_passes(
    sqlite_database: AppDatabase, make_app: Any, kms_standin: KmsStandin, dekctl: Dekctl
) -> None:
    generations = Generations.begin(kms_standin, dekctl)
    make_app(sqlite_database, rows=5, env=generations.env)
    dekctl.json("migrate")
    dekctl.json("scrub", "--yes", "--limit", "3")
    done = dekctl.json("rollback", "--yes")
    # The two rows with both keys, the three that are restored, and all five before the columns go.
    assert done["kms_calls"] == {"Decrypt": 10}
    assert done["changed"] == 3


def test_metrics_of_a_run_and_of_the_state(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, tmp_path: Path
) -> None:
    make_app(sqlite_database, rows=4)
    file = tmp_path / "dekctl.prom"
    dekctl.json("status", "--metrics", str(file))
    assert (
        'dekctl_last_verify_age_seconds{env="test",table="encrypted_files"} +Inf'
        in file.read_text()
    )
    dekctl.json("migrate", "--metrics", str(file))
    text = file.read_text()
    labels = 'env="test",operation="verify",table="encrypted_files"'
    assert f'dekctl_run_rows{{{labels},what="verified"}} 4\n' in text
    assert f"dekctl_run_rows_left{{{labels}}} 0\n" in text
    assert 'dekctl_run_active{env="test",operation="verify"} 0\n' in text
    assert 'dekctl_run_errors{env="test",operation="verify",kind="failed"} 0\n' in text
    dekctl.json("status", "--metrics", str(file))
    text = file.read_text()
    assert "} +Inf" not in text
    assert 'dekctl_rows{env="test",table="encrypted_files",state="both"} 4\n' in text
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))  # each family stands together
    assert [path.name for path in tmp_path.glob(".*part")] == []
    refused = dekctl("wrap", "--metrics", str(tmp_path / "no" / "x.prom")).expect(2)
    assert "cannot write the metrics" in refused.stderr


def test_a_watch_shows_the_state_again_until_it_is_interrupted(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=2)
    child = dekctl.start("--json", "status", "--watch", "--every", "0.1")
    assert child.stdout is not None
    for _ in range(2):
        assert json.loads(child.stdout.readline())["plaintext_only"] == 2
    child.send_signal(signal.SIGINT)
    dekctl.finish(child).expect(0)


def test_progress_ends_true_and_its_json_lines_say_which_run_they_are_of(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=4)
    dekctl.json("schema", "expand")
    said = dekctl("wrap", "--batch-size", "2").expect(0).stderr
    assert "wrap encrypted_files: 4 of 4 rows (100.0%)" in said
    lines = [
        json.loads(line)
        for line in dekctl("--log-format", "json", "verify").expect(0).stderr.splitlines()
    ]
    last = lines[-1]
    assert (last["done"], last["total"], last["estimated"]) == (4, 4, False)
    assert (last["env"], last["command"], last["table"]) == ("test", "verify", "encrypted_files")
    assert last["run_id"] == dekctl.json("runs", "--limit", "1")["runs"][0]["run_id"]
    assert all(line["time"] for line in lines)
