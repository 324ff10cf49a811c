"""The schema steps: columns of the seed's own migration, steps that died half-way, printed SQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from dekctl.kms import EnvKMS, InMemoryKMS
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


def shape(app: Application) -> list[tuple[str, str, bool | None]]:
    return sorted((c.name, str(c.type), c.nullable) for c in app.now().c)


# -- columns that were there before --------------------------------------------------------------


def test_columns_of_the_seeds_migration_are_taken_over_and_left_behind(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=6)
    add_seed_columns(app, "wrapped_key", "wrapped_key_version", "kek_id")
    before = shape(app)
    # The seed's script was here: V1, no context.
    kms = EnvKMS(dekctl.environ)
    for pk in list(app.deks)[:3]:
        app.set(pk, wrapped=kms.wrap(app.deks[pk]), version="V1", kek=kms.kek_id)

    for command in (["wrap"], ["scrub", "--yes"], ["schema", "contract", "--yes"]):
        assert "dekctl schema expand" in dekctl(*command).expect(3).stderr
    assert shape(app) == before
    result = dekctl.json("migrate")
    assert (result["changed"], result["verified"]) == (3, 6)
    versions = {(k["version"], k["rows"]) for k in dekctl.json("status")["keks"]}
    assert versions == {("V1", 3), ("V2", 3)}
    app.assert_files_open(kms)

    assert dekctl.json("rewrap")["changed"] == 3
    assert {k["version"] for k in dekctl.json("status")["keks"]} == {"V2"}
    dekctl("schema", "rollback", "--yes").expect(0)
    assert shape(app) == before, "rollback dropped a column that was not dekctl's"
    assert app.counts()["both"] == 6
    assert dekctl.json("schema", "current")["revision"] == "base"
    # And once more.
    dekctl("migrate").expect(0)


def test_a_half_done_migration_of_the_seed_is_completed(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=3)
    add_seed_columns(app, "wrapped_key", "wrapped_key_version")
    before = shape(app)
    dekctl("migrate").expect(0)
    assert app.counts()["both"] == 3
    dekctl("schema", "rollback", "--yes").expect(0)
    assert shape(app) == before


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
    before = shape(app)
    assert column in dekctl("migrate").expect(3).stderr
    assert shape(app) == before


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


# -- a step that dies ----------------------------------------------------------------------------


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
    legacy = shape(app)
    ready_for(dekctl, step)
    before = shape(app)
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
        assert shape(app) == legacy
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
    assert sorted(c[0] for c in shape(app)) == sorted(c[0] for c in before)


# -- SQL for somebody else to run ----------------------------------------------------------------


def test_the_printed_sql_runs_and_dekctl_goes_on_from_it(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=4)
    legacy = shape(app)

    def run_printed(step: str) -> None:
        before = shape(app)
        text = dekctl("schema", step, "--sql").expect(0).stdout
        assert shape(app) == before, "--sql must not change anything"
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
    assert shape(app) == legacy
    assert {r["encryption_key"] for r in app.rows().values()} == set(app.deks.values())


@pytest.mark.parametrize("step", ["contract", "rollback"])
def test_the_printed_sql_stops_while_a_key_would_be_lost(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any, step: str
) -> None:
    app = make_app(app_database, rows=4)
    dekctl("migrate").expect(0)
    if step == "rollback":
        dekctl("scrub", "--yes").expect(0)
    before = shape(app)
    text = dekctl("schema", step, "--sql").expect(0).stdout
    with pytest.raises(app_database.engine.dialect.loaded_dbapi.Error):
        app_database.script(text)
    assert shape(app) == before
    app.assert_files_open(EnvKMS(dekctl.environ))


# -- an application that does not stop writing ---------------------------------------------------


def test_contract_never_drops_a_plaintext_that_a_legacy_writer_leaves_meanwhile(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(app_database, rows=30)
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    stop, refused = threading.Event(), threading.Event()
    written: list[int] = []

    def legacy_writer() -> None:
        number = 1000
        while not stop.is_set() and not refused.is_set() and number < 1400:
            number += 1
            try:
                app_database.sql(
                    "INSERT INTO encrypted_files (id, filename, encryption_key, ciphertext) "
                    "VALUES (:id, 'late', :dek, :text)",
                    id=number,
                    dek=b"k" * 32,
                    text=b"x",
                )
                written.append(number)
                stop.wait(0.005)
            except sa.exc.DBAPIError:
                refused.set()  # the guard is there, or the column is gone

    writer = threading.Thread(target=legacy_writer)
    writer.start()
    try:
        result = dekctl("schema", "contract", "--yes")
    finally:
        stop.set()
        writer.join()
    found = app_database.sql("SELECT count(*) FROM encrypted_files WHERE id > 1000")
    assert found == [(len(written),)]
    if result.exit_code == 0:  # it came before the first write
        assert written == []
        return
    result.expect(3)
    assert dekctl.json("status")["stage"] == "expanded"
    kept = "SELECT count(*) FROM encrypted_files WHERE id > 1000 AND encryption_key IS NOT NULL"
    assert app_database.sql(kept) == [(len(written),)]
    # The guard is gone again: the legacy application goes on.
    app_database.sql(
        "INSERT INTO encrypted_files (id, filename, encryption_key, ciphertext) "
        "VALUES (5000, 'later', :dek, :text)",
        dek=b"k" * 32,
        text=b"x",
    )


def test_a_writer_between_the_check_and_the_drop_stops_the_contract(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=3)
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    late = threading.Event()

    def write_late(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        # The first guard has looked; the next statement is the first that changes something.
        first = statement.startswith(("ALTER TABLE", "LOCK TABLES", "BEGIN IMMEDIATE"))
        if first and not late.is_set():
            late.set()
            app.add(1)

    sa.event.listen(sa.Engine, "before_cursor_execute", write_late)
    try:
        result = dekctl("schema", "contract", "--yes")
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", write_late)
    assert late.is_set()
    result.expect(3)
    assert app.counts() == {"plaintext_only": 1, "both": 0, "wrapped_only": 3, "no_key": 0}
    app.assert_files_open(EnvKMS(dekctl.environ))


# -- two tables ----------------------------------------------------------------------------------


def test_two_tables_share_one_ledger_and_go_together(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    first = make_app(app_database, rows=3)
    second = make_app(app_database, rows=2, name="attachments", context_name="attachments")
    dekctl.configure(
        '[[table]]\nname = "encrypted_files"\n[[table]]\nname = "attachments"\n'
        'context_name = "attachments"\n'
        f'[env.test]\ndatabase_url = "{app_database.url}"\nprovider = "env"\n'
    )
    assert dekctl.json("migrate")["changed"] == 5
    status = dekctl.json("status")
    assert (status["rows"], len(status["tables"])) == (5, 2)
    dekctl("scrub", "--yes", "--table", "attachments").expect(0)
    # One table is not ready: neither is contracted.
    assert "encrypted_files" in dekctl("schema", "contract", "--yes").expect(3).stderr
    assert {t["stage"] for t in dekctl.json("status")["tables"]} == {"expanded"}
    dekctl("scrub", "--yes").expect(0)
    dekctl("schema", "contract", "--yes").expect(0)
    for app in (first, second):
        app.assert_files_open(EnvKMS(dekctl.environ))
    # A blob of one table does not open in the other.
    swapped = second.rows()[(1,)]["wrapped_key"]
    first.set((1,), wrapped=swapped)
    assert dekctl.json("verify", expect=4)["failed"] == 1


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


def test_tables_at_different_stages_do_not_hold_up_one_another(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    first = make_app(app_database, rows=3)
    second = make_app(app_database, rows=2, name="attachments", context_name="attachments")
    dekctl.configure(
        '[[table]]\nname = "encrypted_files"\n[[table]]\nname = "attachments"\n'
        'context_name = "attachments"\n'
        f'[env.test]\ndatabase_url = "{app_database.url}"\nprovider = "env"\n'
    )
    ready = [["migrate"], ["scrub", "--yes"], ["schema", "contract", "--yes"]]
    for step in ready:
        dekctl(*step, "--table", "encrypted_files").expect(0)

    # The second table comes later; the first has no work left.
    for step in ready:
        said = dekctl(*step).expect(0)
    assert {t["stage"] for t in dekctl.json("status")["tables"]} == {"contracted"}

    # A rollback that ended between two tables goes on with the other, and may be said again.
    dekctl("rollback", "--yes", "--table", "encrypted_files").expect(0)
    for _ in range(2):
        said = dekctl("rollback", "--yes").expect(0)
        assert "back at the legacy schema" in said.stdout
    dekctl("schema", "rollback", "--yes").expect(0)
    assert {t["stage"] for t in dekctl.json("status")["tables"]} == {"legacy"}
    for app in (first, second):
        app.assert_files_open(EnvKMS(dekctl.environ))
