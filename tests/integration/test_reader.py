"""The library for applications: a row's key is read and issued from a SQLAlchemy model."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from dekctl.config import TableConfig
from dekctl.errors import DekctlError, RowRejectedError
from dekctl.kms import EnvKMS, InMemoryKMS
from dekctl.reader import RowKeys
from support.app import AppDatabase
from support.cli import Dekctl


class Base(DeclarativeBase):
    pass


class Mixin:
    key_: Mapped[bytes | None] = mapped_column(
        "encryption_key", sa.LargeBinary().with_variant(sa.VARBINARY(32), "mysql", "mariadb")
    )
    wrapped: Mapped[bytes | None] = mapped_column(
        "wrapped_key", sa.LargeBinary().with_variant(sa.VARBINARY(6144), "mysql", "mariadb")
    )
    wrapped_key_version: Mapped[str | None] = mapped_column(sa.String(10))
    kek_id: Mapped[str | None] = mapped_column(sa.String(255))


class Numbered(Mixin, Base):
    __tablename__ = "numbered"
    id: Mapped[int] = mapped_column(primary_key=True)


class Unique(Mixin, Base):
    __tablename__ = "uniques"
    id: Mapped[uuid.UUID] = mapped_column(sa.Uuid(), primary_key=True, default=uuid.uuid4)


class Pair(Mixin, Base):
    __tablename__ = "pairs"
    tenant: Mapped[str] = mapped_column(sa.String(20), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class Dated(Mixin, Base):
    __tablename__ = "dated"
    at: Mapped[datetime] = mapped_column(sa.DateTime(timezone=True), primary_key=True)


@pytest.fixture
def session(app_database: AppDatabase) -> Iterator[Session]:
    Base.metadata.create_all(app_database.engine)
    with Session(app_database.engine) as opened:
        yield opened


def configure(dekctl: Dekctl, database: AppDatabase, name: str, *key: str) -> TableConfig:
    keys = ", ".join(f'"{column}"' for column in key)
    dekctl.configure(
        f'[table]\nname = "{name}"\nprimary_key = [{keys}]\ncontext_name = "{name}"\n'
        f'[env.test]\ndatabase_url = "{database.url}"\nprovider = "env"\n'
    )
    return TableConfig(name=name, primary_key=key, context_name=name)


MODELS: list[tuple[type[Any], tuple[str, ...], list[dict[str, Any]]]] = [
    (Numbered, ("id",), [{}, {}]),
    (Unique, ("id",), [{}, {"id": uuid.UUID("ABCDEF00-0000-4000-8000-00000000000A")}]),
    (Pair, ("tenant", "number"), [{"tenant": 'a "ä"', "number": 1}, {"tenant": "b", "number": 2}]),
]


@pytest.mark.parametrize(("model", "key", "rows"), MODELS, ids=["integer", "uuid", "composite"])
def test_what_the_application_issues_dekctl_opens_and_the_other_way_round(
    session: Session,
    app_database: AppDatabase,
    dekctl: Dekctl,
    model: type[Any],
    key: tuple[str, ...],
    rows: list[dict[str, Any]],
) -> None:
    config = configure(dekctl, app_database, model.__tablename__, *key)
    keys = RowKeys(EnvKMS(dekctl.environ), config)
    issued, legacy = model(**rows[0]), model(**rows[1], key_=b"L" * 32)
    dekctl.hidden.append(b"L" * 32)
    session.add_all([issued, legacy])
    session.flush()
    dek = keys.issue(issued)
    assert keys.read(legacy) == b"L" * 32
    session.commit()

    assert dekctl.json("migrate")["changed"] == 1
    assert dekctl.json("verify")["verified"] == 2
    dekctl("scrub", "--yes").expect(0)

    session.expire_all()
    assert keys.read(session.merge(issued)) == dek
    assert keys.read(session.merge(legacy)) == b"L" * 32
    assert legacy.key_ is None


def test_a_time_zone_changes_no_context(postgres_database: AppDatabase, dekctl: Dekctl) -> None:
    """The same moment is told otherwise by a session in another time zone."""
    Base.metadata.create_all(postgres_database.engine)
    config = configure(dekctl, postgres_database, "dated", "at")
    keys = RowKeys(EnvKMS(dekctl.environ), config)
    moment = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    with Session(postgres_database.engine) as session:
        row = Dated(at=moment)
        session.add(row)
        session.flush()
        dek = keys.issue(row)
        session.commit()
    dekctl("schema", "expand").expect(0)
    name = postgres_database.url.rpartition("/")[2]
    for zone in ("UTC", "Asia/Tokyo", "America/New_York"):
        postgres_database.sql(f"ALTER DATABASE {name} SET timezone = '{zone}'")
        assert dekctl.json("verify")["verified"] == 1
        with Session(postgres_database.engine) as session:
            assert keys.read(session.get_one(Dated, moment.astimezone(UTC))) == dek


def test_a_row_without_a_primary_key_gets_no_key() -> None:
    keys = RowKeys(InMemoryKMS())
    with pytest.raises(DekctlError, match="no primary key yet"):
        keys.issue({"id": None})


def test_a_row_without_any_key_is_named() -> None:
    with pytest.raises(RowRejectedError, match="neither a wrapped key nor a plaintext"):
        RowKeys(InMemoryKMS()).read({"id": 1})


def test_issuing_replaces_a_plaintext_and_reading_prefers_the_wrapped_key() -> None:
    keys = RowKeys(InMemoryKMS())
    row: dict[str, Any] = {"id": 1, "encryption_key": b"P" * 32}
    dek = keys.issue(row)
    assert row["encryption_key"] is None
    row["encryption_key"] = b"P" * 32
    assert keys.read(row) == dek


def test_a_blob_of_another_row_does_not_open() -> None:
    keys = RowKeys(InMemoryKMS())
    one: dict[str, Any] = {"id": 1}
    keys.issue(one)
    with pytest.raises(RowRejectedError):
        keys.read({**one, "id": 2})
