"""The database alone says which rows are a tenant's: its collation may ignore case or padding."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Session

from dekctl.config import KekBy, TableConfig
from dekctl.kms import EnvKMS, InMemoryKMS
from dekctl.reader import RowKeys
from support.app import AppDatabase
from support.cli import Dekctl

COLUMN = {
    "sqlite": "VARCHAR(20) COLLATE NOCASE",
    "postgresql": "CHAR(20)",
    "mariadb": "VARCHAR(20) COLLATE utf8mb4_general_ci",
}
OWNER = {"sqlite": "ACME", "postgresql": "acme", "mariadb": "ACME"}
BINARY = {"sqlite": "BLOB", "postgresql": "BYTEA", "mariadb": "VARBINARY(32)"}


@pytest.mark.parametrize("verb", ["wrap", "rewrap"])
def test_a_row_goes_under_the_kek_that_the_database_finds_for_it(
    app_database: AppDatabase, dekctl: Dekctl, verb: str
) -> None:
    database, dek = app_database, bytes(range(32))
    dekctl.hidden.append(dek)
    others = EnvKMS(dekctl.environ).kek_id
    dekctl.use_env_kek()
    acme = EnvKMS(dekctl.environ).kek_id
    database.sql(
        f"CREATE TABLE encrypted_files (id INTEGER PRIMARY KEY, tenant {COLUMN[database.kind]}, "
        f"encryption_key {BINARY[database.kind]})"
    )
    for number, tenant in enumerate((OWNER[database.kind], "globex", None)):
        database.sql(
            "INSERT INTO encrypted_files VALUES (:id, :tenant, :key)",
            id=number,
            tenant=tenant,
            key=dek,
        )
    env = f'[env.test]\ndatabase_url = "{database.url}"\nprovider = "env"\n'
    keks = f'acme = "{acme}", "*" = "{others}"'
    kek_by = f'[table]\nkek_by = {{ column = "tenant", keks = {{ {keks} }} }}\n'
    if verb == "rewrap":  # first without kek_by
        dekctl.configure(env)
        dekctl("migrate").expect(0)
    dekctl.configure(kek_by + env)
    dekctl("migrate" if verb == "wrap" else "rewrap").expect(0)

    found = database.sql("SELECT kek_id FROM encrypted_files ORDER BY id")
    assert [kek for (kek,) in found] == [acme, others, others]
    assert dekctl.json("rewrap")["changed"] == 0, "nothing may be due for ever"


def test_a_key_is_issued_under_the_kek_that_wrap_would_take(app_database: AppDatabase) -> None:
    database, kms = app_database, InMemoryKMS("common")
    common, acme = kms.kek_id, kms.roll("acme")
    binary = BINARY[database.kind].replace("(32)", "(6144)")
    database.sql(
        f"CREATE TABLE encrypted_files (id INTEGER PRIMARY KEY, tenant {COLUMN[database.kind]}, "
        f"wrapped_key {binary}, wrapped_key_version VARCHAR(10), kek_id VARCHAR(255))"
    )

    class Base(DeclarativeBase):
        pass

    class File(Base):
        __table__ = sa.Table("encrypted_files", Base.metadata, autoload_with=database.engine)

    kek_by = KekBy("tenant", (("acme", acme), ("*", common)))
    keys = RowKeys(kms, TableConfig(kek_by=kek_by, plaintext="refuse"))
    with Session(database.engine) as session, session.begin():
        for number, tenant in enumerate((OWNER[database.kind], "globex", None)):
            file: Any = File(id=number, tenant=tenant)
            session.add(file)
            session.flush()
            keys.issue(file)
    found = database.sql("SELECT kek_id FROM encrypted_files ORDER BY id")
    assert [kek for (kek,) in found] == [acme, common, common]
