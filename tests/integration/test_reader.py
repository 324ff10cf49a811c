"""The library for applications: a row's key is read and issued from a SQLAlchemy model."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from dekctl.config import KekBy, TableConfig
from dekctl.errors import DekctlError, RowRejectedError, UsageError
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
    dekctl("schema", "expand").expect(0)
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
    dekctl("schema", "expand").expect(0)
    keys = RowKeys(EnvKMS(dekctl.environ), config)
    moment = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    with Session(postgres_database.engine) as session:
        row = Dated(at=moment)
        session.add(row)
        session.flush()
        dek = keys.issue(row)
        session.commit()
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
        RowKeys(InMemoryKMS()).read({"id": 1, "wrapped_key": None, "encryption_key": None})


def test_reading_prefers_the_wrapped_key() -> None:
    keys = RowKeys(InMemoryKMS())
    row: dict[str, Any] = {"id": 1}
    dek = keys.issue(row)
    row["encryption_key"] = b"P" * 32
    assert keys.read(row) == dek


def test_a_blob_of_another_row_does_not_open() -> None:
    keys = RowKeys(InMemoryKMS())
    one: dict[str, Any] = {"id": 1}
    keys.issue(one)
    with pytest.raises(RowRejectedError):
        keys.read({**one, "id": 2})


def test_no_key_is_issued_for_a_model_that_is_not_flushed(session: Session) -> None:
    keys, row = RowKeys(InMemoryKMS(), TableConfig(name="uniques")), Unique(id=uuid.uuid4())
    with pytest.raises(DekctlError, match="changes that are not flushed") as caught:
        keys.issue(row)
    assert "session.flush()" in (caught.value.hint or "")
    session.add(row)
    session.flush()
    keys.issue(row)
    row.id = uuid.uuid4()
    with pytest.raises(DekctlError, match="changes that are not flushed"):
        keys.issue(row)


def test_no_key_is_issued_for_a_mapping_whose_stored_key_is_not_known() -> None:
    kms, engine = InMemoryKMS(), sa.create_engine("sqlite://")
    for value in (uuid.uuid4(), datetime.now(UTC), datetime.now(UTC).date()):
        with pytest.raises(UsageError, match="how the database stores it"):
            RowKeys(kms).issue({"id": value})
    with pytest.raises(UsageError, match="how the database stores it"):
        RowKeys(kms, engine=engine).issue({"id": datetime.now(UTC)})


def test_a_row_is_read_however_it_was_fetched(session: Session, app_database: AppDatabase) -> None:
    kms, config = InMemoryKMS(), TableConfig(name="uniques")
    keys = RowKeys(kms, config)
    row, other = Unique(), {"id": uuid.uuid4()}
    session.add(row)
    session.flush()
    dek = keys.issue(row)
    session.commit()
    query = sa.select(Unique.__table__)
    mapping, plain = session.execute(query).mappings().one(), session.execute(query).one()
    session.refresh(row)
    session.expunge(row)
    for fetched in (row, mapping, plain):
        assert keys.read(fetched) == dek
        assert RowKeys(kms, config, engine=app_database.engine).read(fetched) == dek

    given = RowKeys(kms, config, engine=app_database.engine)
    dek = given.issue(other)
    session.execute(Base.metadata.tables["uniques"].insert(), other)
    assert keys.read(session.get_one(Unique, other["id"])) == dek


def test_a_key_of_a_size_that_the_table_does_not_take_is_not_issued() -> None:
    kms, row = InMemoryKMS(), dict[str, Any](id=1)
    with pytest.raises(UsageError, match="dek_bytes"):
        RowKeys(kms).issue(row, 64)
    assert row == {"id": 1}
    assert len(RowKeys(kms, TableConfig(dek_bytes=(64,))).issue(row, 64)) == 64


def test_a_version_or_a_primary_key_that_dekctl_does_not_know_is_an_error_of_its_own() -> None:
    keys = RowKeys(InMemoryKMS())
    row = {"wrapped_key": bytes(50), "wrapped_key_version": "V2", "kek_id": None}
    with pytest.raises(RowRejectedError, match="V9"):
        keys.read({**row, "id": 1, "wrapped_key_version": "V9"})
    with pytest.raises(UsageError, match="primary key of type"):
        keys.read({**row, "id": 1.5})
    with pytest.raises(UsageError, match="no 'id'"):
        keys.read(row)


def test_a_tenant_that_only_the_database_can_tell_gets_no_key_in_a_mapping() -> None:
    kms = InMemoryKMS("common")
    common, acme = kms.kek_id, kms.roll("acme")
    table = TableConfig(kek_by=KekBy("tenant", (("acme", acme), ("*", common))))
    for tenant in ("ACME", "acme ", "ácme"):
        with pytest.raises(RowRejectedError, match="resembles 'acme'"):
            RowKeys(kms, table).issue({"id": 1, "tenant": tenant})
    for owner, kek in {"acme": acme, "globex": common, None: common}.items():
        row: dict[str, Any] = {"id": 1, "tenant": owner}
        RowKeys(kms, table).issue(row)
        assert row["kek_id"] == kek


class Named(DeclarativeBase):
    pass


class Item(Named):
    __tablename__ = "encrypted_files"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    plain: Mapped[bytes | None] = mapped_column("encryption_key")
    wrapped: Mapped[bytes | None] = mapped_column("wrapped_key")
    wrapped_key_version: Mapped[str | None]
    kek_id: Mapped[str | None]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "item"}  # noqa: RUF012


class Picture(Item):
    __tablename__ = "pictures"
    picture_id: Mapped[int] = mapped_column(sa.ForeignKey(Item.id), primary_key=True)
    kek_id_: Mapped[str | None] = mapped_column("kek_id")
    __mapper_args__ = {"polymorphic_identity": "picture"}  # noqa: RUF012


def test_a_model_of_joined_tables_is_read_by_the_columns_of_the_keys_table(
    sqlite_database: AppDatabase,
) -> None:
    Named.metadata.create_all(sqlite_database.engine)
    keys = RowKeys(InMemoryKMS(), plaintext="read")
    with Session(sqlite_database.engine) as session:
        session.add(picture := Picture(plain=b"L" * 32, kek_id_="the application's own"))
        session.flush()
        assert keys.read(picture) == b"L" * 32
        dek = keys.issue(picture, replace=True)
        session.commit()
        assert keys.read(picture) == dek
        assert (picture.plain, picture.kek_id_) == (None, "the application's own")
