"""``dekctl uninstall``: nothing of dekctl's is left, and nothing that a row needs goes."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from dekctl.workflows import uninstall as module
from support.app import AppDatabase
from support.cli import Dekctl

MakeApp = Any


def own(database: AppDatabase) -> list[str]:
    """What dekctl still has in a database."""
    names = sa.inspect(database.engine).get_table_names()
    return sorted(name for name in names if name.startswith("dekctl"))


@pytest.mark.parametrize("wrapping", ["V2", "V3"])
def test_only_a_table_that_was_rolled_back_lets_dekctl_go(
    app_database: AppDatabase, dekctl: Dekctl, make_app: MakeApp, wrapping: str
) -> None:
    app = make_app(app_database, rows=5, wrapping=wrapping)
    assert dekctl.json("uninstall", "--yes")["dropped"] == []
    dekctl("migrate").expect(0)
    before = own(app_database)
    refused = dekctl("uninstall", "--yes").expect(3)
    assert "is at stage expanded" in refused.stderr
    assert "dekctl rollback --table encrypted_files" in refused.stderr
    dekctl("rollback", "--yes").expect(0)
    assert dekctl.json("uninstall", "--dry-run")["dropped"]
    assert "not confirmed" in dekctl("uninstall").expect(3).stderr
    assert own(app_database) == before, "neither a dry run nor a refusal drops anything"
    dropped = dekctl.json("uninstall", "--yes")["dropped"]
    assert sorted(dropped) == before
    assert own(app_database) == []
    app.assert_files_open()
    dekctl("migrate").expect(0)  # and it can come again


def test_a_table_that_the_file_does_not_list_any_more_stops_it(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: MakeApp
) -> None:
    make_app(sqlite_database, rows=2, context_name="first")
    dekctl("migrate").expect(0)
    make_app(sqlite_database, rows=2, name="others", context_name="second")
    before = own(sqlite_database)
    refused = dekctl("uninstall", "--yes").expect(3)
    assert "'first'" in refused.stderr
    assert own(sqlite_database) == before


def test_rows_of_v3_that_no_step_made_keep_their_branch_keys(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: MakeApp
) -> None:
    """A table whose wrapped columns were the application's own looks rolled back."""
    columns = "wrapped_key BLOB", "wrapped_key_version VARCHAR(8)", "kek_id VARCHAR(2048)"
    app = make_app(sqlite_database, rows=2)
    for column in columns:
        sqlite_database.sql(f"ALTER TABLE encrypted_files ADD COLUMN {column}")
    dekctl("migrate").expect(0)
    dekctl("rollback", "--yes").expect(0)
    app.set((1,), wrapped=b"x", version="V3")
    refused = dekctl("uninstall", "--yes").expect(3)
    assert "1 row (V3)" in refused.stderr
    app.set((1,), wrapped=None, version=None)
    dekctl("uninstall", "--yes").expect(0)
    assert own(sqlite_database) == []


def test_rows_of_v3_keep_their_branch_keys_without_the_column_that_says_so(
    app_database: AppDatabase, dekctl: Dekctl, make_app: MakeApp
) -> None:
    """By its columns such a table looks as if dekctl had never been there."""
    app = make_app(app_database, rows=2, wrapping="V3")
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    if app_database.kind == "sqlite":  # its trigger names the column
        app_database.sql(f"DROP TRIGGER {app.config.trigger}")
    app_database.sql("ALTER TABLE encrypted_files RENAME COLUMN wrapped_key_version TO saved")
    before = own(app_database)
    for command in (("uninstall", "--dry-run"), ("uninstall", "--yes")):
        assert "2 rows (V3)" in dekctl(*command).expect(3).stderr
    assert own(app_database) == before


def test_a_run_that_is_writing_stops_it(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: MakeApp
) -> None:
    make_app(sqlite_database, rows=2)
    dekctl("migrate").expect(0)
    dekctl("rollback", "--yes").expect(0)
    # On another machine, with a heartbeat of now.
    sqlite_database.sql(
        "UPDATE dekctl_runs SET state = 'running', ended_at = NULL, dry_run = 0, host = 'other', "
        "process_started = 'elsewhere/1', "
        "heartbeat_at = strftime('%Y-%m-%d %H:%M:%f', 'now', '+10 seconds')"
    )
    assert "has been running on" in dekctl("uninstall", "--yes").expect(3).stderr


def test_a_row_of_v3_that_is_issued_meanwhile_keeps_its_branch_key(
    app_database: AppDatabase, dekctl: Dekctl, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an application, between the last look at the rows and the drop."""
    app = make_app(app_database, rows=2)
    blob = {"sqlite": "BLOB", "postgresql": "BYTEA", "mariadb": "VARBINARY(6144)"}
    wrapped = f"wrapped_key {blob[app_database.kind]}"
    for column in (wrapped, "wrapped_key_version VARCHAR(8)", "kek_id VARCHAR(2048)"):
        app_database.sql(f"ALTER TABLE encrypted_files ADD COLUMN {column}")
    dekctl("migrate").expect(0)
    dekctl("rollback", "--yes").expect(0)
    look = module.refuse_needed

    def looked(project: Any) -> None:
        look(project)
        app.set((1,), wrapped=b"x", version="V3")

    monkeypatch.setattr(module, "refuse_needed", looked)
    before = own(app_database)
    assert "1 row (V3)" in dekctl("uninstall", "--yes").expect(3).stderr
    assert own(app_database) == before

    monkeypatch.undo()
    app.set((1,), wrapped=None, version=None)
    dekctl("uninstall", "--yes").expect(0)
    assert own(app_database) == []
