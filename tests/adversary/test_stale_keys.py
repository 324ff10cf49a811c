"""An old application version re-keys a row: no reader gets the wrapped key of the old one."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

import pytest
import sqlalchemy as sa

from dekctl.kms import EnvKMS
from support.app import AppDatabase, Application
from support.cli import Dekctl
from support.waiting import PATIENCE_SECONDS

WRAPPED = ("wrapped_key", "wrapped_key_version", "kek_id")
TRIGGER = "zz_dekctl_encrypted_files"


def rekey(app: Application, key: bytes | str | None, pk: int = 1) -> None:
    """As an application version does that knows the plaintext column only."""
    app.database.sql(
        "UPDATE encrypted_files SET encryption_key = :key WHERE id = :pk", key=key, pk=pk
    )


def wrapped(app: Application, pk: int = 1) -> list[Any]:
    row = app.rows()[(pk,)]
    return [row[column] for column in WRAPPED]


def test_a_new_plaintext_empties_the_wrapped_columns_and_the_next_migrate_wraps(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=3)
    dekctl("migrate").expect(0)
    new = os.urandom(32)
    dekctl.hidden.append(new)
    rekey(app, new)
    assert wrapped(app) == [None, None, None]
    assert None not in wrapped(app, 2)
    assert dekctl.json("migrate")["changed"] == 1
    kms = EnvKMS(dekctl.environ)
    context = {"dekctl:table": "encrypted_files", "dekctl:pk": "1"}
    assert kms.unwrap(app.rows()[(1,)]["wrapped_key"], context) == new
    dekctl("doctor").expect(0)
    assert dekctl.json("status")["trigger"] == "intact"


@pytest.mark.parametrize("key", [None, b""], ids=["NULL", "empty"])
def test_a_wrapped_key_that_may_be_the_only_one_stays(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any, key: bytes | None
) -> None:
    app = make_app(app_database, rows=2)
    dekctl("migrate").expect(0)
    before = wrapped(app)
    rekey(app, key)
    assert wrapped(app) == before


def test_other_writes_leave_the_wrapped_columns_alone(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=2)
    dekctl("migrate").expect(0)
    before = wrapped(app)
    app_database.sql("UPDATE encrypted_files SET filename = 'x', encryption_key = encryption_key")
    assert wrapped(app) == before
    app_database.sql(
        "UPDATE encrypted_files SET encryption_key = :key, wrapped_key = :blob WHERE id = 1",
        key=os.urandom(32),
        blob=b"blob",
    )
    assert wrapped(app) == [b"blob", *before[1:]]


def test_keys_that_are_equal_by_their_collation_differ(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    if app_database.kind == "postgresql":
        app_database.sql(
            "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', "
            "deterministic = false)"
        )
    app = make_app(app_database, rows=1, plaintext_encoding="hex", storage="text")
    loose = {
        "postgresql": "ALTER TABLE encrypted_files ALTER COLUMN encryption_key TYPE varchar(64) "
        'COLLATE "loose"'
    }.get(app_database.kind)
    if loose:
        app_database.sql(loose)
    dekctl("migrate").expect(0)
    rekey(app, app.rows()[(1,)]["encryption_key"].upper())
    assert wrapped(app) == [None, None, None]


def test_restore_keeps_the_wrapped_keys_and_the_trigger(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=3)
    for command in (["migrate"], ["scrub", "--yes"], ["restore", "--yes"]):
        dekctl(*command).expect(0)
    assert app.counts()["both"] == 3
    assert dekctl.json("status")["trigger"] == "intact"
    for command in (["scrub", "--yes"], ["schema", "contract", "--yes"]):
        dekctl(*command).expect(0)
    assert dekctl.json("status")["trigger"] is None
    dekctl("schema", "rollback", "--yes").expect(0)
    assert dekctl.json("status")["trigger"] == "intact"
    dekctl("rollback", "--yes").expect(0)
    app.assert_files_open()
    assert _triggers(app_database) == []


def test_a_table_expanded_before_gets_the_trigger_by_expand_again(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=2)
    dekctl("schema", "expand").expect(0)
    on = " ON encrypted_files" if app_database.kind == "postgresql" else ""
    app_database.sql(f"DROP TRIGGER {TRIGGER}{on}")
    assert dekctl.json("status")["trigger"] == "missing"
    assert "dekctl schema expand" in dekctl("doctor").stdout
    dekctl("schema", "expand").expect(0)
    assert dekctl.json("status")["trigger"] == "intact"
    assert not dekctl.json("schema", "expand")["changed"]
    dekctl("wrap").expect(0)
    rekey(app, os.urandom(32))
    assert wrapped(app) == [None, None, None]


def test_without_the_trigger_doctor_says_what_to_do_by_hand(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=2)
    dekctl("schema", "expand", "--without-trigger").expect(0)
    dekctl("migrate").expect(0)  # keeps what was chosen
    assert _triggers(app_database) == []
    assert dekctl.json("status")["trigger"] == "left out"
    assert "dekctl verify" in dekctl("doctor").expect(0).stdout
    before = wrapped(app)
    rekey(app, os.urandom(32))
    assert wrapped(app) == before
    dekctl("verify").expect(4)
    rekey(app, app.deks[(1,)])
    dekctl("schema", "expand").expect(0)
    assert dekctl.json("status")["trigger"] == "intact"
    dekctl("schema", "expand", "--without-trigger").expect(0)
    assert _triggers(app_database) == []
    for command in (["scrub", "--yes"], ["schema", "contract", "--yes"], ["rollback", "--yes"]):
        dekctl(*command, *(["--retry-quarantined"] if command[0] == "scrub" else [])).expect(0)
    app.assert_files_open()


def test_a_trigger_that_others_changed_is_noticed(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(app_database, rows=2)
    dekctl("migrate").expect(0)
    other = {
        "postgresql": [f"ALTER TABLE encrypted_files DISABLE TRIGGER {TRIGGER}"],
        "mariadb": [
            f"CREATE OR REPLACE TRIGGER {TRIGGER} BEFORE UPDATE ON encrypted_files FOR EACH ROW "
            "SET NEW.size = 0"
        ],
        "sqlite": [
            f"DROP TRIGGER {TRIGGER}",
            f"CREATE TRIGGER {TRIGGER} AFTER UPDATE ON encrypted_files BEGIN SELECT 1; END",
        ],
    }
    for statement in other[app_database.kind]:
        app_database.sql(statement)
    assert dekctl.json("status")["trigger"] == "changed"
    assert dekctl("doctor").exit_code != 0
    dekctl("schema", "expand").expect(0)
    dekctl("doctor").expect(0)


def test_the_printed_sql_makes_the_trigger_too(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=2)
    app_database.script(dekctl("schema", "expand", "--sql").expect(0).stdout)
    assert dekctl.json("status")["trigger"] == "intact"
    dekctl("wrap").expect(0)
    rekey(app, os.urandom(32))
    assert wrapped(app) == [None, None, None]
    text = dekctl("schema", "expand", "--sql", "--without-trigger").expect(0).stdout
    assert "CREATE TRIGGER" not in text


def test_the_printed_sql_is_for_the_servers_own_client(
    mariadb_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    client = shutil.which("mariadb") or shutil.which("mysql")
    if client is None:
        pytest.skip("MariaDB's client is not installed")
    make_app(mariadb_database, rows=2)
    url = mariadb_database.engine.url
    subprocess.run(
        [client, "-h127.0.0.1", f"-P{url.port}", f"-u{url.username}", str(url.database)],
        input=dekctl("schema", "expand", "--sql").expect(0).stdout,
        env={**os.environ, "MYSQL_PWD": str(url.password)},
        text=True,
        check=True,
        timeout=PATIENCE_SECONDS,
    )
    assert dekctl.json("status")["trigger"] == "intact"


def _triggers(database: AppDatabase) -> list[Any]:
    queries = {
        "postgresql": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal",
        "mariadb": "SELECT trigger_name FROM information_schema.triggers "
        "WHERE trigger_schema = DATABASE()",
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
    }
    return database.sql(queries[database.kind])


# -- PostgreSQL ------------------------------------------------------------------------------------


def test_a_partition_is_covered_too(postgres_database: AppDatabase, dekctl: Dekctl) -> None:
    for statement in (
        "CREATE TABLE encrypted_files (id INTEGER PRIMARY KEY, encryption_key BYTEA NOT NULL) "
        "PARTITION BY RANGE (id)",
        "CREATE TABLE low PARTITION OF encrypted_files FOR VALUES FROM (0) TO (10)",
        "INSERT INTO encrypted_files VALUES (1, sha256('1')), (2, sha256('2'))",
    ):
        postgres_database.sql(statement)
    dekctl.configure(f'[env.test]\ndatabase_url = "{postgres_database.url}"\nprovider = "env"\n')
    for command in (["migrate"], ["scrub", "--yes"], ["restore", "--yes"]):
        dekctl("--env", "test", *command).expect(0)
    postgres_database.sql("CREATE TABLE high PARTITION OF encrypted_files DEFAULT")
    postgres_database.sql("UPDATE low SET encryption_key = sha256('3') WHERE id = 1")
    assert postgres_database.sql("SELECT id FROM encrypted_files WHERE wrapped_key IS NULL") == [
        (1,)
    ]
    assert dekctl("--env", "test", "--json", "status").json["trigger"] == "intact"
    for command in (
        ["wrap"],
        ["scrub", "--yes"],
        ["schema", "contract", "--yes"],
        ["rollback", "--yes"],
    ):
        dekctl("--env", "test", *command).expect(0)


def test_no_search_path_of_a_writer_changes_what_the_trigger_does(
    postgres_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(postgres_database, rows=1)
    dekctl("migrate").expect(0)
    for statement in (
        "CREATE SCHEMA evil",
        "CREATE FUNCTION evil.octet_length(bytea) RETURNS integer LANGUAGE sql AS 'SELECT 0'",
        "CREATE FUNCTION evil.same(bytea, bytea) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
        "CREATE OPERATOR evil.= (LEFTARG = bytea, RIGHTARG = bytea, FUNCTION = evil.same)",
    ):
        postgres_database.sql(statement)
    with postgres_database.engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL search_path = evil, pg_catalog, public")
        connection.execute(
            sa.text("UPDATE encrypted_files SET encryption_key = :key"), {"key": os.urandom(32)}
        )
    assert wrapped(app) == [None, None, None]


def test_a_writer_needs_no_right_on_the_function(
    postgres_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(postgres_database, rows=1)
    dekctl("migrate").expect(0)
    role = f"writer_{os.getpid()}"
    postgres_database.sql(f"CREATE ROLE {role}")
    postgres_database.sql(f"GRANT SELECT, UPDATE ON encrypted_files TO {role}")
    try:
        with postgres_database.engine.begin() as connection:
            connection.exec_driver_sql(f"SET LOCAL ROLE {role}")
            connection.execute(
                sa.text("UPDATE encrypted_files SET encryption_key = :key"), {"key": os.urandom(32)}
            )
        assert wrapped(app) == [None, None, None]
    finally:
        postgres_database.sql(f"DROP OWNED BY {role}")
        postgres_database.sql(f"DROP ROLE {role}")
