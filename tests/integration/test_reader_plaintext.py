"""What a plaintext, a V1 row and a foreign KEK still count; and that ``issue`` replaces no key."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, load_only, mapped_column

from dekctl.config import TableConfig
from dekctl.config.model import PlaintextUse
from dekctl.errors import RefusedError, RowRejectedError, UsageError
from dekctl.kms import InMemoryKMS
from dekctl.reader import RowKeys
from support.app import AppDatabase

BLOB = sa.LargeBinary().with_variant(sa.VARBINARY(6144), "mysql", "mariadb")
OLD = b"O" * 32


class Base(DeclarativeBase):
    pass


class File(Base):
    """The model beside old versions: with the plaintext."""

    __tablename__ = "encrypted_files"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    encryption_key: Mapped[bytes | None] = mapped_column(BLOB)
    wrapped_key: Mapped[bytes | None] = mapped_column(BLOB)
    wrapped_key_version: Mapped[str | None] = mapped_column(sa.String(10))
    kek_id: Mapped[str | None] = mapped_column(sa.String(255))


class NewBase(DeclarativeBase):
    pass


class NewFile(NewBase):
    """The model at the end: without."""

    __tablename__ = "encrypted_files"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    wrapped_key: Mapped[bytes | None] = mapped_column(BLOB)
    wrapped_key_version: Mapped[str | None] = mapped_column(sa.String(10))
    kek_id: Mapped[str | None] = mapped_column(sa.String(255))


@pytest.fixture
def kms() -> InMemoryKMS:
    return InMemoryKMS("ours")


@pytest.fixture
def engine(app_database: AppDatabase) -> sa.Engine:
    Base.metadata.create_all(app_database.engine)
    return app_database.engine


def add(engine: sa.Engine, **values: Any) -> None:
    with Session(engine) as session, session.begin():
        session.add(File(**values))


def stored(engine: sa.Engine, number: int = 1) -> dict[str, Any]:
    with engine.connect() as connection:
        query = sa.select(File.__table__).where(File.id == number)
        return dict(connection.execute(query).mappings().one())


EMPTY = {"id": 1, "encryption_key": None, "wrapped_key": None, "wrapped_key_version": None}


@pytest.mark.parametrize(("use", "both"), [("write", True), ("read", False), ("refuse", False)])
def test_a_model_stores_what_the_setting_says(
    engine: sa.Engine, kms: InMemoryKMS, use: PlaintextUse, both: bool
) -> None:
    keys = RowKeys(kms, plaintext=use)
    with Session(engine) as session, session.begin():
        session.add(file := File(id=1))
        session.flush()
        dek = keys.issue(file)
    row = stored(engine)
    assert row["encryption_key"] == (dek if both else None)
    assert keys.read(row) == dek
    assert row["wrapped_key_version"] == "V2"


def test_the_setting_of_the_file_is_the_default(kms: InMemoryKMS) -> None:
    assert RowKeys(kms).plaintext == "write"
    assert RowKeys(kms, TableConfig(plaintext="read")).plaintext == "read"
    assert RowKeys(kms, TableConfig(plaintext="read"), plaintext="refuse").plaintext == "refuse"
    with pytest.raises(UsageError, match="plaintext"):
        RowKeys(kms, plaintext="no")  # type: ignore[arg-type]  # what a caller without types does


def test_a_plaintext_counts_until_it_is_refused(kms: InMemoryKMS) -> None:
    row = {**EMPTY, "encryption_key": OLD, "kek_id": None}
    for use in ("write", "read"):
        assert RowKeys(kms, plaintext=use).read(row) == OLD
    with pytest.raises(RowRejectedError, match="no wrapped key"):
        RowKeys(kms, plaintext="refuse").read(row)


def test_a_v1_blob_is_refused_with_the_plaintext_as_it_is_bound_to_no_row(
    kms: InMemoryKMS,
) -> None:
    row = {**EMPTY, "wrapped_key": kms.wrap(OLD), "wrapped_key_version": "V1", "kek_id": None}
    for version in ("V1", None):
        planted = {**row, "id": 77, "wrapped_key_version": version}
        assert RowKeys(kms).read(planted) == OLD
        with pytest.raises(RowRejectedError, match="bound to no row"):
            RowKeys(kms, plaintext="refuse").read(planted)


def test_a_kek_that_nobody_named_wraps_nothing_that_is_read(kms: InMemoryKMS) -> None:
    ours = kms.kek_id
    foreign = kms.roll("foreign")  # the provider has it, as KMS has every key that grants us
    planted: dict[str, Any] = {"id": 1}
    RowKeys(kms).issue(planted)
    assert planted["kek_id"] == foreign
    keys = RowKeys(kms, keks=[ours])
    for named in (foreign, None):  # in the row's own words, or not at all
        with pytest.raises(RowRejectedError, match="not among"):
            keys.read({**planted, "kek_id": named})
    assert isinstance(keys.read_many([planted])[0], RowRejectedError)
    assert RowKeys(kms, keks=[ours, foreign]).read(planted)


# -- issue ------------------------------------------------------------------------------------


def test_a_row_with_a_key_keeps_it_unless_told(engine: sa.Engine, kms: InMemoryKMS) -> None:
    keys = RowKeys(kms)
    add(engine, id=1, encryption_key=OLD)
    add(engine, id=2)
    with Session(engine) as session, session.begin():
        keys.issue(session.get_one(File, 2))
    for number in (1, 2):
        before = stored(engine, number)
        with Session(engine) as session:
            with pytest.raises(RefusedError, match="already has a data key"):
                keys.issue(session.get_one(File, number))
            session.commit()
        with pytest.raises(RefusedError, match="already has a data key"):
            keys.issue(dict(before))
        assert stored(engine, number) == before
        with Session(engine) as session, session.begin():
            dek = keys.issue(session.get_one(File, number), replace=True)
        assert keys.read(stored(engine, number)) == dek
        assert stored(engine, number)["encryption_key"] == dek, "no second truth"


def test_of_two_workers_on_one_row_one_is_refused(engine: sa.Engine, kms: InMemoryKMS) -> None:
    keys = RowKeys(kms)
    add(engine, id=1)
    looked = threading.Barrier(2, timeout=30)

    def work(_: int) -> bytes | None:
        with Session(engine) as session:
            file = session.get_one(File, 1)
            looked.wait()  # both have seen a row without a key
            try:
                dek = keys.issue(file)
                session.commit()
            except RefusedError:
                return None
            return dek

    with ThreadPoolExecutor(2) as pool:
        deks = list(pool.map(work, range(2)))
    assert deks.count(None) == 1
    assert keys.read(stored(engine)) in deks


@pytest.mark.parametrize("use", ["read", "refuse"])
def test_no_second_truth_is_left_where_the_model_or_the_mapping_lacks_the_plaintext(
    engine: sa.Engine, kms: InMemoryKMS, use: PlaintextUse
) -> None:
    keys = RowKeys(kms, plaintext=use, engine=engine)
    for number in (1, 2):
        add(engine, id=number, encryption_key=OLD)
    with Session(engine) as session, session.begin():
        dek = keys.issue(session.get_one(NewFile, 1), replace=True)
    assert (keys.read(stored(engine)), stored(engine)["encryption_key"]) == (dek, None)

    row: dict[str, Any] = {"id": 2}
    dek = keys.issue(row)
    with engine.begin() as connection:
        connection.execute(sa.update(File).where(File.id == 2), row)
    assert (keys.read(stored(engine, 2)), stored(engine, 2)["encryption_key"]) == (dek, None)


def test_a_model_without_the_plaintext_cannot_write_it(engine: sa.Engine, kms: InMemoryKMS) -> None:
    with Session(engine) as session:
        session.add(file := NewFile(id=1))
        session.flush()
        with pytest.raises(UsageError, match="encryption_key, which NewFile does not have"):
            RowKeys(kms).issue(file)


@pytest.mark.parametrize("encoding", ["base64", "hex", "hex-upper"])
def test_a_plaintext_is_written_as_the_column_has_it(kms: InMemoryKMS, encoding: Any) -> None:
    keys = RowKeys(kms, TableConfig(plaintext_encoding=encoding))
    row: dict[str, Any] = {"id": 1}
    dek = keys.issue(row)
    assert isinstance(row["encryption_key"], str)
    assert keys.read({**row, "wrapped_key": None}) == dek


def test_a_column_of_text_as_it_is_takes_no_random_key(kms: InMemoryKMS) -> None:
    table = TableConfig(plaintext_encoding="text")
    with pytest.raises(UsageError, match="holds text as it is") as caught:
        RowKeys(kms, table).issue({"id": 1})
    assert 'plaintext = "read"' in (caught.value.hint or "")
    row: dict[str, Any] = {"id": 1}
    assert RowKeys(kms, table, plaintext="read").issue(row) == RowKeys(kms, table).read(row)


def test_what_sqlite_stores_in_any_column_is_that_row_s_error(kms: InMemoryKMS) -> None:
    keys = RowKeys(kms)
    row: dict[str, Any] = {"id": 1}
    keys.issue(row)
    odd: list[dict[str, Any]] = [
        {**row, "wrapped_key": 7},
        {**row, "wrapped_key": "text"},
        {**row, "kek_id": b"\0"},
        {**row, "wrapped_key_version": b"2"},
        {**row, "wrapped_key": None, "encryption_key": 1.5},
    ]
    for each in odd:
        with pytest.raises(RowRejectedError):
            keys.read(each)
    assert all(isinstance(answer, RowRejectedError) for answer in keys.read_many(odd))


# -- rows in every form -----------------------------------------------------------------------


@dataclass
class Data:
    id: int
    encryption_key: bytes | None
    wrapped_key: bytes | None
    wrapped_key_version: str | None
    kek_id: str | None


class Named(NamedTuple):
    id: int
    wrapped_key: bytes | None
    wrapped_key_version: str | None
    kek_id: str | None


def test_a_row_may_have_any_form(engine: sa.Engine, kms: InMemoryKMS) -> None:
    keys = RowKeys(kms)
    with Session(engine) as session, session.begin():
        session.add(file := File(id=1))
        session.flush()
        dek = keys.issue(file)
    row = stored(engine)
    plain = {name: row[name] for name in Named._fields}
    with Session(engine) as session:
        table = File.__table__
        forms: list[Any] = [
            row,
            Data(**row),
            Named(**plain),
            SimpleNamespace(**plain),
            session.get_one(File, 1),
            session.execute(sa.select(table)).one(),
            session.execute(sa.select(table)).mappings().one(),
        ]
        for form in forms:
            assert keys.read(form) == dek, type(form)
        data = Data(**{**row, "encryption_key": None, "wrapped_key": None})
        new = keys.issue(data)
        assert keys.read(data) == new == data.encryption_key
        for form in forms[-1], forms[-2], Named(1, None, None, None):
            with pytest.raises((UsageError, RefusedError)):
                keys.issue(form)


def test_a_column_that_is_not_there_or_not_loaded_is_named(
    engine: sa.Engine, kms: InMemoryKMS
) -> None:
    keys = RowKeys(kms)
    with Session(engine) as session, session.begin():
        session.add(file := File(id=1))
        session.flush()
        dek = keys.issue(file)
    row = stored(engine)
    for column in ("id", "wrapped_key", "wrapped_key_version", "kek_id"):
        without = {name: value for name, value in row.items() if name != column}
        with pytest.raises(UsageError, match=f"has no '{column}'"):
            keys.read(without)
    with pytest.raises(UsageError, match="has no 'encryption_key'"):
        keys.read(dict.fromkeys(Named._fields))
    with Session(engine) as session:
        file = session.scalars(sa.select(File).options(load_only(File.id))).one()
        assert keys.read(file) == dek, "a plain session loads what is missing"
        session.expire(file)
        session.expunge(file)
        with pytest.raises(UsageError, match=r"File\.\w+ is not loaded"):
            keys.read(file)


def test_what_is_no_row_is_refused_by_the_type_checker_and_at_run_time(kms: InMemoryKMS) -> None:
    keys = RowKeys(kms)
    with pytest.raises(UsageError, match="str is not a row"):
        keys.read("text")  # type: ignore[arg-type]  # unused, it would fail the type check
    with pytest.raises(UsageError, match="int is not a row"):
        keys.read(7)  # type: ignore[arg-type]  # the same


def test_a_key_shows_in_no_text_of_it(kms: InMemoryKMS) -> None:
    row: dict[str, Any] = {"id": 1}
    dek = RowKeys(kms).issue(row)
    assert (len(dek), isinstance(dek, bytes), dek == bytes(dek)) == (32, True, True)
    assert {repr(dek), str(dek), f"{dek}", f"{dek!r:>20}".strip()} == {"<DEK of 32 bytes>"}
    new = RowKeys(kms).issue_for(7)
    assert repr(bytes(new.dek))[2:-1] not in repr(new)


def test_a_key_is_issued_before_the_insert(engine: sa.Engine, kms: InMemoryKMS) -> None:
    keys, statements = RowKeys(kms), list[str]()
    sa.event.listen(engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    new = keys.issue_for(5)
    assert not statements
    with engine.begin() as connection:
        connection.execute(File.__table__.insert(), {"id": 5, **new.columns})  # type: ignore[attr-defined]  # a Table
    row = stored(engine, 5)
    assert keys.read(row) == new.dek == row["encryption_key"]
    assert (row["wrapped_key"], row["kek_id"]) == (new.wrapped_key, new.kek_id)
    assert "encryption_key" not in RowKeys(kms, plaintext="refuse").issue_for(6).columns
    for wrong in (None, (1, 2), ()):
        with pytest.raises(UsageError, match="a value for each of id"):
            keys.issue_for(wrong)


def test_many_rows_cost_few_statements_and_one_call(engine: sa.Engine, kms: InMemoryKMS) -> None:
    keys, statements = RowKeys(kms), list[str]()
    calls: list[int] = []
    generate = kms.generate_many
    kms.generate_many = lambda requests: calls.append(len(requests)) or generate(requests)  # type: ignore[method-assign, func-returns-value]  # counts
    with Session(engine) as session, session.begin():
        files = [File(id=number) for number in range(150)]
        session.add_all(files)
        session.flush()
        sa.event.listen(engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
        deks = keys.issue_many(files)
        assert len(statements) <= 3, statements
        assert calls == [150]
    with Session(engine) as session:
        rows = session.scalars(sa.select(File).order_by(File.id)).all()
        assert keys.read_many(rows) == deks
        with pytest.raises(RefusedError):
            keys.issue_many([*rows[:3], File(id=1000)][:3])


def test_of_many_rows_each_has_its_own_verdict(kms: InMemoryKMS) -> None:
    keys = RowKeys(kms)
    rows: list[dict[str, Any]] = [{"id": number} for number in range(4)]
    deks = keys.issue_many(rows)
    rows[1]["wrapped_key"] = rows[2]["wrapped_key"]
    rows[3] |= {"wrapped_key": None, "encryption_key": None}
    found = keys.read_many(rows)
    assert [found[0], found[2]] == [deks[0], deks[2]]
    assert all(isinstance(found[i], RowRejectedError) for i in (1, 3))
    assert keys.read_many([]) == []
