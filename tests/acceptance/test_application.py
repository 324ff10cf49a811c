"""The application never notices: docs/application.md, followed word by word under load.

The Flask example serves requests all the time while its keys move, versions change and KMS fails.
DEKCTL_APPLICATION_REQUESTS sets the minimum of requests in each step, and
DEKCTL_APPLICATION_CUT_SECONDS how long KMS is cut off.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from flask import Flask

from conftest import toml
from dekctl.config import TableConfig
from support.app import AppDatabase
from support.cli import Dekctl
from support.files_load import CONTENDED, Load
from support.generations import ALIAS, Generations
from support.kms_standin import CUT_BEFORE, Fault

EXAMPLE = Path(__file__).parents[2] / "examples" / "flask_app"
REQUESTS = int(os.environ.get("DEKCTL_APPLICATION_REQUESTS", "30"))
CUT_SECONDS = float(os.environ.get("DEKCTL_APPLICATION_CUT_SECONDS", "3"))
DEADLINE = 1.0
BUSY = 10.0
"""How much slower than on a quiet machine an answer may be before the test fails."""


class Fleet:
    """Deploys versions of the example: instances, each with its own engine and reader."""

    def __init__(self, database: AppDatabase, dekctl: Dekctl, generations: Generations) -> None:
        self._database, self._dekctl, self._generations = database, dekctl, generations
        self._started: list[Flask] = []
        self.configure("write")

    def configure(self, plaintext: str) -> None:
        """Write the ``dekctl.toml`` that goes out with a deploy."""
        env = self._generations.env
        self._dekctl.configure(toml(self._database, {"plaintext": plaintext}, env))

    def start(self, version: str) -> Flask:
        """An instance of a version."""
        app = import_module(version).create_app()
        assert isinstance(app, Flask)
        self._started.append(app)
        return app

    def close(self) -> None:
        """End the connections of every instance."""
        for app in self._started:
            app.extensions["engine"].dispose()
            if keys := app.extensions.get("keys"):
                keys.close()


@pytest.fixture
def fleet(
    app_server: AppDatabase,
    dekctl: Dekctl,
    generations: Generations,
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Fleet]:
    """The example's table, made by its own Alembic history, and its settings."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.setenv("DATABASE_URL", app_server.url)
    monkeypatch.setenv("DEKCTL_CONFIG", str(dekctl.folder / "dekctl.toml"))
    made = Fleet(app_server, dekctl, generations)
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
        run(Config(str(EXAMPLE / "alembic.ini")), *arguments)


def test_no_request_fails_from_the_legacy_table_to_the_end_of_the_old_kek(
    fleet: Fleet, dekctl: Dekctl, generations: Generations, app_server: AppDatabase
) -> None:
    def run(*arguments: str) -> dict[str, Any]:
        return dekctl.process("--json", *arguments).expect(0).json

    old = fleet.start("legacy")
    with Load([old, fleet.start("legacy")]) as load:

        def deploy(step: str, *instances: Flask) -> None:
            """One instance after the other, with requests to both versions in between."""
            load.instances = [load.instances[0], instances[0]]
            load.go_on(f"{step}, rolling", REQUESTS)
            load.instances = list(instances)
            load.go_on(step, REQUESTS)

        load.go_on("legacy", REQUESTS)
        run("schema", "expand")
        load.go_on("expanded", REQUESTS)
        run("migrate")
        load.go_on("migrated", REQUESTS)

        # Deploy 1, back to the old version, and forward again.
        write = [fleet.start("write"), fleet.start("write")]
        deploy("write", *write)
        deploy("back to legacy", old)
        deploy("write again", *write)
        alembic("write", command.check)
        assert run("migrate")["quarantined"] == 0
        status = run("status")
        assert (status["plaintext_only"], status["no_key"]) == (0, 0)

        # Deploy 2, back to the one before, and forward again.
        fleet.configure("refuse")
        refuse = [fleet.start("refuse"), fleet.start("refuse")]
        deploy("refuse", *refuse)
        deploy("back to write", *write)
        deploy("refuse again", *refuse)
        assert run("scrub", "--yes")["quarantined"] == 0
        load.go_on("scrubbed", REQUESTS)
        assert run("status")["both"] == 0

        run("schema", "contract", "--yes")
        load.go_on("contracted", REQUESTS)
        alembic("refuse", command.check)
        run("schema", "rollback", "--yes")
        load.go_on("one step back", REQUESTS)
        run("schema", "contract", "--yes")
        load.go_on("contracted again", REQUESTS)

        # A new KEK: every instance knows it before the first one wraps under it.
        g1, g2 = generations.active, generations.roll()
        activate(generations, g1)
        deploy("both KEKs known", fleet.start("refuse"), fleet.start("refuse"))
        activate(generations, g2)
        deploy("new KEK active", fleet.start("refuse"), fleet.start("refuse"))
        assert run("rewrap")["quarantined"] == 0
        load.go_on("rewrapped", REQUESTS)
        run("retire", "g1")
        generations.standin.kms().disable_key(KeyId=generations.arns["g1"])
        generations.states["g1"] = "disabled"
        generations.write()
        load.go_on("old KEK disabled", REQUESTS)
        survivors = [fleet.start("refuse"), fleet.start("refuse")]
        deploy("started without the old KEK", *survivors)

        outage(load, generations)
        load.go_on("after the outage", REQUESTS)

    assert load.failures == []
    every = {number: load.contents.get(number, CONTENDED) for number in numbers(load)}
    for number, content in every.items():
        found = load.read(number)
        assert found is not None
        assert found.startswith(content) if content == CONTENDED else found == content
    assert TableConfig().plaintext_column not in columns(app_server)
    assert run("verify")["failed"] == 0
    total = sum(load.requests.values())
    print(  # noqa: T201 - the figures of the run, shown with -rP or -s
        f"{total} requests in {len(load.requests)} steps, {len(every)} files, 0 failed; KMS away: "
        f"{sum(load.refused.values())} answered 503, the slowest after {load.slowest:.2f} s"
    )


def activate(generations: Generations, arn: str) -> None:
    """Make a generation the active one, as Terraform does."""
    generations.standin.kms().update_alias(AliasName=ALIAS, TargetKeyId=arn)
    for name, each in generations.arns.items():
        generations.states[name] = "active" if each == arn else "retired"
    generations.write()


def outage(load: Load, generations: Generations) -> None:
    """Cut KMS off: keys in memory are read on, new ones are refused within the deadline."""
    with load.paused():
        for instance in load.instances:
            for number in numbers(load):
                assert load.read(number, instance) is not None
        load.away = True
    generations.standin.set_faults(Fault(CUT_BEFORE), seed=1)
    end = time.monotonic() + CUT_SECONDS
    while time.monotonic() < end:
        load.go_on("KMS cut off", 10)
    generations.standin.clear_faults()
    load.go_on("KMS is back", REQUESTS)
    with load.paused():
        load.away = False
    assert load.refused["POST"] + load.refused["PUT"] > 0, "the cut came too late"
    assert load.slowest < DEADLINE * BUSY


def numbers(load: Load) -> list[int]:
    return [*load.contents, *load.contended]


def columns(database: AppDatabase) -> set[str]:
    query = "SELECT column_name FROM information_schema.columns WHERE table_name = :name"
    return {row[0] for row in database.sql(query, name="encrypted_files")}


@pytest.fixture(autouse=True)
def _forget_the_example() -> Any:
    yield
    for name in ("legacy", "write", "refuse"):
        sys.modules.pop(name, None)
