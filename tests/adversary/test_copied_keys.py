"""Engines without transactions, triggers, histories and logs that keep or show raw keys."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sandbox.mariadb import MariaDBServer
from sandbox.postgres import PostgresServer
from support.app import AppDatabase
from support.cli import Dekctl
from support.secrets import assert_hidden

AUDIT = {
    "postgresql": [
        "CREATE TABLE history (old_key bytea)",
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN INSERT INTO history VALUES (OLD.encryption_key); RETURN NULL; END'",
        "CREATE TRIGGER keep_history AFTER UPDATE ON encrypted_files "
        "FOR EACH ROW EXECUTE FUNCTION keep()",
    ],
    "mariadb": [
        "CREATE TABLE history (old_key VARBINARY(64))",
        "CREATE TRIGGER keep_history AFTER UPDATE ON encrypted_files "
        "FOR EACH ROW INSERT INTO history VALUES (OLD.encryption_key)",
    ],
    "sqlite": [
        "CREATE TABLE history (old_key BLOB)",
        "CREATE TRIGGER keep_history AFTER UPDATE ON encrypted_files "
        "BEGIN INSERT INTO history VALUES (OLD.encryption_key); END",
    ],
}


def test_a_trigger_that_may_copy_keys_is_named_everywhere(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(app_database, rows=2)
    for statement in AUDIT[app_database.kind]:
        app_database.sql(statement)
    commands = (
        ["doctor"],
        ["migrate", "--dry-run"],
        ["schema", "expand"],
        ["migrate"],
        ["scrub", "--yes", "--dry-run"],
        ["scrub", "--yes"],
    )
    for command in commands:
        done = dekctl(*command).expect(0)
        assert "the trigger keep_history" in done.stdout + done.stderr, command
        assert "zz_dekctl" not in done.stderr


@pytest.mark.parametrize("engine", ["MyISAM", "Aria", "MEMORY"])
def test_a_table_that_ignores_commit_is_refused_before_anything_is_changed(
    mariadb_database: AppDatabase, dekctl: Dekctl, make_app: Any, engine: str
) -> None:
    app = make_app(mariadb_database)
    if engine == "MEMORY":
        mariadb_database.sql("ALTER TABLE encrypted_files MODIFY ciphertext VARBINARY(100)")
    mariadb_database.sql(f"ALTER TABLE encrypted_files ENGINE={engine}")
    app.add(2)
    tables = mariadb_database.sql("SHOW TABLES")
    for command in (["migrate"], ["migrate", "--dry-run"], ["schema", "expand"], ["doctor"]):
        done = dekctl(*command).expect(3)
        said = done.stdout + done.stderr
        assert "ALTER TABLE encrypted_files ENGINE=InnoDB;" in said, command
        assert mariadb_database.sql("SHOW TABLES") == tables, command
    mariadb_database.sql("ALTER TABLE encrypted_files ENGINE=InnoDB;")
    dekctl("migrate").expect(0)


def test_a_ledger_that_ignores_commit_is_refused(
    mariadb_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(mariadb_database, rows=2)
    dekctl("schema", "expand").expect(0)
    mariadb_database.sql("ALTER TABLE dekctl_quarantine ENGINE=Aria")
    for command in (["wrap"], ["scrub", "--yes"], ["schema", "contract", "--yes"], ["doctor"]):
        done = dekctl(*command).expect(3)
        said = done.stdout + done.stderr
        assert "ALTER TABLE dekctl_quarantine ENGINE=InnoDB;" in said, command


def test_the_ledger_has_transactions_whatever_the_servers_default_is(
    mariadb_server: MariaDBServer, mariadb_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(mariadb_database, rows=2)
    mariadb_server.sql("SET GLOBAL default_storage_engine = MyISAM")
    try:
        dekctl("migrate").expect(0)
    finally:
        mariadb_server.sql("SET GLOBAL default_storage_engine = InnoDB")
    dekctl("scrub", "--yes").expect(0)


def test_a_history_of_raw_keys_is_refused_or_accepted_by_name(
    mariadb_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(mariadb_database, rows=3)
    mariadb_database.sql("ALTER TABLE encrypted_files ADD SYSTEM VERSIONING")
    done = dekctl("migrate").expect(3)
    assert "DROP SYSTEM VERSIONING" in done.stderr
    mariadb_database.sql("SET GLOBAL system_versioning_alter_history = KEEP")
    try:
        assert "system versioning" in dekctl("migrate").expect(0).stderr
    finally:
        mariadb_database.sql("SET GLOBAL system_versioning_alter_history = ERROR")
    assert "3 rows of its history" in dekctl("scrub", "--yes").expect(3).stderr
    result = dekctl("scrub", "--yes", "--accept-history").expect(0)
    assert "the history of encrypted_files: 9 rows with a plaintext" in result.stderr
    hint = "DELETE HISTORY FROM encrypted_files;"
    assert hint in result.stderr
    sample = dekctl.folder / "sample"
    dekctl("residue", "sample", "--output", str(sample)).expect(0)
    search = ("residue", "search", "--sample", str(sample), str(dekctl.folder / "dekctl.toml"))
    assert dekctl.json(*search, expect=4)["histories"] == {
        "encrypted_files": 9
    }  # with the filler that overwrote each key
    mariadb_database.sql(hint)
    assert dekctl.json(*search)["histories"] == {"encrypted_files": 0}


@contextmanager
def switched_on(server: MariaDBServer, variable: str) -> Iterator[None]:
    server.sql(f"SET GLOBAL {variable} = ON")
    try:
        yield
    finally:
        server.sql(f"SET GLOBAL {variable} = OFF")


@pytest.mark.parametrize("log", ["general_log", "slow_query_log"])
def test_no_key_is_written_while_the_server_logs_statements(
    mariadb_server: MariaDBServer,
    mariadb_database: AppDatabase,
    dekctl: Dekctl,
    make_app: Any,
    log: str,
) -> None:
    app = make_app(mariadb_database, rows=2)
    for command in (["migrate"], ["scrub", "--yes"], ["schema", "contract", "--yes"]):
        dekctl(*command).expect(0)
    with switched_on(mariadb_server, log):
        assert f"SET GLOBAL {log} = OFF" in dekctl("rollback", "--yes").expect(3).stderr
        assert dekctl.json("status")["stage"] == "contracted"
    dekctl("schema", "rollback", "--yes").expect(0)
    with switched_on(mariadb_server, log):
        assert f"SET GLOBAL {log} = OFF" in dekctl("restore", "--yes").expect(3).stderr
        assert app.counts()["wrapped_only"] == 2
        done = dekctl("restore", "--yes", "--accept-logging").expect(0)
        assert "every key that is written shows in: the " in done.stderr
    dekctl("rollback", "--yes").expect(0)


def test_postgresqls_log_shows_no_key_whatever_it_logs(
    postgres_server: PostgresServer, postgres_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(postgres_database, rows=3)
    name = postgres_database.sql("SELECT current_database()")[0][0]
    for setting in (
        "log_statement = 'all'",
        "log_min_duration_statement = 0",
        "log_parameter_max_length = -1",
        "log_parameter_max_length_on_error = -1",
    ):
        postgres_database.sql(f"ALTER DATABASE {name} SET {setting}")
    for command in (["migrate"], ["scrub", "--yes"], ["restore", "--yes"], ["rollback", "--yes"]):
        dekctl(*command).expect(0)
    log = postgres_server.log.read_text(errors="replace")
    assert "COPY pg_temp.dekctl_changes" in log
    assert_hidden(log, app.deks.values(), "PostgreSQL's log")


def test_a_constraint_over_a_key_is_named_beforehand(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(app_database, rows=2)
    app_database.sql("CREATE UNIQUE INDEX one_each ON encrypted_files (encryption_key)")
    for command in (["doctor"], ["schema", "expand"]):
        done = dekctl(*command).expect(0)
        assert "UNIQUE one_each" in done.stdout + done.stderr


def test_a_role_that_may_not_make_the_trigger_is_refused_with_the_missing_grant(
    mariadb_server: MariaDBServer, mariadb_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(mariadb_database, rows=2)
    user = f"u{os.getpid()}"
    database = mariadb_database.engine.url.database
    rights = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, LOCK TABLES, REFERENCES, INDEX"
    mariadb_server.sql(f"CREATE USER {user}@'127.0.0.1' IDENTIFIED BY 'x'")
    mariadb_server.sql(
        f"GRANT {rights}, CREATE TEMPORARY TABLES ON {database}.* TO {user}@'127.0.0.1'"
    )
    try:
        url = mariadb_database.engine.url.set(username=user, password="x")
        text = (dekctl.folder / "dekctl.toml").read_text()
        shown = url.render_as_string(hide_password=False)
        dekctl.configure(text.replace(mariadb_database.url, shown))
        before = set(app.rows()[(1,)])
        done = dekctl("migrate").expect(3)
        assert "TRIGGER ON encrypted_files" in done.stderr
        assert "dekctl schema expand --without-trigger" in done.stderr
        assert set(app.rows()[(1,)]) == before
        dekctl("schema", "expand", "--without-trigger").expect(0)
        for command in (["migrate"], ["scrub", "--yes"], ["schema", "contract", "--yes"]):
            dekctl(*command).expect(0)
        dekctl("rollback", "--yes").expect(0)
    finally:
        mariadb_server.sql(f"DROP USER {user}@'127.0.0.1'")
