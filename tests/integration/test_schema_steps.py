"""Schema steps: columns that were there before, steps that died half-way, a ledger that is gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from dekctl.kms import EnvKMS
from support.app import AppDatabase, Application
from support.cli import Dekctl

SEED_COLUMNS = {
    "sqlite": ("BLOB", "VARCHAR(10)", "VARCHAR(255)"),
    "postgresql": ("BYTEA", "VARCHAR(10)", "VARCHAR(255)"),
    "mariadb": ("BLOB", "VARCHAR(10)", "VARCHAR(255)"),
}


def add_seed_columns(app: Application, *names: str) -> None:
    """What the seed's own Alembic migration did, on a table that allows NULL already."""
    kinds = dict(
        zip(
            ("wrapped_key", "wrapped_key_version", "kek_id"),
            SEED_COLUMNS[app.database.kind],
            strict=True,
        )
    )
    for name in names:
        app.database.sql(f"ALTER TABLE encrypted_files ADD COLUMN {name} {kinds[name]}")


def test_columns_of_the_seeds_migration_are_taken_over_and_left_behind(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=6)
    add_seed_columns(app, "wrapped_key", "wrapped_key_version", "kek_id")
    before = app.shape()
    # The seed's script was here: V1, no context.
    kms = EnvKMS(dekctl.environ)
    for pk in list(app.deks)[:3]:
        app.set(pk, wrapped=kms.wrap(app.deks[pk]), version="V1", kek=kms.kek_id)

    for command in (["wrap"], ["scrub", "--yes"], ["schema", "contract", "--yes"]):
        assert "dekctl schema expand" in dekctl(*command).expect(3).stderr
    assert app.shape() == before
    result = dekctl.json("migrate")
    assert (result["changed"], result["verified"]) == (3, 6)
    versions = {(k["version"], k["rows"]) for k in dekctl.json("status")["keks"]}
    assert versions == {("V1", 3), ("V2", 3)}
    app.assert_files_open(kms)

    assert dekctl.json("rewrap")["changed"] == 3
    assert {k["version"] for k in dekctl.json("status")["keks"]} == {"V2"}
    dekctl("schema", "rollback", "--yes").expect(0)
    assert app.shape() == before, "rollback dropped a column that was not dekctl's"
    assert app.counts()["both"] == 6
    assert dekctl.json("schema", "current")["revision"] == "base"
    # And once more.
    dekctl("migrate").expect(0)


def test_a_half_done_migration_of_the_seed_is_completed(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=3)
    add_seed_columns(app, "wrapped_key", "wrapped_key_version")
    before = app.shape()
    dekctl("migrate").expect(0)
    assert app.counts()["both"] == 3
    dekctl("schema", "rollback", "--yes").expect(0)
    assert app.shape() == before


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("wrapped_key", "VARCHAR(255)"),
        ("wrapped_key", "INTEGER"),
        ("kek_id", "VARCHAR(20)"),
        ("wrapped_key_version", "INTEGER"),
    ],
)
def test_a_column_of_the_same_name_that_cannot_hold_what_dekctl_writes_is_refused(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any, column: str, kind: str
) -> None:
    app = make_app(app_database, rows=2)
    app_database.sql(f"ALTER TABLE encrypted_files ADD COLUMN {column} {kind}")
    before = app.shape()
    assert column in dekctl("migrate").expect(3).stderr
    assert app.shape() == before


def test_a_wrapped_column_that_pads_is_refused(
    mariadb_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(mariadb_database, rows=1)
    mariadb_database.sql("ALTER TABLE encrypted_files ADD COLUMN wrapped_key BINARY(255)")
    assert "without padding" in dekctl("schema", "expand").expect(3).stderr


def test_a_plaintext_column_that_holds_no_keys_is_refused(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(app_database, rows=2)
    text = (dekctl.folder / "dekctl.toml").read_text()
    dekctl.configure(text.replace("[table]", '[table]\nplaintext_column = "size"'))
    assert "neither text nor binary" in dekctl("migrate").expect(3).stderr


def test_the_ledger_may_be_removed_without_losing_a_key(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=4)
    dekctl("migrate").expect(0)
    for table in ("dekctl_tables", "dekctl_runs", "dekctl_quarantine"):
        app_database.sql(f"DROP TABLE {table}")
    dekctl("status").expect(0)
    assert "dekctl schema expand" in dekctl("scrub", "--yes").expect(3).stderr
    [kind] = [c.type for c in app.now().c if c.name == "encryption_key"]
    definition = f"{kind.compile(dialect=app_database.engine.dialect)} NOT NULL"
    assert definition in dekctl("schema", "expand").expect(3).stderr
    dekctl("schema", "expand", "--adopt", definition).expect(0)
    dekctl("scrub", "--yes").expect(0)
    dekctl("schema", "contract", "--yes").expect(0)
    app.assert_files_open(EnvKMS(dekctl.environ))


def test_expand_and_contract_again_do_nothing(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(app_database, rows=2)
    assert dekctl.json("schema", "expand")["changed"] is True
    assert dekctl.json("schema", "expand")["changed"] is False
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    assert dekctl.json("schema", "contract", "--yes")["changed"] is True
    assert dekctl.json("schema", "contract")["changed"] is False  # nobody is asked


@contextmanager
def dying_at(number: int) -> Iterator[list[str]]:
    """Kill whoever sends the statement of this number that changes a table or a revision.

    MariaDB has then kept what went before, as it does when a process is killed there.
    """
    seen: list[str] = []

    def look(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        words = statement.split()
        changes = words[0] in {"ALTER", "CREATE", "DROP"} or (
            words[0] in {"INSERT", "UPDATE", "DELETE"} and "dekctl_version" in statement
        )
        if changes and "INDEX" not in words[:2]:
            seen.append(statement)
            if len(seen) == number:
                raise KeyboardInterrupt

    sa.event.listen(sa.Engine, "before_cursor_execute", look)
    try:
        yield seen
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", look)


STEPS = (["schema", "expand"], ["schema", "contract", "--yes"], ["rollback", "--yes"])


@pytest.mark.parametrize("step", STEPS, ids=["expand", "contract", "rollback"])
def test_a_step_that_dies_at_any_statement_is_finished_by_running_it_again(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any, step: list[str]
) -> None:
    app = make_app(app_database, rows=1)
    legacy = app.shape()
    ready_for(dekctl, step)
    before = app.shape()
    # Where a step is one transaction, not every statement has to be tried.
    stride = 1 if app_database.kind == "mariadb" else 3
    number = 1
    while True:
        with dying_at(number) as seen:
            result = dekctl(*step)
        if len(seen) < number:
            break
        assert result.exit_code == 130, seen[-1]
        dekctl(*step).expect(0)
        go_back(dekctl, app, step, before)
        number += stride
    result.expect(0)
    assert number > stride, "no statement was met"
    if step[0] == "rollback":
        assert app.shape() == legacy
        assert {r["encryption_key"] for r in app.rows().values()} == set(app.deks.values())
    else:
        assert dekctl.json("schema", "current")["revision"] in {"table_0001", "table_0002"}
        app.assert_files_open(EnvKMS(dekctl.environ))


def ready_for(dekctl: Dekctl, step: list[str]) -> None:
    if step[1] == "expand":
        return
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    if step[0] == "rollback":
        dekctl("schema", "contract", "--yes").expect(0)


def go_back(dekctl: Dekctl, app: Application, step: list[str], before: Any) -> None:
    """To where the step began."""
    if step[1] != "expand" and step[0] != "rollback":
        dekctl("schema", "rollback", "--yes").expect(0)
    elif step[0] == "rollback":
        ready_for(dekctl, step)
    else:
        dekctl("schema", "rollback", "--yes").expect(0)
    assert sorted(c[0] for c in app.shape()) == sorted(c[0] for c in before)
