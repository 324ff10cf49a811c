"""``--workers``: the same walk in several processes, one of them killed, or interrupted."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from dekctl.kms import EnvKMS
from support.app import AppDatabase, Application
from support.cli import Dekctl
from support.kms_standin import KmsStandin
from support.waiting import wait_until

ROWS = 1500


def workers_of(pid: int) -> list[int]:
    """The worker processes of a running dekctl."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        command = Path(f"/proc/{child}/cmdline").read_bytes()
        if b"spawn_main" in command:
            found.append(int(child))
    return found


def wrapped_rows(app: Application) -> int:
    return int(
        app.database.sql("SELECT count(*) FROM encrypted_files WHERE wrapped_key IS NOT NULL")[0][0]
    )


def on_standin(
    make_app: Any,
    database: AppDatabase,
    dekctl: Dekctl,
    standin: KmsStandin,
    rows: int = ROWS,
    kek: str | None = None,
) -> Application:
    dekctl.environ |= standin.environment()
    env = {"provider": "aws", "kek": kek or standin.create_key(), "region": standin.region}
    app: Application = make_app(database, rows=rows, env=env)
    dekctl.json("schema", "expand")
    return app


@pytest.mark.parametrize("extra", [[], ["--hierarchical"]], ids=["V2", "V3"])
def test_two_workers_do_every_row_once_and_enter_one_run(
    extra: list[str], postgres_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(postgres_database, rows=ROWS)
    dekctl.json("schema", "expand")

    done = dekctl.process("--json", "wrap", "--workers", "2", *extra).expect(0).json
    assert (done["scanned"], done["changed"], done["moved"]) == (ROWS, ROWS, 0)
    app.assert_files_open(EnvKMS(dekctl.environ))
    runs = dekctl.json("status")["runs"]
    assert [(run["operation"], run["state"]) for run in runs] == [("wrap", "finished")]
    assert runs[0]["result"]["changed"] == ROWS
    assert runs[0]["kek_id"] == EnvKMS(dekctl.environ).kek_id

    done = dekctl.process("--json", "verify", "--workers", "2").expect(0).json
    assert (done["verified"], done["failed"]) == (ROWS, 0)

    rehearsal = ("rewrap", "--dry-run", "--same-key", "--workers", "2")
    estimate = dekctl.process("--json", *rehearsal).expect(0).json["estimate"]
    assert estimate["V2"]["kms_calls"] >= ROWS, "what each worker found is not added up"


def test_the_range_of_a_killed_worker_is_done_again(
    postgres_database: AppDatabase, dekctl: Dekctl, make_app: Any, kms_standin: KmsStandin
) -> None:
    app = on_standin(make_app, postgres_database, dekctl, kms_standin)
    # A low rate makes the ranges small and the run long enough to be hit in the middle.
    child = dekctl.start("--json", "wrap", "--workers", "2", "--rate", "600", "--batch-size", "100")
    wait_until(lambda: wrapped_rows(app) > 200, child)
    os.kill(workers_of(child.pid)[0], signal.SIGKILL)

    done = dekctl.finish(child).expect(0).json
    assert done["quarantined"] == 0
    assert wrapped_rows(app) == ROWS
    assert dekctl.json("verify")["verified"] == ROWS
    assert dekctl.json("status")["runs"][-1]["state"] == "finished"
    # What the lost worker wrote is in no count, so the run is no evidence of where rows came from.
    [(result,)] = postgres_database.sql("SELECT result FROM dekctl_runs WHERE operation = 'wrap'")
    assert json.loads(result)["incomplete"]


def test_an_interrupt_ends_all_workers_and_the_same_command_goes_on(
    postgres_database: AppDatabase, dekctl: Dekctl, make_app: Any, kms_standin: KmsStandin
) -> None:
    app = on_standin(make_app, postgres_database, dekctl, kms_standin)
    child = dekctl.start("--json", "wrap", "--workers", "2", "--rate", "400", "--batch-size", "100")
    wait_until(lambda: wrapped_rows(app) > 200, child)
    workers = workers_of(child.pid)
    child.send_signal(signal.SIGINT)

    done = dekctl.finish(child).expect(130).json
    assert done["interrupted"]
    assert 0 < wrapped_rows(app) < ROWS
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    dekctl.process("wrap", "--workers", "2").expect(0)
    assert wrapped_rows(app) == ROWS


def test_a_range_of_poison_rows_is_set_aside_where_other_ranges_are_good(
    postgres_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(postgres_database, rows=25_000)
    dekctl.json("schema", "expand")
    postgres_database.sql("UPDATE encrypted_files SET encryption_key = '\\x00' WHERE id > 20000")
    done = dekctl.process("--json", "wrap", "--workers", "2").expect(4).json
    assert (done["changed"], done["quarantined"]) == (20_000, 5_000)
    assert wrapped_rows(app) == 20_000


def test_ranges_of_poison_rows_alone_are_refused_and_nothing_is_written(
    postgres_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(postgres_database, rows=300)
    dekctl.json("schema", "expand")
    postgres_database.sql("UPDATE encrypted_files SET encryption_key = '\\x00'")
    assert "all rejected" in dekctl.process("wrap", "--workers", "2").expect(3).stderr
    assert wrapped_rows(app) == 0
    assert dekctl.json("status")["quarantined"] == 0


def test_workers_share_the_rate(
    postgres_database: AppDatabase, dekctl: Dekctl, make_app: Any, kms_standin: KmsStandin
) -> None:
    app = on_standin(make_app, postgres_database, dekctl, kms_standin, rows=1500)
    given = ["--json", "--log-format", "json", "wrap", "--workers", "3", "--rate", "300"]
    ended = dekctl.process(*given).expect(0)
    done = ended.json
    assert wrapped_rows(app) == 1500
    assert done["kms_calls"] == {"Encrypt": 1500}
    assert 1500 / done["seconds"] <= 330
    told = [json.loads(line) for line in ended.stderr.splitlines()]
    assert told[-1]["kms_seconds"] > 0, "progress says how long KMS takes to answer the workers"


@pytest.mark.parametrize(
    "arguments",
    [["--workers", "2", "--limit", "5"], ["--workers", "2", "--cluster", "tcp://127.0.0.1:1"]],
)
def test_options_that_exclude_each_other_are_refused(
    arguments: list[str], sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=1)
    dekctl.json("schema", "expand")
    dekctl("wrap", *arguments).expect(2)


def test_a_refusal_of_kms_ends_all_workers(
    postgres_database: AppDatabase, dekctl: Dekctl, make_app: Any, kms_standin: KmsStandin
) -> None:
    kek = kms_standin.create_key()
    on_standin(make_app, postgres_database, dekctl, kms_standin, rows=100, kek=kek)
    kms_standin.kms().disable_key(KeyId=kek)
    done = dekctl.process("wrap", "--workers", "2").expect(5)
    assert "DisabledException" in done.stderr


def test_workers_without_a_processor_are_not_started(
    postgres_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(postgres_database, rows=3)
    dekctl.json("schema", "expand")
    dekctl.environ["DEKCTL_PROCESSORS"] = "2"
    done = dekctl("wrap", "--workers", "4").expect(0)
    assert "--workers 4 is lowered to 1: 2 processors are usable here and the" in done.stderr
    assert wrapped_rows(app) == 3
    dekctl.environ["DEKCTL_PROCESSORS"] = "many"
    assert "unset DEKCTL_PROCESSORS" in dekctl("wrap", "--workers", "4").expect(2).stderr
