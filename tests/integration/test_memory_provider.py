"""Rows of the memory provider are of no use to the next process; one command wraps them again."""

from __future__ import annotations

from typing import Any

import pytest

from dekctl.kms import EnvKMS, InMemoryKMS
from support.app import AppDatabase
from support.cli import Dekctl


def test_a_row_wrapped_by_the_memory_provider_is_of_no_use_to_the_next_process(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(sqlite_database, rows=2, env={"provider": "memory"})
    dekctl("migrate").expect(0)
    result = dekctl.process("verify").expect(5)
    assert "is not available" in result.stderr
    assert app.counts()["both"] == 2
    with pytest.raises(Exception, match="is not available"):
        app.assert_files_open(InMemoryKMS())


@pytest.mark.parametrize("hierarchical", [[], ["--hierarchical"]], ids=["V2", "V3"])
def test_rows_of_the_memory_provider_are_wrapped_again_by_the_command_that_is_named(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any, hierarchical: list[str]
) -> None:
    app = make_app(sqlite_database, rows=3, env={"provider": "memory"})
    dekctl.process("migrate", *hierarchical).expect(0)
    config = dekctl.folder / "dekctl.toml"
    config.write_text(config.read_text().replace('"memory"', '"env"'))
    said = [dekctl("verify").expect(5), dekctl("scrub", "--yes").expect(3)]
    said.append(dekctl("rewrap").expect(5))
    assert all("dekctl wrap --stale" in each.stderr for each in said)
    assert dekctl.json("wrap", "--stale", "--dry-run")["changed"] == 3
    assert dekctl.json("wrap", "--stale")["changed"] == 3
    assert dekctl.json("verify")["verified"] == 3
    dekctl("scrub", "--yes").expect(0)
    app.assert_files_open(EnvKMS(dekctl.environ))
