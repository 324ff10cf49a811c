"""Keys that the application issues for rows of every shape open in dekctl too, or are refused."""

from __future__ import annotations

import uuid
import warnings
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Session

from dekctl.config import TableConfig
from dekctl.errors import DekctlError, UsageError
from dekctl.kms import EnvKMS
from dekctl.reader import RowKeys
from support.app import AppDatabase
from support.cli import Dekctl
from support.key_shapes import columns, configure

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901)
ISSUED: dict[str, list[tuple[str, Any]]] = {
    "postgresql": [
        ("smallint", -7),
        ("numeric(30,2)", Decimal("1.5")),
        ("uuid", uuid.UUID(int=10)),
        ("text", "ä:%"),
        ("char(8)", "new"),
        ("citext", "Abc"),
        ("date", date(2026, 1, 2)),
        ("timestamp", MOMENT),
        ("timestamptz", MOMENT.replace(tzinfo=UTC)),
        ("bytea", b"\x00\xff"),
    ],
    "mariadb": [
        ("BIGINT UNSIGNED", 18446744073709551615),
        ("DECIMAL(30,2)", Decimal("1.5")),
        ("BINARY(4)", b"\x01\0\0\xff"),
        ("CHAR(8)", "new "),  # not padded, but cut
        ("UUID", "FFFFFFFF-0000-4000-8000-000000000001"),  # stored in small letters
        ("VARCHAR(40)", "ä:%"),
        ("DATETIME(6)", MOMENT),
        ("DATE", date(2026, 1, 2)),
    ],
    "sqlite": [
        ("INTEGER", -1),
        ("TEXT", "ä:%"),
        ("CHAR(8)", "new"),
        ("BLOB", b"\x00\xff"),
        ("DATETIME", MOMENT),
        ("DATE", date(2026, 1, 2)),
    ],
}


@pytest.mark.parametrize(
    ("app_database", "kind", "value"),
    [(database, kind, value) for database, kinds in ISSUED.items() for kind, value in kinds],
    indirect=["app_database"],
)
def test_a_key_issued_for_a_row_of_any_shape_opens_in_dekctl_and_in_the_application(
    app_database: AppDatabase, dekctl: Dekctl, kind: str, value: Any
) -> None:
    model = model_of_key(app_database, dekctl, kind)
    keys = RowKeys(EnvKMS(dekctl.environ), TableConfig())
    with Session(app_database.engine, expire_on_commit=False) as session:
        session.add(row := model(id=value))
        session.flush()
        dek = keys.issue(row)
        dekctl.hidden.append(dek)
        assert keys.read(row) == dek, "the session still holds the key as it was written"
        session.commit()

    assert dekctl.json("verify")["verified"] == 1
    with Session(app_database.engine) as session:
        assert keys.read(session.scalars(sa.select(model)).one()) == dek


@pytest.mark.parametrize(
    ("app_database", "kind", "value"),
    [
        ("postgresql", "numeric(30,2)", Decimal("1.555")),
        ("postgresql", "timestamp(3)", MOMENT),
        ("mariadb", "BINARY(4)", b"\x01"),
        ("mariadb", "DATETIME", MOMENT),
    ],
    indirect=["app_database"],
)
def test_no_key_is_issued_for_a_row_that_its_own_key_does_not_find(
    app_database: AppDatabase, dekctl: Dekctl, kind: str, value: Any
) -> None:
    model = model_of_key(app_database, dekctl, kind)
    with Session(app_database.engine) as session:
        session.add(row := model(id=value))
        session.flush()
        with pytest.raises(DekctlError, match="truncates, rounds or pads"):
            RowKeys(EnvKMS(dekctl.environ)).issue(row)


UUID_COLUMNS = [
    ("postgresql", "uuid", str),
    ("postgresql", "char(32)", lambda value: value.hex),
    ("mariadb", "UUID", str),
    ("mariadb", "CHAR(32)", lambda value: value.hex),
    ("sqlite", "CHAR(32)", lambda value: value.hex),
]


@pytest.mark.parametrize(("app_database", "kind", "text"), UUID_COLUMNS, indirect=["app_database"])
def test_a_uuid_in_a_mapping_counts_as_its_column_stores_it(
    app_database: AppDatabase, dekctl: Dekctl, kind: str, text: Any
) -> None:
    model_of_key(app_database, dekctl, kind)
    value = uuid.uuid4()
    keys = RowKeys(EnvKMS(dekctl.environ), engine=app_database.engine)
    row: dict[str, Any] = {"id": value, "encryption_key": None}
    dek = keys.issue(row)
    app_database.sql(
        "INSERT INTO encrypted_files (id, wrapped_key, wrapped_key_version, kek_id) "
        "VALUES (:id, :wrapped_key, :wrapped_key_version, :kek_id)",
        **{name: v for name, v in row.items() if name not in {"encryption_key", "id"}},
        id=text(value),
    )
    assert dekctl.json("verify")["verified"] == 1
    assert keys.read(row) == dek


def test_a_uuid_in_a_mapping_is_refused_where_its_column_may_hold_any_text(
    app_database: AppDatabase, dekctl: Dekctl
) -> None:
    model_of_key(app_database, dekctl, "VARCHAR(40)")
    with pytest.raises(UsageError, match="how the database stores it"):
        RowKeys(EnvKMS(dekctl.environ), engine=app_database.engine).issue({"id": uuid.uuid4()})


def model_of_key(database: AppDatabase, dekctl: Dekctl, kind: str) -> type[Any]:
    """A model of an expanded table whose primary key has this type."""
    if kind == "citext":
        try:
            database.sql("CREATE EXTENSION citext")
        except Exception:
            pytest.skip("PostgreSQL's contrib package is not installed")
    others = columns(database, nullable=True)
    database.sql(f"CREATE TABLE encrypted_files (id {kind} PRIMARY KEY, {others})")
    configure(dekctl, database)
    dekctl("schema", "expand").expect(0)

    class Base(DeclarativeBase):
        pass

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sa.exc.SAWarning)  # types that SQLAlchemy does not know

        class File(Base):
            __table__ = sa.Table("encrypted_files", Base.metadata, autoload_with=database.engine)

    return File
