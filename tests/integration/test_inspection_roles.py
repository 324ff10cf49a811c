"""What a database role's settings and policies do to a run, said before anything is changed."""

from __future__ import annotations

from sqlalchemy import make_url

from sandbox.mariadb import MariaDBServer
from support.app import AppDatabase
from support.cli import Dekctl


def test_a_server_whose_transactions_are_read_only_by_default(
    mariadb_database: AppDatabase, mariadb_server: MariaDBServer, dekctl: Dekctl
) -> None:
    database = mariadb_database
    database.sql("CREATE TABLE encrypted_files (id INT PRIMARY KEY, encryption_key BLOB)")
    dekctl.configure(f'[env.test]\ndatabase_url = "{database.url}"\nprovider = "env"\n')
    mariadb_server.sql("SET GLOBAL tx_read_only = ON")
    try:
        refused = dekctl("schema", "expand").expect(3).stderr
        assert "transactions are read-only by default" in refused
        mariadb_server.sql(refused.rpartition("hint: ")[2].strip())
        dekctl("schema", "expand").expect(0)
    finally:
        mariadb_server.sql("SET GLOBAL tx_read_only = OFF")


def test_a_role_that_sees_not_every_row_or_may_not_write(
    postgres_database: AppDatabase, dekctl: Dekctl
) -> None:
    database, role = postgres_database, f"owner_of_{postgres_database.engine.url.database}"
    name = database.engine.url.database
    for statement in (
        f"CREATE ROLE {role} LOGIN PASSWORD 'example'",
        f"GRANT ALL ON SCHEMA public TO {role}",
        "CREATE TABLE encrypted_files (id INT PRIMARY KEY, encryption_key BYTEA)",
        "ALTER TABLE encrypted_files ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        f"ALTER TABLE encrypted_files OWNER TO {role}",
        f"ALTER ROLE {role} IN DATABASE {name} SET default_transaction_read_only = on",
    ):
        database.sql(statement)
    url = make_url(database.url).set(username=role, password="example")
    dekctl.configure(
        f'[env.test]\ndatabase_url = "{url.render_as_string(hide_password=False)}"\n'
        'provider = "env"\n'
    )
    refused = dekctl("schema", "expand").expect(3).stderr
    assert "are read-only by default" in refused
    database.sql(refused.rpartition("hint: ")[2].strip())
    said = dekctl("schema", "expand").expect(0).stderr
    assert f"row-level security of encrypted_files applies to the database role {role}" in said
    dekctl("wrap").expect(6)
    database.sql(said.partition("; ALTER ROLE ")[2].partition(";")[0].join(("ALTER ROLE ", "")))
    dekctl("wrap").expect(0)
    database.sql(f"REASSIGN OWNED BY {role} TO CURRENT_USER")
    database.sql(f"DROP OWNED BY {role}")
    database.sql(f"DROP ROLE {role}")
