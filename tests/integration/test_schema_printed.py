"""The SQL that a schema step prints, for somebody else to run."""

from __future__ import annotations

from typing import Any

import pytest

from dekctl.kms import EnvKMS
from support.app import AppDatabase
from support.cli import Dekctl


def test_the_printed_sql_runs_and_dekctl_goes_on_from_it(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=4)
    legacy = app.shape()

    def run_printed(step: str) -> None:
        before = app.shape()
        text = dekctl("schema", step, "--sql").expect(0).stdout
        assert app.shape() == before, "--sql must not change anything"
        app_database.script(text)

    run_printed("expand")
    assert dekctl.json("schema", "current")["revision"] == "table_0001"
    assert dekctl.json("schema", "expand")["changed"] is False
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    run_printed("contract")
    assert dekctl.json("status")["stage"] == "contracted"
    assert dekctl.json("schema", "current")["revision"] == "table_0002"
    run_printed("rollback")
    assert dekctl.json("status")["stage"] == "expanded"
    dekctl("restore", "--yes").expect(0)
    run_printed("rollback")
    assert app.shape() == legacy
    assert {r["encryption_key"] for r in app.rows().values()} == set(app.deks.values())


@pytest.mark.parametrize("step", ["contract", "rollback"])
def test_the_printed_sql_stops_while_a_key_would_be_lost(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any, step: str
) -> None:
    app = make_app(app_database, rows=4)
    dekctl("migrate").expect(0)
    if step == "rollback":
        dekctl("scrub", "--yes").expect(0)
    before = app.shape()
    text = dekctl("schema", step, "--sql").expect(0).stdout
    with pytest.raises(app_database.engine.dialect.loaded_dbapi.Error):
        app_database.script(text)
    assert app.shape() == before
    app.assert_files_open(EnvKMS(dekctl.environ))
