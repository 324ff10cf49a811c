"""``RowKeys.issue`` beside other writers: what belongs to one key is written together."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from dekctl.kms import InMemoryKMS
from dekctl.kms.context import primary_key_text
from dekctl.reader import RowKeys


class Base(DeclarativeBase):
    pass


class File(Base):
    """The table in the expanded stage."""

    __tablename__ = "encrypted_files"

    id: Mapped[int] = mapped_column(primary_key=True)
    encryption_key: Mapped[bytes | None]
    wrapped_key: Mapped[bytes | None]
    wrapped_key_version: Mapped[str | None]
    kek_id: Mapped[str | None]


class NewBase(DeclarativeBase):
    pass


class NewFile(NewBase):
    """The application's model once nobody reads plaintexts any more."""

    __tablename__ = "encrypted_files"

    id: Mapped[int] = mapped_column(primary_key=True)
    wrapped_key: Mapped[bytes | None]
    wrapped_key_version: Mapped[str | None]
    kek_id: Mapped[str | None]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    """An expanded table with one row that has both keys, under memory:old."""
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def test_a_row_that_was_rewrapped_meanwhile_names_the_kek_of_its_new_key(
    engine: sa.Engine,
) -> None:
    old, new = InMemoryKMS("old"), InMemoryKMS("new")
    with Session(engine) as session, session.begin():
        session.add(file := File(id=1))
        session.flush()
        RowKeys(old).issue(file)
    with Session(engine) as session:
        file = session.get_one(File, 1)  # read while the row is under the old KEK
        session.commit()
        with Session(engine) as rewrap, rewrap.begin():
            RowKeys(new).issue(rewrap.get_one(File, 1), replace=True)
        with Session(engine, expire_on_commit=False) as late:
            stale = File(id=1, wrapped_key=b"", wrapped_key_version="V2", kek_id=old.kek_id)
            sa.orm.make_transient_to_detached(stale)
            late.add(stale)
            sa.orm.attributes.set_committed_value(stale, "encryption_key", None)
            sa.orm.attributes.set_committed_value(stale, "wrapped_key", b"as it was read")
            sa.orm.attributes.set_committed_value(stale, "wrapped_key_version", "V2")
            sa.orm.attributes.set_committed_value(stale, "kek_id", old.kek_id)
            dek = RowKeys(old).issue(stale, replace=True)
            late.commit()
    with Session(engine) as session:
        assert session.get_one(File, 1).kek_id == old.kek_id
        assert RowKeys(old).read(session.get_one(File, 1)) == dek


def test_a_new_key_removes_a_plaintext_that_the_model_does_not_know(engine: sa.Engine) -> None:
    kms = InMemoryKMS("kek")
    with Session(engine) as session, session.begin():
        session.add(File(id=1, encryption_key=bytes(32)))
        session.add(File(id=2, encryption_key=bytes(32)))
    with Session(engine) as session, session.begin():
        keys = RowKeys(kms, plaintext="refuse")
        keys.issue(session.get_one(NewFile, 1), replace=True)
    with Session(engine) as session:
        assert session.get_one(File, 1).encryption_key is None
        assert session.get_one(File, 2).encryption_key == bytes(32)


def test_that_the_plaintext_column_is_gone_is_asked_once(engine: sa.Engine) -> None:
    keys, statements = RowKeys(InMemoryKMS("kek"), plaintext="refuse"), list[str]()
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE encrypted_files DROP COLUMN encryption_key")
    sa.event.listen(engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    with Session(engine) as session, session.begin():
        for number in (1, 2):
            session.add(file := NewFile(id=number))
            session.flush()
            statements.clear()
            keys.issue(file)
        kinds = [statement.split()[0] for statement in statements]
        assert kinds == ["SELECT", "UPDATE", "SELECT"], "the second one is read, locked, read"


def test_a_moment_in_the_primary_key_gives_one_context_in_every_time_zone() -> None:
    moment = datetime(2026, 11, 23, 12, tzinfo=UTC)
    elsewhere = moment.astimezone(timezone(timedelta(hours=1)))
    assert primary_key_text([1, moment]) == primary_key_text([1, elsewhere])
