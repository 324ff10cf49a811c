"""A session has dekctl's own settings, whatever the server, the role or a pooler gives it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from dekctl.config import EnvConfig, TableConfig
from dekctl.db.connect import database_of
from dekctl.db.database import Database
from dekctl.db.row import Change
from dekctl.db.table import DekTable
from sandbox.mariadb import MariaDBServer
from sandbox.postgres import PostgresServer
from support.app import AppDatabase, Application
from support.cli import Dekctl
from support.pgbouncer import pgbouncer

STORY = (
    ["doctor"],
    ["migrate"],
    ["scrub", "--yes"],
    ["verify"],
    ["schema", "contract", "--yes"],
    ["rollback", "--yes"],
)


def whole_story(dekctl: Dekctl) -> None:
    for step in STORY:
        dekctl(*step).expect(0)


def ids_of_rows(rows: int) -> list[str]:
    """Keys that no 8-bit encoding has all characters of."""
    return [f"ключ-é-{number}" for number in range(rows)]


def text_keys(database: AppDatabase, rows: int = 5) -> dict[str, bytes]:
    """A table whose keys need UTF-8; the DEK of each."""
    kind = {"postgresql": "BYTEA", "mariadb": "VARBINARY(64)"}[database.kind]
    text = {"postgresql": "TEXT", "mariadb": "VARCHAR(60) CHARACTER SET utf8mb4"}[database.kind]
    database.sql(f"CREATE TABLE encrypted_files (id {text} PRIMARY KEY, encryption_key {kind})")
    keys = {pk: bytes([65 + i]) * 32 for i, pk in enumerate(ids_of_rows(rows))}
    for pk, dek in keys.items():
        database.sql("INSERT INTO encrypted_files VALUES (:pk, :dek)", pk=pk, dek=dek)
    return keys


def stored(database: AppDatabase) -> dict[str, bytes]:
    return {
        pk: bytes(dek) for pk, dek in database.sql("SELECT id, encryption_key FROM encrypted_files")
    }


def configure(dekctl: Dekctl, url: str) -> None:
    dekctl.configure(f'[env.test]\ndatabase_url = "{url}"\nprovider = "env"\n')


# -- PostgreSQL ----------------------------------------------------------------------------------

ODD_SETTINGS = {
    "client_encoding": "LATIN1",
    "datestyle": "'SQL, DMY'",
    "intervalstyle": "sql_standard",
    "timezone": "'Asia/Kathmandu'",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "standard_conforming_strings": "off",
    "quote_all_identifiers": "on",
    "default_transaction_isolation": "serializable",
    "row_security": "on",
}


@contextmanager
def role(
    server: PostgresServer, database: AppDatabase, settings: Mapping[str, str]
) -> Iterator[str]:
    """A role with settings of its own; the URL with which dekctl works as it."""
    server.sql("CREATE ROLE operator SUPERUSER LOGIN PASSWORD 'operator'")
    try:
        for name, value in settings.items():
            server.sql(f"ALTER ROLE operator SET {name} = {value}")
        url = make_url(database.url).set(username="operator", password="operator")
        yield url.render_as_string(hide_password=False)
    finally:
        name = str(make_url(database.url).database)
        server.sql("REASSIGN OWNED BY operator TO CURRENT_USER", name)
        server.sql("DROP ROLE operator")


def test_defaults_of_a_postgresql_role_change_nothing(
    postgres_server: PostgresServer, postgres_database: AppDatabase, dekctl: Dekctl
) -> None:
    keys = text_keys(postgres_database)
    with role(postgres_server, postgres_database, ODD_SETTINGS) as url:
        configure(dekctl, url)
        whole_story(dekctl)
        assert stored(postgres_database) == keys


def test_a_session_has_the_settings_that_the_driver_relies_on(
    postgres_server: PostgresServer, postgres_database: AppDatabase
) -> None:
    with (
        role(postgres_server, postgres_database, ODD_SETTINGS) as url,
        database_of(EnvConfig("test", database_url=url)) as opened,
        opened.transaction() as connection,
    ):

        def show(name: str) -> str:
            return str(connection.exec_driver_sql(f"SHOW {name}").scalar_one())

        assert show("transaction_isolation") == "read committed"
        found = {name: show(name) for name in ODD_SETTINGS if not name.startswith("default")}
    assert found == {
        "client_encoding": "UTF8",
        "datestyle": "ISO, MDY",
        "intervalstyle": "postgres",
        "timezone": "UTC",
        "bytea_output": "hex",
        "extra_float_digits": "3",
        "standard_conforming_strings": "on",
        "quote_all_identifiers": "off",
        "row_security": "off",
    }


@pytest.fixture
def ascii_database(postgres_server: PostgresServer) -> Iterator[AppDatabase]:
    """A database without an encoding, as old clusters have them."""
    name = "sql_ascii"
    postgres_server.sql(
        f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0"
    )
    url = make_url(postgres_server.url(name)).update_query_dict({"client_encoding": "utf8"})
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    yield AppDatabase("postgresql", postgres_server.url(name), engine)
    engine.dispose()
    postgres_server.sql(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_database_without_an_encoding_works(ascii_database: AppDatabase, dekctl: Dekctl) -> None:
    keys = text_keys(ascii_database)
    configure(dekctl, ascii_database.url)
    whole_story(dekctl)
    assert stored(ascii_database) == keys


def test_a_text_that_is_no_utf_8_is_told_as_what_it_is(
    ascii_database: AppDatabase, dekctl: Dekctl
) -> None:
    text_keys(ascii_database)
    configure(dekctl, ascii_database.url)
    dekctl("migrate").expect(0)
    raw = psycopg.connect(
        ascii_database.url.replace("+psycopg", ""), client_encoding="sql_ascii", autocommit=True
    )
    with closing(raw):
        raw.execute(b"INSERT INTO encrypted_files VALUES ('caf\xe9', 'K')")
    for command in (["wrap"], ["verify"], ["wrap", "--dry-run"]):
        result = dekctl(*command).expect(6)
        assert "not UTF-8" in result.stderr
        assert "bug" not in result.stderr


def in_a_schema(database: AppDatabase) -> None:
    """A table outside of the default search path."""
    database.sql("CREATE SCHEMA shop")
    database.sql("CREATE TABLE shop.encrypted_files (id INT PRIMARY KEY, encryption_key BYTEA)")
    database.sql("INSERT INTO shop.encrypted_files VALUES (1, :key)", key=b"K" * 32)


def test_an_unqualified_table_is_found_where_the_role_looks(
    postgres_server: PostgresServer, postgres_database: AppDatabase, dekctl: Dekctl
) -> None:
    in_a_schema(postgres_database)
    with role(postgres_server, postgres_database, {"search_path": "shop, public"}) as url:
        configure(dekctl, url)
        assert dekctl.json("migrate")["changed"] == 1


@pytest.mark.parametrize("option", ["-csearch_path=shop", "-c search_path=shop,\\ public"])
def test_an_unqualified_table_is_found_where_the_url_says(
    postgres_database: AppDatabase, dekctl: Dekctl, option: str
) -> None:
    in_a_schema(postgres_database)
    url = make_url(postgres_database.url).update_query_dict({"options": option})
    with pgbouncer(url.render_as_string(hide_password=False)) as pooled:
        configure(dekctl, pooled.replace("\\", "%5C"))
        assert dekctl.json("migrate")["changed"] == 1


def test_what_another_client_left_in_a_pooled_session_changes_nothing(
    postgres_database: AppDatabase, dekctl: Dekctl
) -> None:
    keys = text_keys(postgres_database)
    with pgbouncer(postgres_database.url) as pooled:
        other = psycopg.connect(pooled.replace("+psycopg", ""), prepare_threshold=None)
        with closing(other):
            other.autocommit = True
            for setting in ("search_path = ''", "bytea_output = escape", "lock_timeout = 1"):
                other.execute(f"SET {setting}")
            left = other.execute("SHOW search_path").fetchone()
        assert left == ('""',)
        configure(dekctl, pooled)
        whole_story(dekctl)
    assert stored(postgres_database) == keys


# -- MariaDB -------------------------------------------------------------------------------------


@contextmanager
def defaults(server: MariaDBServer, settings: Mapping[str, str]) -> Iterator[None]:
    """Defaults of the server's new sessions, while the block lasts."""
    before = {name: server.sql(f"SELECT @@GLOBAL.{name}")[0][0] for name in settings}
    try:
        for name, value in settings.items():
            server.sql(f"SET GLOBAL {name} = {value}")
        yield
    finally:
        for name, old in before.items():
            text = str(old) if isinstance(old, int) else f"'{old}'"
            server.sql(f"SET GLOBAL {name} = {text}")


MODES = ("ANSI_QUOTES", "ANSI", "ORACLE", "NO_BACKSLASH_ESCAPES", "PAD_CHAR_TO_FULL_LENGTH")


@pytest.mark.parametrize("mode", MODES)
def test_the_mode_of_a_mariadb_server_changes_nothing(
    mariadb_server: MariaDBServer, mariadb_database: AppDatabase, dekctl: Dekctl, mode: str
) -> None:
    keys = text_keys(mariadb_database)
    configure(dekctl, mariadb_database.url)
    with defaults(mariadb_server, {"sql_mode": f"'STRICT_TRANS_TABLES,{mode}'"}):
        whole_story(dekctl)
    assert stored(mariadb_database) == keys


def test_defaults_of_a_mariadb_server_change_nothing(
    mariadb_server: MariaDBServer, mariadb_database: AppDatabase, dekctl: Dekctl
) -> None:
    keys = text_keys(mariadb_database)
    configure(dekctl, mariadb_database.url)
    odd = {
        "sql_safe_updates": "1",
        "sql_select_limit": "2",
        "sql_auto_is_null": "1",
        "sql_quote_show_create": "0",
        "completion_type": "1",
        "time_zone": "'+05:45'",
        "default_storage_engine": "MyISAM",
    }
    with defaults(mariadb_server, odd):
        whole_story(dekctl)
    assert stored(mariadb_database) == keys


def test_a_server_whose_binary_log_has_statements_works(dekctl: Dekctl) -> None:
    found, reason = MariaDBServer.find()
    if found is None:
        pytest.skip(reason)
    settings = {"log-bin": "binlog", "server-id": "1", "binlog-format": "STATEMENT"}
    with MariaDBServer.start(settings=settings) as server:
        url = server.create_database("shop")
        database = AppDatabase("mariadb", url, sa.create_engine(url, poolclass=sa.NullPool))
        keys = text_keys(database)
        configure(dekctl, url)
        assert "binlog_format is STATEMENT" in dekctl("doctor").expect(0).stdout
        whole_story(dekctl)
        assert stored(database) == keys


# -- the temporary table of a write --------------------------------------------------------------


def swapped(opened: Database, config: TableConfig, suffix: bytes) -> list[Any]:
    """Write to each row as a batch does; the keys that were not written."""
    table = DekTable(opened, config)
    rows = opened.run(lambda c: table.page(c, after=None, size=100, due_sql="1 = 1"))
    # Different values, so that all of them are sent by the temporary table.
    changes = [Change(r, (suffix + b"%d" % i, f"V{i}", f"kek{i}")) for i, r in enumerate(rows)]
    columns = ("wrapped", "version", "kek")
    return opened.run(lambda c: table.swap(c, columns, changes), write=True)


NEW_COLUMNS = "ADD wrapped_key {}, ADD wrapped_key_version VARCHAR(4), ADD kek_id VARCHAR(9)"


def types_changed(database: AppDatabase, binary: str, to_bigint: str) -> None:
    app = Application(database).create(3)
    alter = f"ALTER TABLE {app.config.name}"
    database.sql(f"{alter} {NEW_COLUMNS.format(binary)}")
    with database_of(EnvConfig("test", database_url=database.url)) as opened:
        assert swapped(opened, app.config, b"a") == []
        database.sql(f"{alter} {to_bigint}")
        database.sql(f"UPDATE {app.config.name} SET id = id + {2**40}")
        assert swapped(opened, app.config, b"b") == []


def test_a_temporary_table_of_postgresql_is_not_used_with_the_types_of_before(
    postgres_database: AppDatabase,
) -> None:
    types_changed(postgres_database, "BYTEA", "ALTER COLUMN id TYPE BIGINT")


def test_a_temporary_table_of_mariadb_is_not_used_with_the_types_of_before(
    mariadb_database: AppDatabase,
) -> None:
    types_changed(mariadb_database, "VARBINARY(4)", "MODIFY id BIGINT")
