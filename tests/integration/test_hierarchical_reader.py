"""A reader opens V3 rows with the branch keys that it finds by the session of the row."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from dekctl.errors import DatabaseError, RowRejectedError
from dekctl.kms import EnvKMS
from dekctl.reader import RowKeys
from support.app import AppDatabase, Application
from support.cli import Dekctl
from support.hierarchical import make


def test_the_reader_finds_the_branch_keys_by_the_session_of_the_row(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make(make_app, sqlite_database)
    dekctl.json("schema", "expand")
    dekctl.json("wrap")

    keys, model = RowKeys(EnvKMS(dekctl.environ), app.config), v3_models(app)
    with Session(app.database.engine) as session:
        found = {file.id: keys.read(file) for file in session.scalars(sa.select(model))}
    assert found == {pk[0]: dek for pk, dek in app.deks.items()}


def v3_models(app: Application) -> type[Any]:
    class Base(DeclarativeBase):
        pass

    class File(Base):
        __table__ = app.now().to_metadata(Base.metadata)
        id: Mapped[int]
        filename: Mapped[str]

    return File


def test_reading_a_v3_row_leaves_the_transaction_of_the_application_alone(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make(make_app, sqlite_database)
    dekctl.json("migrate")
    model, provider = v3_models(app), EnvKMS(dekctl.environ)
    for pool in ({"poolclass": sa.StaticPool}, {"pool_size": 1, "max_overflow": 0}):
        engine = sa.create_engine(sqlite_database.url, hide_parameters=True, **pool)
        keys = RowKeys(provider, app.config)
        with Session(engine) as session:
            row: Any = session.scalars(sa.select(model)).first()
            row.filename = "not committed"
            session.flush()
            assert keys.read(row) == app.deks[row.id,]
            session.rollback()
            assert row.filename != "not committed"
        engine.dispose()


def test_a_branch_key_that_cannot_be_read_is_an_error_of_the_database(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make(make_app, sqlite_database)
    dekctl.json("migrate")
    sqlite_database.sql("DROP TABLE dekctl_branch_keys")
    keys, model = RowKeys(EnvKMS(dekctl.environ), app.config), v3_models(app)
    with Session(sqlite_database.engine) as session:
        row: Any = session.scalars(sa.select(model)).first()
        with pytest.raises(DatabaseError, match="OperationalError") as caught:
            keys.read(row)
    assert "dekctl_branch_keys" in (caught.value.hint or "")


def test_a_reader_that_refuses_old_keks_takes_a_v3_row_as_soon_as_it_has_moved(
    sqlite_database: AppDatabase, dekctl: Dekctl, make_app: Any
) -> None:
    app = make(make_app, sqlite_database)
    dekctl.json("schema", "expand")
    dekctl.json("wrap")
    dekctl.use_env_kek()
    new = EnvKMS(dekctl.environ)
    keys = RowKeys(new, app.config, keks=[new.kek_id], engine=app.database.engine)
    with pytest.raises(RowRejectedError, match="not among"):
        keys.read(app.rows()[1,])
    dekctl.json("rewrap")
    assert keys.read(app.rows()[1,]) == app.deks[1,]
