"""A server that takes no writes, during a fail-over or as a replica; and a server's limits."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import sqlalchemy as sa

from dekctl.db import database as databases
from support.app import AppDatabase, Application
from support.cli import Dekctl

ROWS = 40


def read_only(database: AppDatabase, *, on: bool) -> None:
    """Make all new connections to a server read-only, and end the ones there are."""
    if database.kind == "postgresql":
        url = sa.make_url(database.url)
        admin = sa.create_engine(
            url.set(query={"options": "-c default_transaction_read_only=off"}),
            isolation_level="AUTOCOMMIT",
        )
        with admin.connect() as connection:
            connection.exec_driver_sql(
                f"ALTER DATABASE {url.database} SET default_transaction_read_only = "
                f"{'on' if on else 'off'}"
            )
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        admin.dispose()
    else:
        database.sql(f"SET GLOBAL read_only = {int(on)}")


def become(dekctl: Dekctl, database: AppDatabase, user: str) -> sa.URL:
    """Configure another user of the database; return the URL."""
    url = sa.make_url(database.url).set(username=user, password="pw")
    config = dekctl.folder / "dekctl.toml"
    config.write_text(
        config.read_text().replace(database.url, url.render_as_string(hide_password=False))
    )
    return url


@pytest.fixture
def app(server_database: AppDatabase, dekctl: Dekctl, make_app: Any) -> Application:
    """A table after ``schema expand``, as a role that --read-only holds for."""
    app: Application = make_app(server_database, rows=ROWS)
    if server_database.kind == "mariadb":
        name = sa.make_url(server_database.url).database
        server_database.sql("CREATE OR REPLACE USER app@'127.0.0.1' IDENTIFIED BY 'pw'")
        server_database.sql(f"GRANT ALL ON {name}.* TO app@'127.0.0.1'")
        become(dekctl, server_database, "app")
    dekctl.json("schema", "expand")
    return app


def test_a_run_waits_until_the_old_primary_is_replaced(app: Application, dekctl: Dekctl) -> None:
    database = app.database
    child = dekctl.start("--json", "wrap", "--batch-size", "1")
    dekctl.wait_until_said(child, "started")
    read_only(database, on=True)
    back = threading.Timer(3.0, lambda: read_only(database, on=False))
    back.start()
    done = dekctl.finish(child).expect(0).json
    back.join()
    assert done["quarantined"] == 0
    assert app.counts()["both"] == ROWS


def test_verify_and_dry_runs_work_on_a_replica_and_say_what_is_not_recorded(
    app: Application, dekctl: Dekctl
) -> None:
    dekctl.json("wrap")
    runs = len(dekctl.json("status")["runs"])
    app.database.sql(f"UPDATE {app.config.name} SET wrapped_key = '\\001' WHERE id = 3")
    read_only(app.database, on=True)
    try:
        done = dekctl("--json", "verify").expect(4)
        assert (done.json["verified"], done.json["failed"]) == (ROWS - 1, 1)
        assert "not recorded" in done.stderr
        for command in (("wrap",), ("scrub",), ("rewrap", "--same-key"), ("rollback",)):
            dekctl(*command, "--dry-run").expect(4 if command[0] in {"scrub", "rollback"} else 0)
        dekctl.json("status")
    finally:
        read_only(app.database, on=False)
    assert len(dekctl.json("status")["runs"]) == runs


def test_a_command_that_writes_says_that_the_server_is_read_only(
    app: Application, dekctl: Dekctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "READ_ONLY_SECONDS", 0.5)
    read_only(app.database, on=True)
    try:
        said = dekctl("wrap").expect(6).stderr
    finally:
        read_only(app.database, on=False)
    assert "is read-only" in said
    assert "name the primary in database_url" in said


def test_a_file_that_is_read_only_is_told_at_once(
    expanded_app: Application, dekctl: Dekctl
) -> None:
    url = expanded_app.database.url
    config = (dekctl.folder / "dekctl.toml").read_text()
    dekctl.configure(
        config.replace(url, url.replace("sqlite:///", "sqlite:///file:") + "?mode=ro&uri=true")
    )
    said = dekctl("wrap").expect(6).stderr
    assert "is read-only" in said
    assert "attempts" not in said, "nobody can make another file the primary"
    assert "write to the file and to its folder" in said


# -- limits of the server --------------------------------------------------------------------------


def test_the_limit_of_connections_of_a_role_is_named_at_once(
    postgres_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(postgres_database, rows=ROWS)
    dekctl.json("schema", "expand")
    postgres_database.sql("CREATE ROLE limited LOGIN PASSWORD 'pw' CONNECTION LIMIT 0")
    become(dekctl, postgres_database, "limited")
    try:
        said = dekctl("wrap").expect(6).stderr
    finally:
        postgres_database.sql("DROP ROLE limited")
    assert "too many connections for role" in said
    assert "CONNECTION LIMIT" in said
    assert "attempts" not in said


def test_the_limit_of_connections_of_an_account_is_named_at_once(
    mariadb_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(mariadb_database, rows=ROWS)
    dekctl.json("schema", "expand")
    name = sa.make_url(mariadb_database.url).database
    mariadb_database.sql(
        "CREATE OR REPLACE USER one@'127.0.0.1' IDENTIFIED BY 'pw' WITH MAX_USER_CONNECTIONS 1"
    )
    mariadb_database.sql(f"GRANT ALL ON {name}.* TO one@'127.0.0.1'")
    holds = sa.create_engine(become(dekctl, mariadb_database, "one"))
    with holds.connect():
        said = dekctl("wrap").expect(6).stderr
    holds.dispose()
    assert "max_user_connections" in said
    assert "MAX_USER_CONNECTIONS" in said
    assert "attempts" not in said


def test_batches_fit_into_the_packets_of_the_server(
    mariadb_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(mariadb_database, rows=200)
    [(before,)] = mariadb_database.sql("SELECT @@global.max_allowed_packet")
    mariadb_database.sql("SET GLOBAL max_allowed_packet = 16384")
    try:
        assert dekctl.json("migrate")["changed"] == 200
        assert dekctl.json("scrub", "--yes")["changed"] == 200
    finally:
        mariadb_database.sql(f"SET GLOBAL max_allowed_packet = {before}")
    assert app.counts()["wrapped_only"] == 200


def test_a_row_that_is_larger_than_a_packet_is_that_row_s_trouble(
    mariadb_database: AppDatabase, dekctl: Dekctl
) -> None:
    large = "\u00fc" * 690
    mariadb_database.sql(
        "CREATE TABLE encrypted_files (id VARCHAR(700) PRIMARY KEY, encryption_key VARBINARY(32))"
    )
    dek = bytes(range(32))
    dekctl.hidden.append(dek)
    for pk in ("a", large, "z"):
        mariadb_database.sql("INSERT INTO encrypted_files VALUES (:pk, :dek)", pk=pk, dek=dek)
    dekctl.configure(f'[env.test]\ndatabase_url = "{mariadb_database.url}"\nprovider = "env"\n')
    dekctl.json("schema", "expand")
    [(before,)] = mariadb_database.sql("SELECT @@global.max_allowed_packet")
    mariadb_database.sql("SET GLOBAL max_allowed_packet = 1024")
    try:
        done = dekctl.json("wrap", expect=4)
        assert (done["changed"], [row["pk"] for row in done["set_aside"]]) == (2, [large])
        assert "max_allowed_packet" in done["set_aside"][0]["reason"]
    finally:
        mariadb_database.sql(f"SET GLOBAL max_allowed_packet = {before}")
    assert dekctl.json("wrap", "--retry-quarantined")["changed"] == 1
