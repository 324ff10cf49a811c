"""``examples/fastapi_app`` under load: no request fails from its legacy version to the last one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.app import AppDatabase
from support.cli import Dekctl
from support.files_load import Load
from support.fleet import Fleet, assert_contents, deploy
from support.generations import Generations
from support.services import EventLoop

pytest.importorskip("fastapi")

REQUESTS = 12


@pytest.fixture
def fleet(
    postgres_database: AppDatabase,
    dekctl: Dekctl,
    generations: Generations,
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Fleet]:
    loop = EventLoop()
    made = Fleet(postgres_database, dekctl, generations, loop.service)
    url = postgres_database.url.replace("+psycopg:", "+asyncpg:")
    assert "+asyncpg:" in url
    made.use("fastapi_app", url, monkeypatch)
    yield made
    made.close()
    loop.close()


def test_no_request_fails_with_asyncio(fleet: Fleet, dekctl: Dekctl) -> None:
    old = fleet.start("legacy")  # makes the table
    with Load([old, old]) as load:
        load.go_on(REQUESTS)
        dekctl.json("migrate")
        write = fleet.pair("write")
        deploy(load, "write", write, REQUESTS)
        deploy(load, "back to the old version", [old, old], REQUESTS)
        deploy(load, "write again", write, REQUESTS)
        assert dekctl.json("migrate")["quarantined"] == 0
        fleet.configure("refuse")
        deploy(load, "refuse", fleet.pair("refuse"), REQUESTS)
        dekctl.json("scrub", "--yes")
        dekctl.json("schema", "contract", "--yes")
        load.go_on(REQUESTS)
    assert load.failures == []
    assert assert_contents(load) > 0
    assert dekctl.json("verify")["failed"] == 0
