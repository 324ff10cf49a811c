"""No lock is held across I/O: readers wait for the same key together, and for others not at all."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from dekctl.branch_keys.table import branch_keys_table
from dekctl.errors import KMSRefusedError, KMSUnavailableError, RowRejectedError
from dekctl.kms import InMemoryKMS
from dekctl.kms.branch.keys import BranchKeys
from dekctl.kms.context import branch_context, row_context
from dekctl.kms.interface import UnwrapRequest, Wrapped, WrapRequest
from dekctl.reader import KeyCache, RowKeys
from support.app import AppDatabase
from support.v3_rows import CONTEXT_NAME, branch_store, v3_rows

WAIT = 20.0
ROWS = 4

Rows = dict[int, tuple[bytes, dict[str, Any]]]


class Base(DeclarativeBase):
    pass


class File(Base):
    __tablename__ = "encrypted_files"
    id: Mapped[int] = sa.orm.mapped_column(primary_key=True)
    encryption_key: Mapped[bytes | None]
    wrapped_key: Mapped[bytes | None]
    wrapped_key_version: Mapped[str | None]
    kek_id: Mapped[str | None]


class WatchedKMS(InMemoryKMS):
    """Counts, and lets a test decide when it answers, and what."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Callable[[list[UnwrapRequest]], None] = lambda _: None
        self.unwraps = 0

    def unwrap_many(self, requests: Any) -> Any:
        self.unwraps += 1
        self.before(requests)
        return super().unwrap_many(requests)


@pytest.fixture
def kms() -> WatchedKMS:
    return WatchedKMS()


@pytest.fixture
def engine(sqlite_database: AppDatabase) -> Iterator[sa.Engine]:
    """A database with one connection for everybody."""
    made = sa.create_engine(sqlite_database.url, pool_size=1, max_overflow=0, pool_timeout=WAIT)
    Base.metadata.create_all(made)
    yield made
    made.dispose()


@pytest.fixture
def rows(engine: sa.Engine, kms: WatchedKMS) -> Rows:
    """Each under a branch key of its own."""
    made = v3_rows(engine, kms, range(1, ROWS + 1), rows_per_key=1)
    with Session(engine) as session, session.begin():
        session.add_all([File(**row) for _, row in made.values()])
    return made


def test_cold_branch_keys_are_opened_side_by_side(
    engine: sa.Engine, kms: WatchedKMS, rows: Rows
) -> None:
    keys, all_inside = RowKeys(kms, engine=engine, deadline=WAIT), threading.Barrier(ROWS)

    def wait_for_all(_: Any) -> None:
        all_inside.wait(WAIT)

    kms.before = wait_for_all
    with ThreadPoolExecutor(ROWS) as pool:
        found = list(pool.map(lambda entry: keys.read(entry[1]), rows.values()))
    assert found == [dek for dek, _ in rows.values()]

    keys, kms.unwraps, kms.before = RowKeys(kms, engine=engine), 0, lambda _: None
    assert keys.read_many([row for _, row in rows.values()]) == found
    assert kms.unwraps == 1, "a batch asks for all of them at once"


def test_a_branch_key_that_is_denied_delays_no_other_and_is_not_asked_for_again_at_once(
    engine: sa.Engine, kms: WatchedKMS, rows: Rows
) -> None:
    keys, answer, inside = RowKeys(kms, engine=engine, deadline=WAIT), threading.Event(), []
    denied = rows[1][1]["wrapped_key"][1:17].hex()

    def deny(requests: list[UnwrapRequest]) -> None:
        if any((request.context or {}).get("dekctl:branch") == denied for request in requests):
            inside.append(1)
            assert answer.wait(WAIT)
            raise KMSRefusedError("no", code="AccessDeniedException")

    kms.before = deny
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(keys.read, rows[1][1]) for _ in range(3)]
        while not inside:
            threading.Event().wait(0.01)
        assert pool.submit(keys.read, rows[2][1]).result(WAIT) == rows[2][0]
        answer.set()
        for each in waiting:
            with pytest.raises(KMSRefusedError):
                each.result(WAIT)
    for _ in range(3):
        with pytest.raises(KMSRefusedError):
            keys.read(rows[1][1])
    assert len(inside) <= 2, "those who wait share the refusal, and it is remembered for a moment"


def test_a_branch_key_of_another_size_is_an_error_of_its_own_rows(
    engine: sa.Engine, kms: WatchedKMS, rows: Rows
) -> None:
    """Whoever may encrypt under the KEK can store one; commands and library answer alike."""
    blob = rows[2][1]["wrapped_key"]
    context = branch_context(CONTEXT_NAME, blob[1:17].hex())
    [wrapped] = kms.wrap_many([WrapRequest(bytes(31), context)])
    assert isinstance(wrapped, Wrapped)
    with engine.begin() as connection:
        table = branch_keys_table(None)
        where = table.c.branch_id == blob[1:17].hex()
        connection.execute(table.update().where(where).values(wrapped=wrapped.blob))
    found = RowKeys(kms, engine=engine).read_many([row for _, row in rows.values()])
    requests = [
        UnwrapRequest(row["wrapped_key"], row["kek_id"], row_context(CONTEXT_NAME, (number,)))
        for number, (_, row) in rows.items()
    ]
    opened = BranchKeys(kms, branch_store(engine)).unwrap_many(requests)
    for answers in (found, opened):
        assert "is damaged: what is stored is no wrapped branch key" in str(answers[1])
        assert [isinstance(each, RowRejectedError) for each in answers] == [
            number == 2 for number in rows
        ]


def test_who_waits_for_a_connection_keeps_nobody_from_a_key(
    engine: sa.Engine, kms: WatchedKMS, rows: Rows
) -> None:
    """With one connection in the pool: its owner must not wait for who waits for it."""
    keys = RowKeys(kms, engine=engine, deadline=WAIT)
    with Session(engine) as session, ThreadPoolExecutor(1) as pool:
        file = session.get_one(File, 1)  # the session has the connection now
        other = pool.submit(keys.read, rows[1][1])  # needs the same branch key, and a connection
        threading.Event().wait(0.2)
        assert not other.done()
        assert keys.read(file) == rows[1][0]
        session.close()
        assert other.result(WAIT) == rows[1][0]


def test_a_v3_branch_key_obeys_the_cache(engine: sa.Engine, kms: WatchedKMS, rows: Rows) -> None:
    row = rows[1][1]
    keys = RowKeys(kms, engine=engine, cache=KeyCache(max_age=WAIT, max_entries=10, max_uses=2))
    for _ in range(6):
        keys.read(row)
    assert kms.unwraps == 3

    def away(_: Any) -> None:
        raise KMSUnavailableError("away")

    for stale, works in ((WAIT, True), (0.0, False)):
        cache = KeyCache(max_age=0.05, max_entries=10, stale_if_unavailable=stale)
        keys, kms.before = RowKeys(kms, engine=engine, cache=cache), lambda _: None
        assert keys.read(row) == rows[1][0]
        kms.before = away
        threading.Event().wait(0.06)
        if works:
            assert keys.read(row) == rows[1][0]
            assert keys.stats().reads["stale"] == 1
        else:
            with pytest.raises(KMSUnavailableError):
                keys.read(row)

    def refuse(_: Any) -> None:
        raise KMSRefusedError("disabled", code="DisabledException")

    cache = KeyCache(max_age=0.05, max_entries=10, stale_if_unavailable=WAIT)
    keys, kms.before = RowKeys(kms, engine=engine, cache=cache), lambda _: None
    keys.read(row)
    threading.Event().wait(0.06)
    for kms.before in (refuse, away):
        with pytest.raises((KMSRefusedError, KMSUnavailableError)):
            keys.read(row)


def test_an_entry_is_bound_to_blob_kek_and_row(kms: WatchedKMS) -> None:
    keys = RowKeys(kms, cache=KeyCache(max_age=WAIT, max_entries=10))
    one: dict[str, Any] = {"id": 1}
    dek = keys.issue(one)
    assert keys.read(one) == keys.read(one) == dek
    assert kms.unwraps == 1
    with pytest.raises(RowRejectedError):
        keys.read({**one, "id": 2})
    with pytest.raises(RowRejectedError):
        keys.read({**one, "kek_id": "memory:other"})
    rekeyed: dict[str, Any] = {"id": 1}
    new = keys.issue(rekeyed)
    assert keys.read(rekeyed) == new != dek


def test_a_version_that_is_not_known_is_not_served_from_the_cache(kms: WatchedKMS) -> None:
    keys = RowKeys(kms, cache=KeyCache(max_age=WAIT, max_entries=10))
    row = {"id": 1, "wrapped_key": kms.wrap(bytes(32)), "kek_id": None}
    assert keys.read({**row, "wrapped_key_version": "V1"}) == bytes(32)
    with pytest.raises(RowRejectedError, match="unknown wrapped_key_version"):
        keys.read({**row, "wrapped_key_version": "V9"})


@pytest.mark.parametrize("refused_first", ["V2", "V3"])
def test_a_kek_that_is_refused_for_one_version_serves_no_old_key_of_another(
    engine: sa.Engine, kms: WatchedKMS, rows: Rows, refused_first: str
) -> None:
    cache = KeyCache(max_age=0.05, max_entries=10, stale_if_unavailable=WAIT)
    keys = RowKeys(kms, engine=engine, cache=cache)
    by_version: dict[str, dict[str, Any]] = {"V2": {"id": 9}, "V3": rows[1][1]}
    keys.issue(by_version["V2"])
    keys.read_many(by_version.values())
    other = {"V2": "V3", "V3": "V2"}[refused_first]

    def refuse(_: Any) -> None:
        raise KMSRefusedError("disabled", code="DisabledException")

    def away(_: Any) -> None:
        raise KMSUnavailableError("away")

    threading.Event().wait(0.06)
    kms.before = refuse
    with pytest.raises(KMSRefusedError):
        keys.read(by_version[refused_first])
    kms.before = away
    with pytest.raises(KMSUnavailableError):
        keys.read(by_version[other])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
def test_a_worker_that_is_forked_while_the_parent_reads_reads_for_itself(kms: WatchedKMS) -> None:
    """Whatever a thread of the parent holds or waits for, as under gunicorn with preload."""
    keys = RowKeys(kms, cache=KeyCache(max_age=WAIT, max_entries=10), deadline=WAIT)
    row: dict[str, Any] = {"id": 1}
    dek = keys.issue(row)
    inside, go = threading.Event(), threading.Event()

    def hold(_: Any) -> None:
        inside.set()
        assert go.wait(WAIT)

    kms.before = hold
    reader = threading.Thread(target=keys.read, args=(row,))
    reader.start()
    assert inside.wait(WAIT)
    locks = (keys._deks._lock, keys._patience._lock, keys._patience.breaker._lock)  # type: ignore[union-attr]  # there is a cache
    for lock in locks:
        lock.acquire()
    child = os.fork()
    if child == 0:  # no exception may lead it back into pytest
        try:
            kms.before = lambda _: None
            os._exit(0 if keys.read(row) == dek and asyncio.run(keys.aread(row)) == dek else 1)
        except BaseException:
            os._exit(2)
    for lock in locks:
        lock.release()
    go.set()
    reader.join(WAIT)
    assert ended(child) == 0
    assert keys.read(row) == dek


def ended(child: int) -> int | str:
    """The exit code of a child, or that it hung and was killed."""
    for _ in range(int(WAIT / 0.05)):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        threading.Event().wait(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hung"
