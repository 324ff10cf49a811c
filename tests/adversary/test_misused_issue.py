"""``RowKeys.issue`` used as it is not meant to be: no key is handed out that is not stored."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from dekctl.config import TableConfig
from dekctl.errors import DatabaseError, UsageError
from dekctl.kms import InMemoryKMS
from dekctl.reader import KeyColumns, RowKeys, WrappedKeyColumns
from support.app import AppDatabase


class Base(DeclarativeBase):
    pass


class File(KeyColumns, Base):
    __tablename__ = "encrypted_files"
    id: Mapped[int] = mapped_column(primary_key=True)


class EndBase(DeclarativeBase):
    pass


class EndFile(WrappedKeyColumns, EndBase):
    """The model that no longer knows the plaintext, which the table still has."""

    __tablename__ = "encrypted_files"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
def engine(sqlite_database: AppDatabase) -> sa.Engine:
    Base.metadata.create_all(sqlite_database.engine)
    return sqlite_database.engine


def test_a_row_that_is_passed_twice_gets_no_second_key(engine: sa.Engine) -> None:
    keys = RowKeys(InMemoryKMS("kek"))
    with Session(engine) as session:
        session.add(file := File())
        session.flush()
        with pytest.raises(UsageError, match="the row 1 is there twice"):
            keys.issue_many([file, file])
        assert file.wrapped_key is None
        with pytest.raises(UsageError, match="twice"):
            keys.issue_many([{"id": 7}, {"id": 8}, {"id": 7}])
    assert keys.stats().issued == 0


def test_a_row_in_two_sessions_is_told_before_one_waits_for_the_other(
    postgres_database: AppDatabase,
) -> None:
    engine = postgres_database.engine
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(File(id=1))
    with Session(engine) as one, Session(engine) as other:
        for session in (one, other):
            session.execute(sa.text("SET lock_timeout = '5s'"))
        with pytest.raises(UsageError, match="twice"):
            RowKeys(InMemoryKMS()).issue_many([one.get_one(File, 1), other.get_one(File, 1)])


def test_a_row_of_another_table_gets_no_key_that_is_bound_to_this_one(engine: sa.Engine) -> None:
    """With two readers, one for each table, it is easy to take the wrong one."""
    keys = RowKeys(InMemoryKMS("kek"), TableConfig(name="avatars"))
    with Session(engine) as session:
        session.add(file := File())
        session.flush()
        with pytest.raises(UsageError, match="File is not a model of the table avatars"):
            keys.issue(file)
        assert file.wrapped_key is None


@dataclass(frozen=True)
class Frozen:
    id: int
    wrapped_key: bytes | None = None
    wrapped_key_version: str | None = None
    kek_id: str | None = None


@pytest.mark.parametrize("other", [Frozen(2), MappingProxyType({"id": 2})])
def test_a_row_that_cannot_be_changed_is_told_before_another_one_has_a_key(other: Any) -> None:
    keys, row = RowKeys(InMemoryKMS("kek"), plaintext="refuse"), {"id": 1}
    with pytest.raises(UsageError, match="cannot be changed"):
        keys.issue_many([row, other])
    assert row == {"id": 1}


def test_a_model_without_the_time_column_is_told_before_it_has_half_a_key(
    engine: sa.Engine,
) -> None:
    keys = RowKeys(InMemoryKMS("kek"), TableConfig(wrapped_at_column="wrapped_at"))
    with Session(engine) as session:
        session.add(file := File())
        session.flush()
        with pytest.raises(UsageError, match="has no 'wrapped_at'"):
            keys.issue(file)
        assert file.wrapped_key is None


def test_a_session_of_another_engine_than_the_reader_s_gets_its_keys(
    app_database: AppDatabase,
) -> None:
    """The new row is not committed, and the old one is locked by the session itself."""
    Base.metadata.create_all(app_database.engine)
    others = sa.create_engine(app_database.engine.url, connect_args=_impatient(app_database.kind))
    keys = RowKeys(InMemoryKMS("kek"), engine=others)
    with Session(app_database.engine) as session, session.begin():
        session.add(file := File(id=1))
        session.flush()
        first = keys.issue(file)
    with Session(app_database.engine) as session, session.begin():
        file = session.scalars(sa.select(File).with_for_update()).one()
        second = keys.issue(file, replace=True)
    with Session(app_database.engine) as session:
        assert keys.read(session.get_one(File, 1)) == second != first
    others.dispose()


def test_a_session_that_reads_from_a_replica_gets_its_keys_from_the_primary(
    engine: sa.Engine, tmp_path: Path
) -> None:
    """SQLAlchemy's recipe for a session with two binds; this replica is always behind."""
    replica = sa.create_engine(f"sqlite:///{tmp_path / 'replica.db'}")
    Base.metadata.create_all(replica)

    class Routed(Session):
        def get_bind(self, *_: Any, clause: Any = None, **__: Any) -> sa.Engine:
            writes = self._flushing or isinstance(clause, sa.Update | sa.Delete)
            return engine if writes else replica

    keys = RowKeys(InMemoryKMS("kek"), plaintext="read")
    with Routed() as session, session.begin():
        session.add(file := EndFile())
        session.flush()
        dek = keys.issue(file)
    with Session(engine) as primary:
        assert keys.read(primary.get_one(File, 1)) == dek
    replica.dispose()


def test_an_async_session_gets_its_keys_though_the_reader_has_a_plain_engine(
    engine: sa.Engine, sqlite_database: AppDatabase
) -> None:
    async def main() -> None:
        url = engine.url.set(drivername="sqlite+aiosqlite")
        own = create_async_engine(url)
        keys = RowKeys(InMemoryKMS("kek"), engine=engine)
        async with AsyncSession(own) as session, session.begin():
            session.add(file := File())
            await session.flush()
            dek = await keys.aissue(file)
        async with AsyncSession(own) as session:
            assert await keys.aread(await session.get_one(File, 1)) == dek
        keys.close()
        await own.dispose()

    asyncio.run(main())


def test_a_database_that_refuses_leaves_the_old_keys_to_be_committed(engine: sa.Engine) -> None:
    kms = InMemoryKMS("kek")
    with Session(engine) as session, session.begin():
        session.add_all(files := [File(id=1), File(id=2)])
        session.flush()
        old = RowKeys(kms).issue_many(files)
        session.execute(
            sa.text(
                "CREATE TRIGGER no BEFORE UPDATE OF encryption_key ON encrypted_files "
                "WHEN OLD.id = 2 BEGIN SELECT RAISE(FAIL, 'no'); END"
            )
        )
    keys = RowKeys(kms, plaintext="read")
    refuses = pytest.raises(DatabaseError, match="refused to clear the old key")
    with Session(engine) as session, session.begin(), refuses:  # what there is is committed
        keys.issue_many(session.scalars(sa.select(EndFile)).all(), replace=True)
    with Session(engine) as session:
        files = list(session.scalars(sa.select(File).order_by(File.id)))
        assert keys.read_many(files) == old
        assert [file.encryption_key for file in files] == old


def _impatient(kind: str) -> dict[str, object]:
    """What makes a second connection give up, where it would wait for the first one's lock."""
    settings: dict[str, dict[str, object]] = {
        "sqlite": {"timeout": 1},
        "postgresql": {"options": "-c lock_timeout=3000"},
        "mariadb": {"init_command": "SET innodb_lock_wait_timeout = 3"},
    }
    return settings[kind]
