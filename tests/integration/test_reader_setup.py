"""The library at start-up and in the application's tests: models, configuration, Alembic."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from dekctl.alembic import include_name, include_object, include_object_for
from dekctl.config import TableConfig, load_config
from dekctl.errors import UsageError
from dekctl.kms import EnvKMS, InMemoryKMS
from dekctl.kms.chosen import choose_again, chosen
from dekctl.reader import KeyColumns, RowKeys, WrappedKeyColumns
from dekctl.testing import assert_no_plaintext_keys
from support.app import AppDatabase
from support.cli import Dekctl


class Base(DeclarativeBase):
    pass


class File(KeyColumns, Base):
    __tablename__ = "encrypted_files"
    id: Mapped[int] = mapped_column(primary_key=True)


class EndBase(DeclarativeBase):
    pass


class EndFile(WrappedKeyColumns, EndBase):
    __tablename__ = "encrypted_files"
    id: Mapped[int] = mapped_column(primary_key=True)


class OldBase(DeclarativeBase):
    pass


class OldFile(OldBase):
    """The model of a version before dekctl."""

    __tablename__ = "encrypted_files"
    id: Mapped[int] = mapped_column(primary_key=True)
    encryption_key: Mapped[bytes] = mapped_column(
        sa.LargeBinary().with_variant(sa.VARBINARY(255), "mysql", "mariadb")
    )


@pytest.fixture(autouse=True)
def _provider() -> Iterator[None]:
    before = chosen()
    yield
    choose_again(before)


# -- models -----------------------------------------------------------------------------------


def test_models_with_the_mixins_pass_the_check_and_others_are_told_what_they_lack() -> None:
    kms = InMemoryKMS()
    RowKeys(kms).check(File)
    RowKeys(kms, plaintext="refuse").check(EndFile, File)
    with pytest.raises(UsageError, match="EndFile does not map encryption_key"):
        RowKeys(kms).check(EndFile)
    with pytest.raises(UsageError, match="wrapped_key, wrapped_key_version, kek_id"):
        RowKeys(kms).check(OldFile)
    with pytest.raises(UsageError, match="not a model of the table photos"):
        RowKeys(kms, TableConfig(name="photos")).check(File)
    with pytest.raises(UsageError, match="not a mapped class"):
        RowKeys(kms).check(dict)


def test_a_model_whose_key_may_not_be_empty_is_named() -> None:
    class Strict(DeclarativeBase):
        pass

    class Wrong(WrappedKeyColumns, Strict):
        __tablename__ = "encrypted_files"
        id: Mapped[int] = mapped_column(primary_key=True)
        kek_id: Mapped[str] = mapped_column(sa.String(255))

    with pytest.raises(UsageError, match="kek_id as NOT NULL"):
        RowKeys(InMemoryKMS(), plaintext="refuse").check(Wrong)


def test_the_mixin_works_as_it_is_on_every_database(app_database: AppDatabase) -> None:
    Base.metadata.create_all(app_database.engine)
    keys = RowKeys(InMemoryKMS(), engine=app_database.engine)
    keys.check(File)
    with Session(app_database.engine) as session, session.begin():
        session.add(file := File())
        session.flush()
        dek = keys.issue(file)
    with Session(app_database.engine) as session:
        assert keys.read(session.scalars(sa.select(File)).one()) == dek


def test_a_table_that_was_not_expanded_is_named_at_start_up(sqlite_database: AppDatabase) -> None:
    OldBase.metadata.create_all(sqlite_database.engine)
    keys = RowKeys(InMemoryKMS(), engine=sqlite_database.engine)
    with pytest.raises(UsageError, match="encrypted_files has no wrapped_key") as caught:
        keys.check(File)
    assert "dekctl schema expand" in (caught.value.hint or "")


# -- configuration ----------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["env", "memory"])
def test_every_provider_needs_no_database_url(
    tmp_path: Path, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEKCTL_KEK", "A" * 43 + "=")
    file = tmp_path / "dekctl.toml"
    file.write_text(
        '[table]\nplaintext = "read"\n'
        f'[env.test]\nprovider = "{provider}"\ndatabase_url = "env:NOT_SET_ANYWHERE"\n'
    )
    keys = RowKeys.from_config(load_config(file))
    row: dict[str, Any] = {"id": 1}
    dek = keys.issue(row)
    assert keys.plaintext == "read"
    assert row["encryption_key"] is None
    assert keys.read(row) == dek
    assert row["kek_id"].startswith(f"{provider}:")
    keys.close()
    with pytest.raises(UsageError, match="has no table 'none'"):
        RowKeys.from_config(load_config(file), "none")


def test_what_the_aws_provider_lacks_is_named(tmp_path: Path) -> None:
    file = tmp_path / "dekctl.toml"
    file.write_text("[env.test]\n")
    with pytest.raises(UsageError, match="names no KEK"):
        RowKeys.from_config(load_config(file))
    file.write_text('[env.test]\nregion = "eu-west-1"\nkek = "alias/a"\n')
    with pytest.raises(UsageError, match="no transport 'carrier-pigeon'"):
        RowKeys.from_config(load_config(file), transport="carrier-pigeon")  # type: ignore[arg-type]  # the mistake
    with pytest.raises(UsageError, match="deadline"):
        RowKeys(InMemoryKMS(), deadline=0)


# -- what plaintext says to the commands ------------------------------------------------------


def test_the_commands_say_where_the_setting_does_not_fit(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    make_app(sqlite_database, rows=3)
    toml = (dekctl.folder / "dekctl.toml").read_text()

    def use(word: str) -> None:
        dekctl.configure(toml.replace("[table]\n", f'[table]\nplaintext = "{word}"\n', 1))

    assert dekctl.json("status")["plaintext"] is None
    dekctl.json("schema", "expand")
    use("refuse")
    assert "plaintext key only" in dekctl("doctor").expect(3).stdout
    assert "dekctl migrate" in dekctl.json("status")["plaintext_problem"]
    assert "plaintext key only" in dekctl("status").expect(0).stdout
    dekctl.json("wrap")
    dekctl("doctor").expect(0)
    assert dekctl.json("status")["plaintext_problem"] is None

    use("write")
    assert 'plaintext = "write"' in dekctl("scrub", "--yes").expect(0).stderr
    refused = dekctl("schema", "contract", "--yes").expect(3)
    assert "still uses encryption_key" in refused.stderr
    use("read")
    dekctl("schema", "contract", "--yes").expect(3)
    use("refuse")
    dekctl("schema", "contract", "--yes").expect(0)
    dekctl("doctor").expect(0)
    use("read")
    assert "encryption_key is gone" in dekctl("doctor").expect(3).stdout


# -- pytest -----------------------------------------------------------------------------------

APPLICATION_TEST = """
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from dekctl.kms import get_kms_provider
from dekctl.reader import KeyColumns
from dekctl.testing import assert_no_plaintext_keys

class Base(DeclarativeBase): pass

class File(KeyColumns, Base):
    __tablename__ = "encrypted_files"
    id: Mapped[int] = mapped_column(primary_key=True)

def test_an_upload(memory_keys):
    engine = sa.create_engine("sqlite://")
    Base.metadata.create_all(engine)
    assert get_kms_provider() is memory_keys.provider
    with Session(engine) as session:
        session.add(file := File())
        session.flush()
        dek = memory_keys.issue(file)
        assert memory_keys.read(file) == dek
        with pytest.raises(AssertionError, match="1 rows of encrypted_files have a plaintext"):
            assert_no_plaintext_keys(session, File)
        file.encryption_key = None
        assert_no_plaintext_keys(session, File)
    engine.dispose()
"""


def test_an_application_s_test_gets_keys_from_the_fixture(tmp_path: Path) -> None:
    (tmp_path / "test_upload.py").write_text(APPLICATION_TEST)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "dekctl.testing",
            "-W",
            "error",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_a_plaintext_shows_as_a_number_and_not_as_a_key(app_database: AppDatabase) -> None:
    Base.metadata.create_all(app_database.engine)
    key = os.urandom(32)
    with Session(app_database.engine) as session, session.begin():
        session.add(File(encryption_key=key))
    for where in (app_database.engine, app_database.engine.connect()):
        with pytest.raises(AssertionError) as caught:
            assert_no_plaintext_keys(where, File)
        assert repr(key)[2:-1] not in str(caught.value)
        if isinstance(where, sa.Connection):
            where.close()
    app_database.sql("ALTER TABLE encrypted_files DROP COLUMN encryption_key")
    assert_no_plaintext_keys(app_database.engine, EndFile)


def test_production_imports_neither_pytest_nor_what_only_some_applications_have() -> None:
    code = (
        "import sys, dekctl.reader, dekctl.kms; "
        "print(sorted({'pytest', 'click', 'greenlet', 'pycurl', 'alembic', 'asyncpg', 'boto3'} "
        "& set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- Alembic ----------------------------------------------------------------------------------


def proposals(engine: sa.Engine, metadata: sa.MetaData, **options: Any) -> set[str]:
    """What ``alembic revision --autogenerate`` would do."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, **options})
        found = compare_metadata(context, metadata)
    flat = [each for entry in found for each in (entry if isinstance(entry, list) else [entry])]
    return {
        f"{e[0]} {e[1].name if e[0].endswith('_table') else f'{e[2]}.{e[3]}'}"
        for e in flat
        if e[0] != "modify_nullable"  # expand allows NULL, which the old model does not know
    }


def test_the_application_s_alembic_leaves_dekctl_alone(
    app_database: AppDatabase, dekctl: Dekctl
) -> None:
    """Of the model before dekctl, beside it, and at the end."""
    engine = app_database.engine
    OldBase.metadata.create_all(engine)
    dekctl.configure(
        f'[table]\nwrapping = "V3"\n[env.test]\ndatabase_url = "{app_database.url}"\n'
        'provider = "env"\n'
    )
    dekctl("migrate").expect(0)
    bare = proposals(engine, OldBase.metadata)
    assert "remove_table dekctl_branch_keys" in bare, "what the filter is for"
    assert "remove_column encrypted_files.encrypted_files.wrapped_key" in bare
    config = load_config(dekctl.folder / "dekctl.toml")
    for own in (include_object, include_object_for(config)):
        filters = {"include_name": include_name, "include_object": own}
        for base in (OldBase, Base, EndBase):
            assert proposals(engine, base.metadata, **filters) == set(), base
    assert isinstance(EnvKMS(dekctl.environ), EnvKMS)


def test_the_filter_hides_nothing_of_the_application_s_own() -> None:
    engine = sa.create_engine("sqlite://")
    metadata = sa.MetaData()
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE other (id INTEGER, kek_id TEXT)")
        connection.exec_driver_sql("CREATE TABLE encrypted_files (id INTEGER, old_column TEXT)")
        sa.Table("encrypted_files", metadata, sa.Column("id", sa.Integer))
        context = MigrationContext.configure(
            connection, opts={"include_name": include_name, "include_object": include_object}
        )
        found = compare_metadata(context, metadata)
    assert {entry[0] for entry in found} == {"remove_table", "remove_column"}
    engine.dispose()
