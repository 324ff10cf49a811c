"""The library while KMS is away, slow, throttling or refusing: short waits, and at once as before.

Times are compared with what would be many times as long, as the machine may be busy.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import CredentialRetrievalError
from botocore.session import Session

from dekctl.errors import (
    KMSError,
    KMSRefusedError,
    KMSUnavailableError,
    RefusedError,
    RowRejectedError,
)
from dekctl.kms import AWSKMS
from dekctl.kms.aws.transport import TransportKind
from dekctl.reader import KeyCache, KMSCall, RowKeys
from dekctl.reader.patience import FAILURES
from support.frames import assert_frames_hide
from support.kms_standin import CUT_BEFORE, Fault, KmsStandin

DEADLINE = 0.5
AT_ONCE = DEADLINE / 2
PATIENCE = 20.0
OLD = b"O" * 32

Row = dict[str, Any]


@pytest.fixture(params=["boto3", "curl"])
def kms(
    request: pytest.FixtureRequest, environ: dict[str, str], kms_standin: KmsStandin
) -> Iterator[AWSKMS]:
    if request.param == "curl":
        pytest.importorskip("pycurl")
    made = AWSKMS(kms_standin.create_key(), transport=request.param)
    made.wrap(bytes(32))  # the first call makes the connection, and takes longer
    yield made
    made.close()


def rows(kms: AWSKMS, count: int) -> list[Row]:
    """Rows with keys, made by a reader that has time."""
    made: list[Row] = [{"id": number} for number in range(count)]
    RowKeys(kms, deadline=PATIENCE).issue_many(made)
    return made


def outcome(read: Callable[[], bytes]) -> tuple[str, float]:
    """How a read ended, and after how many seconds."""
    began = time.monotonic()
    try:
        read()
    except KMSError as error:
        return type(error).__name__, time.monotonic() - began
    return "ok", time.monotonic() - began


def wait_until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_an_outage_is_told_at_once_and_its_end_is_noticed(
    kms: AWSKMS, kms_standin: KmsStandin
) -> None:
    keys = RowKeys(kms, deadline=DEADLINE)
    [row] = rows(kms, 1)
    kms_standin.set_faults(Fault(CUT_BEFORE), seed=1)
    for _ in range(FAILURES):
        assert outcome(lambda: keys.read(row))[0] == "KMSUnavailableError"
    assert keys.stats().kms_away
    many = [outcome(lambda: keys.read(row)) for _ in range(100)]
    assert {name for name, _ in many} == {"KMSUnavailableError"}
    slow = [seconds for _, seconds in many if seconds > AT_ONCE]
    assert len(slow) <= 2, "one probe at a time, and nobody else waits"
    assert keys.read({**row, "wrapped_key": None, "encryption_key": OLD}) == OLD

    kms_standin.clear_faults()
    wait_until(lambda: outcome(lambda: keys.read(row))[0] == "ok")
    assert not keys.stats().kms_away
    assert [outcome(lambda: keys.read(row))[0] for _ in range(20)] == ["ok"] * 20


def test_readers_who_come_together_in_an_outage_leave_together(
    kms: AWSKMS, kms_standin: KmsStandin
) -> None:
    keys = RowKeys(kms, deadline=DEADLINE)
    wanted = rows(kms, 8)
    kms_standin.set_latency(60.0)
    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(lambda row: outcome(lambda: keys.read(row)), wanted))
    assert {name for name, _ in ends} == {"KMSUnavailableError"}
    assert max(seconds for _, seconds in ends) < 4 * DEADLINE, "not one after the other"


def test_throttling_ends_with_an_error_and_then_at_once(
    kms: AWSKMS, kms_standin: KmsStandin
) -> None:
    keys = RowKeys(kms, deadline=4 * DEADLINE)  # KMS must have answered, also on a busy machine
    [row] = rows(kms, 1)
    kms_standin.set_faults(Fault("ThrottlingException"), seed=1)
    for _ in range(FAILURES + 1):
        name, seconds = outcome(lambda: keys.read(row))
        assert name == "KMSUnavailableError"
        assert seconds < PATIENCE, "a migration retries for minutes"
    assert not keys.stats().kms_away, "it answers"
    assert keys.stats().errors["ThrottlingException"] == FAILURES + 1


def test_a_cache_serves_through_an_outage_and_never_after_a_refusal(
    kms: AWSKMS, kms_standin: KmsStandin
) -> None:
    cache = KeyCache(max_age=0.2, max_entries=10, stale_if_unavailable=PATIENCE)
    keys = RowKeys(kms, deadline=DEADLINE, cache=cache)
    row, other, never_read = rows(kms, 3)
    dek = keys.read(row)
    keys.read(other)
    kms_standin.reset_counters()
    assert {keys.read(row) for _ in range(5)} == {dek}
    time.sleep(0.2)
    kms_standin.set_faults(Fault(CUT_BEFORE), seed=1)
    for _ in range(20):
        assert keys.read(row) == dek
    assert keys.stats().reads["stale"] >= 20
    assert outcome(lambda: keys.read(never_read))[0] == "KMSUnavailableError"

    kms_standin.clear_faults()
    kms_standin.kms().disable_key(KeyId=kms.key_id)
    wait_until(lambda: outcome(lambda: keys.read(row))[0] == "KMSRefusedError")
    kms_standin.set_faults(Fault(CUT_BEFORE), seed=1)
    wait_until(lambda: outcome(lambda: keys.read(row))[0] == "KMSUnavailableError")
    # Nor is any other key of that KEK, though nobody asked for it since.
    assert outcome(lambda: keys.read(other))[0] == "KMSUnavailableError"


@pytest.mark.parametrize("transport", ["boto3", "curl"])
def test_a_cache_serves_while_the_source_of_credentials_does_not_answer(
    environ: dict[str, str], kms_standin: KmsStandin, transport: TransportKind
) -> None:
    if transport == "curl":
        pytest.importorskip("pycurl")

    def refresh() -> dict[str, str]:
        raise CredentialRetrievalError(provider="test", error_msg="the metadata service is away")

    first = {
        "access_key": environ["AWS_ACCESS_KEY_ID"],
        "secret_key": environ["AWS_SECRET_ACCESS_KEY"],
        "token": None,
        "expiry_time": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
    }
    session: Any = Session()
    session._credentials = RefreshableCredentials.create_from_metadata(first, refresh, "test")
    kms = AWSKMS(
        kms_standin.create_key(),
        transport=transport,
        session=boto3.Session(botocore_session=session),
    )
    cache = KeyCache(max_age=0.2, max_entries=1000, stale_if_unavailable=PATIENCE)
    keys = RowKeys(kms, deadline=PATIENCE, cache=cache)
    row, *others = rows(kms, 200)
    never_read = iter(others)
    dek = keys.read(row)
    session._credentials._expiry_time = datetime.now(UTC) - timedelta(seconds=1)
    wait_until(lambda: outcome(lambda: keys.read(next(never_read)))[0] == "KMSUnavailableError")
    time.sleep(0.2)
    assert keys.read(row) == dek
    assert keys.stats().reads["stale"] == 1
    kms.close()


def test_what_was_disabled_is_read_no_longer_than_the_cache_is_told(
    kms: AWSKMS, kms_standin: KmsStandin
) -> None:
    keys = RowKeys(kms, cache=KeyCache(max_age=1.0, max_entries=10, max_uses=3))
    [row] = rows(kms, 1)
    first = time.monotonic()
    keys.read(row)
    kms_standin.kms().disable_key(KeyId=kms.key_id)
    wait_until(lambda: outcome(lambda: keys.read(row))[0] == "KMSRefusedError")
    assert time.monotonic() < first + PATIENCE
    with pytest.raises(KMSRefusedError) as refused:
        keys.read(row)
    assert refused.value.code == "DisabledException"
    assert keys.stats().reads["cache"] <= 2


def test_one_kek_that_is_refused_does_not_keep_the_rows_of_others(
    kms: AWSKMS, kms_standin: KmsStandin
) -> None:
    closed = kms_standin.create_key()
    keys = RowKeys(kms, keks=[kms.key_id, closed])
    good = rows(kms, 2)
    other = AWSKMS(closed)
    bad = rows(other, 1)
    other.close()
    kms_standin.kms().disable_key(KeyId=closed)
    found = keys.read_many([good[0], bad[0], good[1]])
    assert isinstance(found[1], RowRejectedError)
    assert found[1].code == "DisabledException"
    assert all(isinstance(found[i], bytes) for i in (0, 2))
    with pytest.raises(KMSRefusedError):
        keys.read(bad[0])


def test_calls_are_counted_and_told_to_the_hook(kms: AWSKMS, kms_standin: KmsStandin) -> None:
    told: list[KMSCall] = []
    keys = RowKeys(kms, deadline=4 * DEADLINE, on_call=told.append)
    wanted: list[Row] = [{"id": number} for number in range(3)]
    keys.issue_many(wanted)
    keys.read_many(wanted)
    assert keys.ping() > 0
    assert [(call.operation, call.keys, call.error) for call in told] == [
        ("generate", 3, None),
        ("unwrap", 3, None),
        ("generate", 1, None),
    ]
    kms_standin.set_faults(Fault(CUT_BEFORE), seed=1)
    with pytest.raises(KMSUnavailableError) as caught:
        keys.ping()
    assert "same command" not in (caught.value.hint or "")
    assert told[-1].error == "KMSUnavailableError"
    stats = keys.stats()
    assert (stats.reads["kms"], stats.issued) == (3, 3)
    assert stats.calls["GenerateDataKey"] >= 5
    assert stats.errors == {"KMSUnavailableError": 1}
    assert stats.seconds >= sum(call.seconds for call in told) * 0.99


def test_no_frame_of_an_error_holds_a_key(kms: AWSKMS, kms_standin: KmsStandin) -> None:
    keys = RowKeys(kms, deadline=DEADLINE)
    one, two = rows(kms, 2)
    deks = [bytes(keys.read(one)), bytes(keys.read(two)), OLD]
    mixed = [one, {**one, "id": 77}, {**two, "kek_id": "alias/none"}]
    failures: list[BaseException] = []
    refused: list[Callable[[], object]] = [
        lambda: keys.read({**one, "id": 77}),
        lambda: keys.read({**one, "wrapped_key": None, "encryption_key": OLD + b"1"}),
        lambda: keys.issue({**one}),
    ]
    for call in refused:
        with pytest.raises((RowRejectedError, RefusedError)) as caught:
            call()
        failures.append(caught.value)
    kms_standin.set_faults(Fault("KMSInternalException"), seed=1)
    away: list[Callable[[], object]] = [
        lambda: keys.read_many(mixed),
        lambda: keys.issue({"id": 5}),
        keys.ping,
    ]
    for call in away:
        with pytest.raises(KMSUnavailableError) as unavailable:
            call()
        failures.append(unavailable.value)
    for failure in failures:
        assert_frames_hide(failure, deks, __file__)


def test_an_exception_of_the_application_keeps_its_frames(kms: AWSKMS) -> None:
    keys = RowKeys(kms)
    [row] = rows(kms, 1)

    def application() -> None:
        local = "for the application's own report"
        raise ValueError(local)

    try:
        application()
    except ValueError as own:
        with pytest.raises(RowRejectedError):
            keys.read({**row, "id": 2})
        frame = own.__traceback__
        assert frame is not None
        assert frame.tb_next is not None
        assert "local" in frame.tb_next.tb_frame.f_locals


def test_the_reader_is_used_by_many_threads(kms: AWSKMS) -> None:
    keys = RowKeys(kms, deadline=PATIENCE, cache=KeyCache(max_age=PATIENCE, max_entries=100))
    wanted = rows(kms, 20)
    deks = keys.read_many(wanted)
    start = threading.Barrier(8)

    def work(_: int) -> bool:
        start.wait()
        return all(keys.read(row) == dek for row, dek in zip(wanted, deks, strict=True))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert keys.stats().reads["cache"] == 8 * 20
    keys.close()
    assert keys.stats().data_keys == 0


def test_an_alias_is_looked_up_when_a_row_names_a_kek_that_is_not_known(
    environ: dict[str, str], kms_standin: KmsStandin
) -> None:
    """As where no Terraform outputs name the ARNs."""
    alias = f"alias/app-{time.monotonic_ns()}"
    arn = kms_standin.create_key(alias)
    kms, foreign = AWSKMS(alias), kms_standin.create_key()
    [row] = rows(AWSKMS(arn), 1)
    other = AWSKMS(foreign)
    [planted] = rows(other, 1)
    keys = RowKeys(kms, deadline=PATIENCE)
    kms_standin.reset_counters()
    assert keys.read(row) == keys.read(row)
    for _ in range(5):
        with pytest.raises(RowRejectedError, match="not among"):
            keys.read(planted)
    calls = kms_standin.counters().calls
    assert calls["Decrypt"] == 2, "a KEK that is not ours is not even asked to decrypt"
    assert calls["DescribeKey"] <= 1 + 5

    kms_standin.kms().update_alias(AliasName=alias, TargetKeyId=foreign)  # the KEK was rolled
    wait_until(lambda: outcome(lambda: keys.read(planted))[0] == "ok")
    assert outcome(lambda: keys.read(row))[0] == "ok", "known since before"
    for each in (kms, other):
        each.close()
