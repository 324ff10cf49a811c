"""The application never notices: docs/application.md, followed word by word under load.

The Flask example serves requests all the time while its keys move, versions change and KMS fails.
DEKCTL_APPLICATION_REQUESTS sets the minimum of requests in each step, and
DEKCTL_APPLICATION_CUT_SECONDS how long KMS is cut off. With DEKCTL_WRITE_DOCS=1 the run writes its
figures and its picture into docs/.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config

from dekctl.config import TableConfig
from support.app import AppDatabase
from support.application_picture import picture
from support.cli import Dekctl
from support.files_load import CONTENDED, Load
from support.fleet import EXAMPLES, Fleet, assert_contents, deploy, numbers
from support.generations import Generations
from support.kms_standin import CUT_BEFORE, Fault
from support.services import Service, flask_service
from support.waiting import eventually
from support.zygote import Zygote

DOCS = Path(__file__).parents[2] / "docs"
REQUESTS = int(os.environ.get("DEKCTL_APPLICATION_REQUESTS", "15"))
CUT_SECONDS = float(os.environ.get("DEKCTL_APPLICATION_CUT_SECONDS", "2"))
DEADLINE = 1.0
BUSY = 10.0
"""How much slower than on a quiet machine an answer may be before the test fails."""


@pytest.fixture
def fleet(
    app_server: AppDatabase,
    dekctl: Dekctl,
    generations: Generations,
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Fleet]:
    """The example's table, made by its own Alembic history, and its settings."""
    made = Fleet(app_server, dekctl, generations, flask_service)
    made.use("flask_app", app_server.url, monkeypatch)
    alembic("legacy", command.upgrade, "head")
    yield made
    made.close()


@pytest.fixture(params=["postgresql", "mariadb"])
def app_server(request: pytest.FixtureRequest) -> AppDatabase:
    """A database on a server."""
    name = {"postgresql": "postgres_database", "mariadb": "mariadb_database"}[request.param]
    database = request.getfixturevalue(name)
    assert isinstance(database, AppDatabase)
    return database


def alembic(version: str, run: Callable[..., Any], *arguments: str) -> None:
    """Run a command of the application's own Alembic, with the model of a version."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APP_VERSION", version)
        run(Config(str(EXAMPLES / "flask_app" / "alembic.ini")), *arguments)


def test_no_request_fails_from_the_legacy_table_to_the_end_of_the_old_kek(
    fleet: Fleet,
    dekctl: Dekctl,
    generations: Generations,
    app_server: AppDatabase,
    tmp_path: Path,
) -> None:
    old = fleet.start("legacy")
    # Forks of one process: most of a command's time is Python's, for its imports.
    with Zygote(tmp_path) as zygote, Load([old, fleet.start("legacy")]) as load:
        environ = {**dekctl.environ, "DEKCTL_CONFIG": str(dekctl.folder / "dekctl.toml")}

        def run(step: str, *arguments: str) -> dict[str, Any]:
            """A command, with requests while it runs and after it."""
            load.begin(step)
            ended = zygote.wait(zygote.start(["--json", *arguments], environ))
            assert ended is not None
            assert ended.code == 0, ended.stdout + ended.stderr
            load.go_on(REQUESTS)
            result: dict[str, Any] = json.loads(ended.stdout)
            return result

        load.begin("before")
        load.go_on(REQUESTS)
        run("schema expand", "schema", "expand")
        run("migrate", "migrate")

        # Deploy 1, back to the old version, and forward again.
        write = fleet.pair("write")
        deploy(load, "write", write, REQUESTS)
        deploy(load, "back to the old version", [old, old], REQUESTS)
        deploy(load, "write again", write, REQUESTS)
        alembic("write", command.check)
        assert run("migrate again", "migrate")["quarantined"] == 0
        status = dekctl.json("status")
        assert (status["plaintext_only"], status["no_key"]) == (0, 0)

        # Deploy 2, back to the one before, and forward again.
        fleet.configure("refuse")
        refuse = fleet.pair("refuse")
        deploy(load, "refuse", refuse, REQUESTS)
        deploy(load, "back to write", write, REQUESTS)
        deploy(load, "refuse again", refuse, REQUESTS)
        assert run("scrub", "scrub", "--yes")["quarantined"] == 0
        assert dekctl.json("status")["both"] == 0

        run("schema contract", "schema", "contract", "--yes")
        alembic("refuse", command.check)
        run("schema rollback", "schema", "rollback", "--yes")
        run("schema contract again", "schema", "contract", "--yes")

        # A new KEK: every instance knows it before the first one wraps under it.
        g1, g2 = generations.active, generations.roll()
        fleet.activate(g1)
        deploy(load, "both KEKs known", fleet.pair("refuse"), REQUESTS)
        fleet.activate(g2)
        deploy(load, "new KEK active", fleet.pair("refuse"), REQUESTS)
        assert run("rewrap", "rewrap")["quarantined"] == 0
        run("retire", "retire", "g1")
        load.begin("old KEK disabled")
        generations.standin.kms().disable_key(KeyId=g1)
        generations.states["g1"] = "disabled"
        generations.write()
        load.go_on(REQUESTS)
        deploy(load, "started without the old KEK", fleet.pair("refuse", DEADLINE), REQUESTS)

        outage(load, generations, fleet.pair("refuse"))

    assert load.failures == []
    files = assert_contents(load)
    assert TableConfig().plaintext_column not in columns(app_server)
    assert dekctl.json("verify")["failed"] == 0
    tell(load, files, {"postgresql": "PostgreSQL", "mariadb": "MariaDB"}[app_server.kind])


def outage(load: Load, generations: Generations, later: list[Service]) -> None:
    """Cut KMS off: keys in memory are read on, new ones are refused within the deadline."""
    load.begin("every key read once")
    with load.paused():
        for instance in load.instances:
            for number in numbers(load):
                assert eventually(partial(is_ok, instance, "GET", f"/files/{number}"))
        load.away = True
        generations.standin.set_faults(Fault(CUT_BEFORE), seed=1)
    load.begin("KMS cut off")
    end = time.monotonic() + CUT_SECONDS
    while time.monotonic() < end or not load.refused:
        load.go_on(5)
    with load.paused():
        generations.standin.clear_faults()
        for instance in load.instances:
            assert eventually(partial(is_ok, instance, "PUT", f"/files/{load.contended[0]}"))
        load.away, load.instances = False, later
    load.begin("KMS is back")
    load.go_on(REQUESTS)
    assert load.steps["KMS cut off"].reads["kms"] == 0
    assert load.slowest < DEADLINE * BUSY


def is_ok(service: Service, method: str, path: str) -> bool:
    return service.request(method, path, CONTENDED).status == 200


def columns(database: AppDatabase) -> set[str]:
    query = "SELECT column_name FROM information_schema.columns WHERE table_name = :name"
    return {row[0] for row in database.sql(query, name="encrypted_files")}


def tell(load: Load, files: int, database: str) -> None:
    """Print the figures of the run (shown with -rP), and put them into the docs where asked to."""
    steps = {name: step for name, step in load.steps.items() if step.latencies and name != "end"}
    latencies = sorted(seconds for step in steps.values() for seconds in step.latencies)
    reads = sum((step.reads for step in steps.values()), Counter())
    cut = steps["KMS cut off"]
    cells = [
        database,
        f"{len(latencies):,}",
        f"{len(steps)}",
        "0",
        "0",
        f"{files}",
        f"{reads['old version'] + reads['plaintext']:,}",
        f"{reads['kms']:,}",
        f"{reads['cache'] + reads['stale']:,}",
        f"{statistics.median(latencies) * 1000:.0f} ms",
        f"{latencies[len(latencies) * 99 // 100] * 1000:.0f} ms",
        f"{cut.seconds:.0f} s",
        f"{sum(load.refused.values()):,} of {len(cut.latencies):,}",
        f"{load.slowest:.2f} s",
    ]
    row = f"| {' | '.join(cells)} |"
    print(row)  # noqa: T201 - the figures of the run
    if os.environ.get("DEKCTL_WRITE_DOCS") != "1":
        return
    page = DOCS / "application.md"
    text = page.read_text(encoding="utf-8")
    text, found = re.subn(rf"^\| {database} \|.*$", row, text, flags=re.MULTILINE)
    assert found == 1, "the page has no row for these figures"
    page.write_text(text, encoding="utf-8")
    title = f"An application's move, on {database}: {len(latencies):,} requests, 0 failed"
    file = DOCS / f"application-{database.lower()}.svg"
    file.write_text(picture(title, steps), encoding="utf-8")
