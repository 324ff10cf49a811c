"""A trigger of the application's own that drops a wrapped key whenever something changes.

It is what people write by hand against stale keys, and dekctl's own statements are not exempt.
"""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.engine import make_url

from dekctl.config import EnvConfig, TableConfig
from dekctl.db.connect import database_of
from dekctl.db.table import DekTable
from support.app import AppDatabase, Application
from support.cli import Dekctl

FUNCTION = (
    "CREATE FUNCTION dropping() RETURNS trigger LANGUAGE plpgsql AS "
    "$$BEGIN IF NEW.{column} IS DISTINCT FROM OLD.{column} THEN "
    "NEW.wrapped_key = NULL; END IF; RETURN NEW; END$$"
)
DROPPING = {
    "postgresql": (
        FUNCTION,
        "CREATE TRIGGER dropping BEFORE UPDATE ON encrypted_files "
        "FOR EACH ROW EXECUTE FUNCTION dropping()",
    ),
    "mariadb": (
        "CREATE TRIGGER dropping BEFORE UPDATE ON encrypted_files FOR EACH ROW "
        "IF NOT (NEW.{column} <=> OLD.{column}) THEN SET NEW.wrapped_key = NULL; END IF",
    ),
    "sqlite": (
        "CREATE TRIGGER dropping AFTER UPDATE OF {column} ON encrypted_files "
        "WHEN NEW.{column} IS NOT OLD.{column} "
        "BEGIN UPDATE encrypted_files SET wrapped_key = NULL WHERE id = NEW.id; END",
    ),
}
LATE = (
    "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS "
    "$$BEGIN UPDATE encrypted_files SET wrapped_key = NULL WHERE id = NEW.id "
    "AND wrapped_key IS NOT NULL; RETURN NULL; END$$",
    "CREATE CONSTRAINT TRIGGER dropping AFTER UPDATE ON encrypted_files "
    "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late()",
)


def drop_wrapped_keys(
    database: AppDatabase, column: str = "encryption_key", name: str = "dropping"
) -> None:
    for statement in DROPPING[database.kind]:
        named = statement.replace("TRIGGER dropping", f"TRIGGER {name}")
        database.sql(named.format(column=column))


def assert_refused_and_complete(dekctl: Dekctl, app: Application, *command: str) -> None:
    """The command stops, says why, and has changed nothing."""
    before = app.rows()
    refused = dekctl(*command).expect(6).stderr
    assert "makes something else of what is written" in refused
    assert app.rows() == before


def drop_trigger(database: AppDatabase, name: str = "dropping") -> None:
    of_table = " ON encrypted_files" if database.kind == "postgresql" else ""
    database.sql(f"DROP TRIGGER {name}{of_table}")


def test_scrub_loses_no_key_to_it(app_database: AppDatabase, dekctl: Dekctl, make_app: Any) -> None:
    app = make_app(app_database, rows=3)
    dekctl("migrate").expect(0)
    drop_wrapped_keys(app_database)
    assert_refused_and_complete(dekctl, app, "scrub", "--yes")
    drop_trigger(app_database)
    with database_of(EnvConfig("test", database_url=app_database.url)) as opened:
        table = DekTable(opened, TableConfig())
        with opened.transaction() as connection:  # dekctl's own needs no second reading
            assert not opened.dialect.may_be_rewritten(connection, table)
    assert dekctl.json("scrub", "--yes")["changed"] == 3


def test_rewrap_loses_no_key_to_it(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    """After contract, dekctl's own trigger is gone, and the wrapped key is the only one."""
    app = make_app(app_database, rows=3)
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    dekctl("schema", "contract", "--yes").expect(0)
    dekctl.use_env_kek()
    drop_wrapped_keys(app_database, "kek_id")
    assert_refused_and_complete(dekctl, app, "rewrap")


@pytest.mark.parametrize("kind", ["postgres_database", "mariadb_database"])
def test_one_under_the_name_of_dekctls_own_is_seen_too(
    kind: str, request: pytest.FixtureRequest, dekctl: Dekctl, make_app: Any
) -> None:
    database: AppDatabase = request.getfixturevalue(kind)
    app = make_app(database, rows=3)
    own = app.config.trigger
    dekctl("migrate").expect(0)
    drop_trigger(database, own)
    drop_wrapped_keys(database, name=own)
    if kind == "mariadb_database":  # the first of its two writes must be let through
        drop_trigger(database, own)
        database.sql(
            f"CREATE TRIGGER {own} BEFORE UPDATE ON encrypted_files FOR EACH ROW "
            "IF NEW.encryption_key IS NULL THEN SET NEW.wrapped_key = NULL; END IF"
        )
    assert_refused_and_complete(dekctl, app, "scrub", "--yes")


@pytest.mark.parametrize("name", ["zz_dekctl_encrypted_files", '"drop-on-change"', "on$change"])
def test_on_sqlite_it_is_seen_whatever_its_name_is(
    name: str, expanded_app: Application, dekctl: Dekctl
) -> None:
    database = expanded_app.database
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    dekctl("schema", "contract", "--yes").expect(0)
    dekctl.use_env_kek()
    drop_wrapped_keys(database, "kek_id", name)
    assert_refused_and_complete(dekctl, expanded_app, "rewrap")


def test_one_that_waits_for_the_commit_is_seen_too(
    postgres_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(postgres_database, rows=3)
    dekctl("migrate").expect(0)
    for statement in LATE:
        postgres_database.sql(statement)
    assert_refused_and_complete(dekctl, app, "scrub", "--yes")


def test_a_role_that_sees_no_triggers_loses_no_key_to_one(
    mariadb_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(mariadb_database, rows=3)
    dekctl("schema", "expand", "--without-trigger").expect(0)
    dekctl("wrap").expect(0)
    url = make_url(mariadb_database.url)
    role = f"blind_{url.database}"
    mariadb_database.sql(f"CREATE USER {role} IDENTIFIED BY 'x'")
    mariadb_database.sql(
        "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE TEMPORARY TABLES "
        f"ON {url.database}.* TO {role}"
    )
    try:
        drop_wrapped_keys(mariadb_database)
        own = url.set(username=role, password="x").render_as_string(hide_password=False)
        config = dekctl.folder / "dekctl.toml"
        config.write_text(config.read_text().replace(mariadb_database.url, own))
        assert_refused_and_complete(dekctl, app, "scrub", "--yes")
    finally:
        mariadb_database.sql(f"DROP USER {role}")
