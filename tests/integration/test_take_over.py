"""Two Alembic histories and one table: the application's columns first, or dekctl's."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from support.app import AppDatabase
from support.cli import Dekctl

ENV = """
import os
import sqlalchemy as sa
from alembic import context
from dekctl.alembic import include_name, include_object
from files_models import metadata
engine = sa.create_engine(os.environ["FILES_URL"])
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=metadata,
                      include_name=include_name, include_object=include_object)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
"""
MODELS = """
import sqlalchemy as sa
metadata = sa.MetaData()
sa.Table("encrypted_files", metadata, sa.Column("id", sa.Integer, primary_key=True),
         sa.Column("encryption_key", sa.LargeBinary, nullable={nullable}){columns})
"""
MAPPED = """,
         sa.Column("wrapped_key", sa.LargeBinary), sa.Column("wrapped_key_version", sa.String(10)),
         sa.Column("kek_id", sa.String(255))"""
REVISION = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "{revision}", {before!r}
def upgrade():
{upgrade}
def downgrade():
{downgrade}
"""
BASE_UP = """    op.create_table("encrypted_files", sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("encryption_key", sa.LargeBinary, nullable=False))"""
ADD = """    there = {c["name"] for c in sa.inspect(op.get_bind()).get_columns("encrypted_files")}
    for column in (sa.Column("wrapped_key", sa.LargeBinary),
                   sa.Column("wrapped_key_version", sa.String(10)),
                   sa.Column("kek_id", sa.String(255))):
        if column.name not in there:  # dekctl may have added it
            op.add_column("encrypted_files", column)
    op.alter_column("encrypted_files", "encryption_key", nullable=True)"""
DROP = """    there = {c["name"] for c in sa.inspect(op.get_bind()).get_columns("encrypted_files")}
    for name in ("wrapped_key", "wrapped_key_version", "kek_id"):
        if name in there:  # a rollback may have dropped it
            op.drop_column("encrypted_files", name)
    op.alter_column("encrypted_files", "encryption_key", nullable=False)"""
OWN = {"wrapped_key", "wrapped_key_version", "kek_id"}


class Application:
    """An application with an Alembic history of its own."""

    def __init__(self, folder: Path, database: AppDatabase) -> None:
        self.folder, self.database = folder, database
        (folder / "history" / "versions").mkdir(parents=True)
        (folder / "history" / "env.py").write_text(ENV)
        self.revision("files", None, BASE_UP, '    op.drop_table("encrypted_files")')
        self.map(mapped=False)
        self.config = Config()
        self.config.set_main_option("script_location", str(folder / "history"))

    def revision(self, name: str, before: str | None, upgrade: str, downgrade: str) -> None:
        """Write a revision."""
        text = REVISION.format(revision=name, before=before, upgrade=upgrade, downgrade=downgrade)
        (self.folder / "history" / "versions" / f"{name}.py").write_text(text)

    def map(self, *, mapped: bool, nullable: bool | None = None) -> None:
        """Write the models, with or without the wrapped columns."""
        nullable = mapped if nullable is None else nullable
        text = MODELS.format(columns=MAPPED if mapped else "", nullable=nullable)
        (self.folder / "files_models.py").write_text(text)

    def add_columns(self) -> None:
        """The revision with which the application owns the columns, too."""
        self.revision("wrapped", "files", ADD, DROP)
        self.map(mapped=True)
        command.upgrade(self.config, "head")

    def columns(self) -> set[str]:
        """The columns of the table now."""
        return {c["name"] for c in sa.inspect(self.database.engine).get_columns("encrypted_files")}


@pytest.fixture
def application(
    postgres_database: AppDatabase, dekctl: Dekctl, monkeypatch: pytest.MonkeyPatch
) -> Application:
    monkeypatch.setenv("FILES_URL", postgres_database.url)
    monkeypatch.syspath_prepend(str(dekctl.folder))
    monkeypatch.setattr("sys.dont_write_bytecode", True)  # the models are written twice a second
    made = Application(dekctl.folder, postgres_database)
    command.upgrade(made.config, "head")
    postgres_database.sql("INSERT INTO encrypted_files VALUES (1, :k)", k=bytes(range(32)))
    dekctl.configure(f'[env.test]\ndatabase_url = "{postgres_database.url}"\nprovider = "env"\n')
    return made


def check(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """``alembic check``, on the models as they are written now."""
    monkeypatch.delitem(__import__("sys").modules, "files_models", raising=False)
    command.check(application.config)


def test_the_applications_columns_first_then_expand_takes_them_over(
    application: Application, dekctl: Dekctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    application.add_columns()
    dekctl("migrate").expect(0)
    check(application, monkeypatch)
    done = dekctl.json("rollback", "--yes")
    assert done["stage"] == "expanded"
    assert set(done["kept_columns"]["encrypted_files"]) == OWN
    assert application.columns() >= OWN
    check(application, monkeypatch)
    command.downgrade(application.config, "files")
    assert not application.columns() & OWN


def test_dekctls_columns_first_then_the_application_maps_them(
    application: Application, dekctl: Dekctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    dekctl("migrate").expect(0)
    application.map(mapped=False, nullable=True)
    check(application, monkeypatch)
    application.add_columns()
    check(application, monkeypatch)
    assert dekctl.json("verify")["verified"] == 1
    done = dekctl.json("rollback", "--yes")
    assert done["stage"] == "legacy"
    assert not application.columns() & OWN
    command.downgrade(application.config, "files")
    application.map(mapped=False)
    check_legacy = application.database.sql("SELECT encryption_key FROM encrypted_files")
    assert check_legacy == [(bytes(range(32)),)]
