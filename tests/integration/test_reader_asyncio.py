"""The library under asyncio: the event loop is never blocked, whatever a key needs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from dekctl.errors import (
    KMSRefusedError,
    KMSUnavailableError,
    RefusedError,
    RowRejectedError,
    UsageError,
)
from dekctl.kms import InMemoryKMS
from dekctl.reader import KeyCache, RowKeys
from support.app import AppDatabase
from support.frames import assert_frames_hide
from support.v3_rows import v3_rows

ROWS, BRANCHES = 12, 4
SLOW_SECONDS = 0.4


class Base(DeclarativeBase):
    pass


class File(Base):
    __tablename__ = "encrypted_files"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    encryption_key: Mapped[bytes | None]
    wrapped_key: Mapped[bytes | None]
    wrapped_key_version: Mapped[str | None] = mapped_column(sa.String(10))
    kek_id: Mapped[str | None] = mapped_column(sa.String(255))


class SlowKMS(InMemoryKMS):
    """Takes its time, like a network; counts, and may refuse or wait for a sign."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self.unwraps = 0
        self.refuses = False
        self.go = threading.Event()
        self.go.set()

    def unwrap_many(self, requests: Any) -> Any:
        self.unwraps += 1
        time.sleep(self.seconds)
        assert self.go.wait(20)
        if self.refuses:
            raise KMSRefusedError("no", code="AccessDeniedException")
        return super().unwrap_many(requests)

    def generate_many(self, requests: Any) -> Any:
        time.sleep(self.seconds)
        return super().generate_many(requests)


@dataclass
class Stage:
    """Rows of version V2 (1 to 12) and V3 (101 to 112, under 4 branch keys), and their keys."""

    url: str
    kms: SlowKMS
    deks: dict[int, bytes]


@pytest.fixture(params=["sqlite+aiosqlite", "postgresql+psycopg", "postgresql+asyncpg"])
def stage(request: pytest.FixtureRequest) -> Stage:
    kind = request.param.partition("+")[0]
    name = {"sqlite": "sqlite_database", "postgresql": "postgres_database"}[kind]
    database: AppDatabase = request.getfixturevalue(name)
    url = sa.make_url(database.url).set(drivername=request.param)
    kms = SlowKMS()
    return Stage(url.render_as_string(hide_password=False), kms, fill(database.engine, kms))


def fill(engine: sa.Engine, kms: SlowKMS) -> dict[int, bytes]:
    Base.metadata.create_all(engine)
    made = v3_rows(engine, kms, range(101, 101 + ROWS), rows_per_key=ROWS // BRANCHES)
    deks = {number: dek for number, (dek, _) in made.items()}
    v3 = [File(**row) for _, row in made.values()]
    with Session(engine) as session, session.begin():
        session.add_all([*v3, *(files := [File(id=number) for number in range(1, ROWS + 1)])])
        session.flush()
        for file, dek in zip(files, RowKeys(kms).issue_many(files), strict=True):
            deks[file.id] = bytes(dek)
    return deks


async def ticks(work: Awaitable[Any]) -> tuple[Any, int]:
    """The result, and how often the event loop came round meanwhile."""
    count = 0

    async def tick() -> None:
        nonlocal count
        while True:
            await asyncio.sleep(SLOW_SECONDS / 20)
            count += 1

    ticker = asyncio.create_task(tick())
    try:
        return await work, count
    finally:
        ticker.cancel()
        with suppress(asyncio.CancelledError):
            await ticker


def test_the_event_loop_turns_while_kms_is_slow(stage: Stage) -> None:
    async def main() -> None:
        engine = create_async_engine(stage.url)
        keys = RowKeys(stage.kms)
        stage.kms.seconds = SLOW_SECONDS
        async with AsyncSession(engine) as session:
            for number in (1, 101):  # V2, and V3 with a cold branch key
                file = await session.get_one(File, number)
                dek, turns = await ticks(keys.aread(file))
                assert dek == stage.deks[number]
                assert turns >= 3, f"row {number} blocked the event loop"
            session.add(new := File(id=50))
            await session.flush()
            dek, turns = await ticks(keys.aissue(new))
            assert turns >= 3
            with pytest.raises(RefusedError):
                await keys.aissue(new)
            await session.commit()
            await session.refresh(new)
            assert await keys.aread(new) == dek
        keys.close()
        await engine.dispose()

    asyncio.run(main())


def test_many_rows_at_once_and_many_tasks_on_one_session(stage: Stage) -> None:
    async def main() -> None:
        engine = create_async_engine(stage.url)
        keys = RowKeys(stage.kms)
        async with AsyncSession(engine) as session:
            files = (await session.scalars(sa.select(File).order_by(File.id))).all()
            one_by_one = await asyncio.gather(*(keys.aread(file) for file in files))
            assert dict(zip([f.id for f in files], one_by_one, strict=True)) == stage.deks
            stage.kms.unwraps = 0
            assert await RowKeys(stage.kms).aread_many(files) == one_by_one
            assert stage.kms.unwraps == 2, "one for the branch keys, one for the rows"
            new = [File(id=number) for number in range(60, 70)]
            session.add_all(new)
            await session.flush()
            deks = await keys.aissue_many(new)
            assert await keys.aread_many(new) == deks
            before = await keys.aissue_for(70)  # the INSERT comes later
            assert await keys.aread({"id": 70, **before.columns}) == before.dek
        await engine.dispose()

    asyncio.run(main())


def test_rows_without_a_session_find_their_branch_keys_through_the_engine(stage: Stage) -> None:
    async def main() -> None:
        engine = create_async_engine(stage.url)
        async with engine.connect() as connection:
            rows = (await connection.execute(sa.select(File.__table__))).mappings().all()
        keys = RowKeys(stage.kms, engine=engine)
        assert await keys.aread_many(rows) == [stage.deks[row["id"]] for row in rows]
        await engine.dispose()

    asyncio.run(main())


def test_what_needs_the_database_and_is_not_awaited_says_so(stage: Stage) -> None:
    async def main() -> None:
        engine = create_async_engine(stage.url)
        keys = RowKeys(stage.kms)
        async with AsyncSession(engine) as session:
            file = await session.get_one(File, 101)
            with pytest.raises(UsageError) as caught:
                keys.read(file)
            assert "await keys.aread(row)" in (caught.value.hint or "")
            session.add(new := File(id=51))
            await session.flush()
            with pytest.raises(UsageError):
                keys.issue(new)
            assert await session.run_sync(lambda _: keys.read(file)) == stage.deks[101]
            await session.commit()
            with pytest.raises(UsageError, match="is not loaded"):
                await keys.aread(file)
        await engine.dispose()

    asyncio.run(main())


def row(stage: Stage) -> dict[str, Any]:
    made: dict[str, Any] = {"id": 7}
    stage.deks[7] = bytes(RowKeys(stage.kms).issue(made))
    return made


@pytest.mark.parametrize("stage", ["sqlite+aiosqlite"], indirect=True)
def test_a_thousand_tasks_that_want_one_key_make_one_call(stage: Stage) -> None:
    async def main() -> None:
        keys = RowKeys(stage.kms, cache=KeyCache(max_age=60, max_entries=10), deadline=20)
        wanted = row(stage)
        stage.kms.seconds = 0.1
        found = await asyncio.gather(*(keys.aread(wanted) for _ in range(1000)))
        assert set(found) == {stage.deks[7]}
        assert stage.kms.unwraps == 1

    asyncio.run(main())


@pytest.mark.parametrize("stage", ["sqlite+aiosqlite"], indirect=True)
def test_a_task_that_is_cancelled_does_not_take_the_key_from_others(stage: Stage) -> None:
    async def main() -> None:
        keys = RowKeys(stage.kms, cache=KeyCache(max_age=60, max_entries=10), deadline=20)
        wanted = row(stage)
        stage.kms.go.clear()
        first = asyncio.create_task(keys.aread(wanted))
        while stage.kms.unwraps == 0:
            await asyncio.sleep(0.01)
        second = asyncio.create_task(keys.aread(wanted))
        await asyncio.sleep(0.05)
        first.cancel()
        with suppress(asyncio.CancelledError):
            await first
        stage.kms.go.set()
        assert await asyncio.wait_for(second, 20) == stage.deks[7]

    asyncio.run(main())


@pytest.mark.parametrize("version", ["V2", "V3"])
def test_an_event_loop_that_never_turns_again_takes_the_key_from_nobody(
    version: str, sqlite_database: AppDatabase
) -> None:
    """Whoever waited for its task is told so within the deadline; the next one asks itself."""
    kms, engine = SlowKMS(), sa.create_engine(sqlite_database.url)
    cache = KeyCache(max_age=60, max_entries=10)
    keys = RowKeys(kms, engine=engine, cache=cache, deadline=0.5)
    made = v3_rows(engine, kms, [1], rows_per_key=1)[1]
    if version == "V2":
        made = keys.issue(file := {"id": 1}), file
    kms.go.clear()
    loop = asyncio.new_event_loop()
    task = loop.create_task(keys.aread(made[1]))
    while not kms.unwraps:
        loop.run_until_complete(asyncio.sleep(0.01))
    with pytest.raises(KMSUnavailableError, match="another reader"):
        keys.read(made[1])
    kms.go.set()
    assert keys.read(made[1]) == made[0]
    assert loop.run_until_complete(task) == made[0]
    loop.close()
    keys.close()
    engine.dispose()


@pytest.mark.parametrize("stage", ["sqlite+aiosqlite"], indirect=True)
def test_an_error_that_a_task_sees_leaves_no_key_in_its_frames(stage: Stage) -> None:
    async def main() -> None:
        keys = RowKeys(stage.kms)
        rows = [row(stage), {**row(stage), "id": 8}]
        deks = [stage.deks[7]]
        with pytest.raises(RowRejectedError) as damaged:
            await keys.aread(rows[1])
        stage.kms.refuses = True
        with pytest.raises(KMSRefusedError) as refused:
            await keys.aread_many(rows)
        for caught in (damaged, refused):
            assert_frames_hide(caught.value, deks, __file__)

    asyncio.run(main())
