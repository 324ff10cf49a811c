"""Two tables in one project: what concerns both is looked for in both, and in the right place."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from dekctl.config import load_config
from dekctl.db.branches import branch_keys_table
from dekctl.keks.erase import check_erasure
from dekctl.project import Project
from dekctl.reader import RowKeys
from support.app import AppDatabase

KEK = "arn:aws:kms:eu-west-1:111122223333:key/11111111-2222-3333-4444-555555555555"


def test_the_reader_finds_the_branch_keys_beside_the_first_table(tmp_path: Path) -> None:
    file = tmp_path / "dekctl.toml"
    file.write_text(
        '[[table]]\nname = "one.files"\n[[table]]\nname = "two.files"\ncontext_name = "two"\n'
        f'[env.test]\nregion = "eu-west-1"\nkek = "{KEK}"\n'
    )
    engine = sa.create_engine("sqlite://", poolclass=StaticPool)
    with engine.begin() as connection:
        for schema in ("one", "two"):
            connection.exec_driver_sql(f"ATTACH DATABASE ':memory:' AS {schema}")
        branch_keys_table("one").create(connection)

    keys = RowKeys.of(load_config(file), "two.files")
    with engine.connect() as connection, keys._connection.of(lambda: connection):
        found = keys._branch_table.get(["0" * 32])
    assert found == {}, "it must read the table in schema one"
    engine.dispose()


def test_plaintexts_of_a_table_at_its_legacy_schema_hold_up_an_erasure(
    sqlite_database: AppDatabase, tmp_path: Path
) -> None:
    file = tmp_path / "dekctl.toml"
    file.write_text(
        f'[table]\nname = "files"\nkek_by = {{ column = "tenant", keks = {{ acme = "{KEK}" }} }}\n'
        f'[env.test]\ndatabase_url = "{sqlite_database.url}"\nregion = "eu-west-1"\n'
    )
    sqlite_database.sql(
        "CREATE TABLE files (id INTEGER PRIMARY KEY, tenant TEXT, encryption_key BLOB)"
    )
    for tenant in ("acme", "acme", "globex"):
        sqlite_database.sql(
            "INSERT INTO files (tenant, encryption_key) VALUES (:tenant, :key)",
            tenant=tenant,
            key=bytes(32),
        )

    with Project(load_config(file)) as project:
        checks = {c.name: c for c in check_erasure(project, KEK, "acme", 0)}
        nobody = {c.name: c for c in check_erasure(project, KEK, "initech", 0)}

    assert not checks["plaintexts"].ok
    assert checks["plaintexts"].detail.startswith("2 rows of acme")
    assert all(check.ok for check in nobody.values())
