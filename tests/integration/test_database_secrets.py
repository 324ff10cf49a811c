"""What a database says or hides: no key and no password is repeated, no hidden row forgotten."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.engine import make_url

from dekctl.db import database as database_module
from support.app import AppDatabase
from support.cli import Dekctl
from support.secrets import assert_hidden


def test_no_password_of_a_database_url_is_shown(
    dekctl: Dekctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "FIRST_CONTACT_SECONDS", 0.0)
    urls = [
        "postgresql+psycopg://x:S3CRET@127.0.0.1:1/none?password=S3CRET&sslpassword=S3CRET",
        "mysql+pymysql://x:S3CRET@127.0.0.1:1/none?password=S3CRET",
    ]
    for url in urls:
        dekctl.configure(f'[env.test]\nprovider = "env"\ndatabase_url = "{url}"\n')
        for command in (["status"], ["doctor"], ["--debug", "wrap"]):
            result = dekctl(*command).expect(6)
            assert "S3CRET" not in result.stdout + result.stderr


LEAKS = {
    "an SQLSTATE of its own": "RAISE EXCEPTION 'no % here', k USING errcode = 'KEY01'",
    "one of the server's": "RAISE EXCEPTION 'no % here', k USING errcode = '57014'",
    "a right's": "RAISE EXCEPTION 'no % here', k USING errcode = '42501'",
    "none": "RAISE EXCEPTION 'no % here', k",
    "a statement of its own": "EXECUTE 'SELECT 1 FROM ' || quote_ident(k)",
    "a cast": "PERFORM k::int",
}


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS)
def test_what_a_trigger_of_postgresql_says_is_not_repeated(
    postgres_database: AppDatabase, dekctl: Dekctl, make_app: Any, leak: str
) -> None:
    app = make_app(postgres_database, rows=1)
    dekctl.json("migrate")
    with postgres_database.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION leak() RETURNS trigger LANGUAGE plpgsql AS $$ "
            "DECLARE k text := encode(old.encryption_key, 'hex'); "
            f"BEGIN {leak.replace('%', '%%')}; RETURN new; END $$"
        )
        connection.exec_driver_sql(
            "CREATE TRIGGER leak BEFORE UPDATE ON encrypted_files "
            "FOR EACH ROW EXECUTE FUNCTION leak()"
        )
    ended = dekctl("scrub", "--yes").expect(6)
    told = ended.stderr + str(postgres_database.sql("SELECT error, result FROM dekctl_runs"))
    assert_hidden(told, app.deks.values(), "what scrub says")
    assert "SQLSTATE" in told


@pytest.mark.parametrize("app_database", ["sqlite", "mariadb"], indirect=True)
def test_what_a_trigger_of_mariadb_or_sqlite_says_is_not_repeated(
    app_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make_app(app_database, rows=1, storage="text", plaintext_encoding="hex")
    dekctl.json("migrate")
    body = {
        "sqlite": "BEGIN SELECT RAISE(ABORT, '{key}'); END",
        "mariadb": "FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{key}'",
    }
    [dek] = app.deks.values()
    text = body[app_database.kind].replace("{key}", dek.hex())
    with app_database.engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE TRIGGER leak BEFORE UPDATE ON encrypted_files {text}")
    ended = dekctl("scrub", "--yes").expect(6)
    told = ended.stderr + str(app_database.sql("SELECT error, result FROM dekctl_runs"))
    assert_hidden(told, [dek], "what scrub says")


def test_rows_that_a_policy_hides_stop_every_command(
    postgres_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    """A guard that sees the visible rows only would let all other keys be destroyed."""
    app = make_app(postgres_database, rows=6)
    dekctl("migrate").expect(0)
    dekctl("scrub", "--yes").expect(0)
    [(kek,)] = postgres_database.sql("SELECT DISTINCT kek_id FROM encrypted_files")
    role = f"hidden_{make_url(postgres_database.url).database}"
    owned = ("encrypted_files", "dekctl_tables", "dekctl_runs", "dekctl_quarantine")
    besides = ("dekctl_branch_keys", "dekctl_version_encrypted_files", "dekctl_ledger_version")
    postgres_database.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    try:
        postgres_database.sql(f"GRANT ALL ON SCHEMA public TO {role}")
        for table in (*owned, *besides):
            postgres_database.sql(f"ALTER TABLE {table} OWNER TO {role}")
        trigger = app.config.trigger
        postgres_database.sql(f"ALTER FUNCTION {trigger}() OWNER TO {role}")
        postgres_database.sql("ALTER TABLE encrypted_files ENABLE ROW LEVEL SECURITY")
        postgres_database.sql("ALTER TABLE encrypted_files FORCE ROW LEVEL SECURITY")
        postgres_database.sql("CREATE POLICY p ON encrypted_files USING (false)")
        file = dekctl.folder / "dekctl.toml"
        url = make_url(postgres_database.url).set(username=role, password="x")
        file.write_text(
            file.read_text().replace(
                postgres_database.url, url.render_as_string(hide_password=False)
            )
        )
        for command in (
            ["rollback", "--yes"],
            ["schema", "contract", "--yes"],
            ["verify"],
            ["status"],
            ["retire", kek],
        ):
            assert "BYPASSRLS" in dekctl(*command).expect(6).stderr, command
        assert app.counts()["wrapped_only"] == 6
        postgres_database.sql(f"ALTER ROLE {role} BYPASSRLS")
        dekctl("rollback", "--yes").expect(0)
    finally:
        postgres_database.sql(f"REASSIGN OWNED BY {role} TO CURRENT_USER")
        postgres_database.sql(f"DROP OWNED BY {role}")
        postgres_database.sql(f"DROP ROLE {role}")
